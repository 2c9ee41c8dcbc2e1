#include "chapters/10_tensor_parallel/rank_model.hpp"

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/04_latent_cache/decompressed_attention.hpp"
#include "chapters/10_tensor_parallel/exchanged_experts.hpp"
#include "chapters/10_tensor_parallel/gathered.hpp"
#include "chapters/10_tensor_parallel/reduced.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"
#include "chapters/models/layer_parts.hpp"
#include "common/model/layer_stack.hpp"

namespace kv {
namespace {

/// The halves of a layer on one rank.
struct Halves {
  std::unique_ptr<Attention> attention;
  std::shared_ptr<const FeedForward> feed_forward;
};

// [outputs]
Halves cut_outputs(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits,
                   Communicator& line) {
  auto heads = std::make_shared<GatheredHeads>(checkpoint, layer.attention, line);
  std::shared_ptr<const FeedForward> other;
  if (const auto* dense = std::get_if<SwiGluTensors>(&layer.feed_forward))
    other = std::make_shared<GatheredFeedForward>(checkpoint, *dense, line);
  if (const auto* mixture = std::get_if<MixtureTensors>(&layer.feed_forward))
    other = std::make_shared<GatheredMixture>(checkpoint, *mixture, line);
  return {std::make_unique<PreallocatedAttention>(std::move(heads), limits), std::move(other)};
}
// [outputs]

// [sums]
/// Latents are kept as they are: absorbed, as engines do, since no bit is to be saved here.
Halves cut_sums(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line) {
  const AttentionTensors own = summand(layer.attention, line.ranks(), line.rank());
  std::unique_ptr<Attention> attention;
  if (const auto* latent = std::get_if<LatentTensors>(&own))
    attention = std::make_unique<AbsorbedAttention>(latent_projection(checkpoint, *latent), Absorption(latent->latent_up, latent->sizes), limits);
  else
    attention = std::make_unique<PreallocatedAttention>(head_projection(checkpoint, own), limits);
  auto other = feed_forward_from(checkpoint, summand(layer.feed_forward, line.ranks(), line.rank()));
  return {std::make_unique<ReducedAttention>(std::move(attention), line), std::make_shared<ReducedFeedForward>(std::move(other), line)};
}
// [sums]

// [experts]
/// Attention is whole, for this rank's sequences; latents are expanded at every step, the form with chapter 1's bits.
Halves cut_experts(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line) {
  std::unique_ptr<Attention> attention;
  if (const auto* latent = std::get_if<LatentTensors>(&layer.attention))
    attention = std::make_unique<DecompressedAttention>(latent_projection(checkpoint, *latent), limits);
  else
    attention = std::make_unique<PreallocatedAttention>(head_projection(checkpoint, layer.attention), limits);
  const auto* const mixture = std::get_if<MixtureTensors>(&layer.feed_forward);
  if (!mixture) return {std::move(attention), feed_forward_from(checkpoint, layer.feed_forward)};
  return {std::move(attention), std::make_shared<ExchangedExperts>(mixture_parts(checkpoint, *mixture), line)};
}
// [experts]

/// @param head the output matrix, or this rank's rows of it
LayerStack stack(Cut cut, const Checkpoint& checkpoint, ModelTensors& tensors, const MatrixView& head, const Limits& limits, Communicator& line) {
  const auto make_halves = cut == Cut::outputs ? cut_outputs : cut == Cut::sums ? cut_sums : cut_experts;
  LayerStackParts parts{.embedding = tensors.embedding,
                        .embedding_owner = std::make_shared<Checkpoint>(checkpoint),
                        .layers = {},
                        .final_norm = std::move(tensors.final_norm),
                        .head = checkpoint.pack(head),
                        .norm_epsilon = tensors.norm_epsilon};
  for (LayerTensors& layer : tensors.layers) {
    Halves halves = make_halves(checkpoint, layer, limits, line);
    parts.layers.push_back({std::move(layer.attention_norm), std::move(halves.attention), std::move(layer.feed_forward_norm),
                            std::move(halves.feed_forward)});
  }
  return LayerStack(std::move(parts));
}

/// All tokens on every rank; of the logits each has some columns, which are gathered.
class SplitVocabulary : public Transformer {
 public:
  SplitVocabulary(LayerStack stack, std::vector<Slice> slices, Communicator& line)
      : stack_(std::move(stack)), slices_(std::move(slices)), line_(line) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    return gather_columns(line_, stack_.logits(tokens, batch, wanted), slices_);
  }
  index_t length(index_t sequence) const override { return stack_.length(sequence); }
  index_t truncate(index_t sequence, index_t length) override { return stack_.truncate(sequence, length); }
  index_t share(index_t from, index_t to, index_t length) override { return stack_.share(from, to, length); }
  void prompt_ends(index_t sequence) override { stack_.prompt_ends(sequence); }
  index_t vocabulary() const override { return slices_.back().end(); }
  StateBytes state_bytes() const override { return stack_.state_bytes(); }

 private:
  LayerStack stack_;
  std::vector<Slice> slices_;  // of the vocabulary
  Communicator& line_;
};

/// Sequence s is on rank s mod p, all of it and nowhere else. Its logits are sent to rank 0.
class SplitSequences : public Transformer {
 public:
  SplitSequences(LayerStack stack, Communicator& line) : stack_(std::move(stack)), line_(line) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override;
  index_t length(index_t sequence) const override { return is_own(sequence) ? stack_.length(local(sequence)) : 0; }
  index_t truncate(index_t sequence, index_t length) override {
    return is_own(sequence) ? stack_.truncate(local(sequence), length) : 0;
  }
  index_t share(index_t, index_t to, index_t) override { return truncate(to, 0); }
  void prompt_ends(index_t sequence) override {
    if (is_own(sequence)) stack_.prompt_ends(local(sequence));
  }
  index_t vocabulary() const override { return stack_.vocabulary(); }
  StateBytes state_bytes() const override { return stack_.state_bytes(); }

 private:
  index_t owner(index_t sequence) const { return sequence % line_.ranks(); }
  index_t local(index_t sequence) const { return sequence / line_.ranks(); }
  bool is_own(index_t sequence) const { return owner(sequence) == line_.rank(); }

  LayerStack stack_;
  Communicator& line_;
};

// [sequences]
Tensor<2> SplitSequences::logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) {
  std::vector<Token> own_tokens;
  Batch own_batch;
  std::vector<index_t> owners(tokens.size()), own_rows(tokens.size()), own_wanted;  // of each row: whose, and where there
  for (Segment segment : batch) {
    std::fill_n(owners.begin() + static_cast<std::ptrdiff_t>(segment.first_row), segment.rows, owner(segment.sequence));
    if (!is_own(segment.sequence)) continue;
    for (index_t t = segment.first_row; t < segment.first_row + segment.rows; ++t) {
      own_rows[t] = own_tokens.size();
      own_tokens.push_back(tokens[t]);
    }
    own_batch.push_back({local(segment.sequence), own_rows[segment.first_row], segment.rows, segment.position, segment.tokens});
  }
  for (const index_t t : wanted)
    if (owners[t] == line_.rank()) own_wanted.push_back(own_rows[t]);
  const Tensor<2> own = stack_.logits(own_tokens, own_batch, own_wanted);

  std::vector<std::vector<float>> to_rank_0(line_.ranks());
  to_rank_0[0].assign(own.begin(), own.end());
  const std::vector<std::vector<float>> received = line_.all_to_all(to_rank_0);
  if (line_.rank() != 0) return own;
  Tensor<2> all = empty<2>({wanted.size(), vocabulary()});
  std::vector<index_t> next(line_.ranks());
  for (index_t i = 0; i < wanted.size(); ++i)
    std::copy_n(received[owners[wanted[i]]].data() + vocabulary() * next[owners[wanted[i]]]++, vocabulary(), row(all, i).data());
  return all;
}
// [sequences]

}  // namespace

std::unique_ptr<Transformer> make_rank_model(Cut cut, const Checkpoint& checkpoint, const Limits& limits, Communicator& line) {
  ModelTensors tensors = model_tensors(checkpoint);
  const MatrixView head = tensors.head;
  const index_t p = line.ranks(), r = line.rank();
  if (cut == Cut::experts) {
    const Limits own{.sequences = limits.sequences / p + (r < limits.sequences % p ? 1 : 0), .capacity = limits.capacity};
    return std::make_unique<SplitSequences>(stack(cut, checkpoint, tensors, head, own, line), line);
  }
  const std::vector<Slice> slices = split_rows(head, p);
  return std::make_unique<SplitVocabulary>(
      stack(cut, checkpoint, tensors, head.row_slice(slices[r].first, slices[r].count), limits, line), slices, line);
}

}  // namespace kv
