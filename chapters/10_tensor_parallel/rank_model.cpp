#include "chapters/10_tensor_parallel/rank_model.hpp"

#include "chapters/10_tensor_parallel/exchanged_experts.hpp"
#include "chapters/10_tensor_parallel/gathered.hpp"
#include "chapters/10_tensor_parallel/reduced.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {
namespace {

/// All tokens on every rank; of the logits each has some columns, which are gathered.
class SplitVocabulary : public LayerStack {
 public:
  SplitVocabulary(LayerStack stack, std::vector<Slice> slices, Communicator& line)
      : LayerStack(std::move(stack)), slices_(std::move(slices)), line_(line) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    return gather_columns(line_, LayerStack::logits(tokens, batch, wanted), slices_);
  }
  index_t vocabulary() const override { return slices_.back().end(); }

 private:
  std::vector<Slice> slices_;  // of the vocabulary
  Communicator& line_;
};

/// Sequence s is on rank s mod p, all of it and nowhere else. Its logits are sent to rank 0.
class SplitSequences : public LayerStack {
 public:
  SplitSequences(LayerStack stack, Communicator& line) : LayerStack(std::move(stack)), line_(line) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override;
  index_t length(index_t sequence) const override { return is_own(sequence) ? LayerStack::length(local(sequence)) : 0; }
  index_t truncate(index_t sequence, index_t length) override {
    return is_own(sequence) ? LayerStack::truncate(local(sequence), length) : 0;
  }
  index_t share(index_t, index_t to, index_t) override { return truncate(to, 0); }

 private:
  index_t owner(index_t sequence) const { return sequence % line_.ranks(); }
  index_t local(index_t sequence) const { return sequence / line_.ranks(); }
  bool is_own(index_t sequence) const { return owner(sequence) == line_.rank(); }

  Communicator& line_;
};

Tensor<2> SplitSequences::logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) {
  std::vector<Token> own_tokens;
  Batch own_batch;
  std::vector<index_t> owners(tokens.size()), own_rows(tokens.size()), own_wanted;  // of each row: whose, and where there
  for (Segment segment : batch) {
    const index_t first = segment.first_row;
    std::fill_n(owners.begin() + static_cast<std::ptrdiff_t>(first), segment.rows, owner(segment.sequence));
    if (!is_own(segment.sequence)) continue;
    segment.sequence = local(segment.sequence);
    segment.first_row = own_tokens.size();
    own_batch.push_back(segment);
    for (index_t t = first; t < first + segment.rows; ++t) {
      own_rows[t] = own_tokens.size();
      own_tokens.push_back(tokens[t]);
    }
  }
  for (const index_t t : wanted)
    if (owners[t] == line_.rank()) own_wanted.push_back(own_rows[t]);
  const Tensor<2> own = LayerStack::logits(own_tokens, own_batch, own_wanted);

  std::vector<std::vector<float>> to_rank_0(line_.ranks());
  to_rank_0[0].assign(own.begin(), own.end());
  const std::vector<std::vector<float>> received = line_.all_to_all(to_rank_0);
  if (line_.rank() != 0) return own;
  Tensor<2> all = empty<2>({wanted.size(), vocabulary()});
  std::vector<index_t> next(line_.ranks());
  for (index_t i = 0; i < wanted.size(); ++i) {
    const index_t r = owners[wanted[i]];
    std::ranges::copy(std::span(received[r]).subspan(next[r], vocabulary()), row(all, i).begin());
    next[r] += vocabulary();
  }
  return all;
}

}  // namespace

std::unique_ptr<Transformer> make_rank_model(Cut cut, const Checkpoint& checkpoint, const Limits& limits, Communicator& line) {
  ModelTensors tensors = model_tensors(checkpoint);
  const auto stack = [&](auto make_layer, const Limits& own) {
    return make_stack(checkpoint, tensors, [&](index_t layer) { return make_layer(checkpoint, tensors.layers[layer], own, line); });
  };
  if (cut == Cut::experts) {
    const Limits own{.sequences = split(limits.sequences, line.ranks())[line.rank()].count, .capacity = limits.capacity};
    return std::make_unique<SplitSequences>(stack(exchanged_layer, own), line);
  }
  const std::vector<Slice> slices = split_rows(tensors.head, line.ranks());
  tensors.head = row_slice(tensors.head, slices[line.rank()]).weight;
  return std::make_unique<SplitVocabulary>(stack(cut == Cut::outputs ? gathered_layer : reduced_layer, limits), slices, line);
}

}  // namespace kv
