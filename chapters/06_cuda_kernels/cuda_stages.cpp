#include "chapters/06_cuda_kernels/cuda_stages.hpp"

#include <numeric>

#include "chapters/06_cuda_kernels/model/device_model.hpp"
#include "chapters/models/architectures.hpp"
#include "chapters/models/mixture_config.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

// ---- from a checkpoint to what the device takes over ----

MatrixView matrix(const Checkpoint& checkpoint, const MatrixName& name) {
  return checkpoint.matrix(name.name, name.rows, name.columns);
}

/// Empty without a name.
Tensor<1> vector(const Checkpoint& checkpoint, const std::string& name, index_t size) {
  return name.empty() ? empty<1>({0}) : checkpoint.vector(name, size);
}

cuda::GroupedTensors grouped_tensors(const Checkpoint& checkpoint, index_t layer) {
  const HeadSizes sizes = grouped_sizes(checkpoint.config());
  const GroupedNames names = grouped_names(checkpoint.config(), layer);
  return {.query = matrix(checkpoint, names.query),
          .key = matrix(checkpoint, names.key),
          .value = matrix(checkpoint, names.value),
          .output = matrix(checkpoint, names.output),
          .query_norm = vector(checkpoint, names.query_norm, sizes.key_width),
          .key_norm = vector(checkpoint, names.key_norm, sizes.key_width),
          .sizes = sizes};
}

cuda::LatentTensors latent_tensors(const Checkpoint& checkpoint, index_t layer) {
  const LatentSizes sizes = latent_sizes(checkpoint.config());
  const LatentNames names = latent_names(checkpoint.config(), layer);
  const auto down = [&] { return matrix(checkpoint, *names.query_down); };
  cuda::LatentTensors tensors{.query_down = names.query_down ? std::optional(down()) : std::nullopt,
                              .query_norm = vector(checkpoint, names.query_norm, sizes.query_rank.value_or(0)),
                              .query_up = matrix(checkpoint, names.query_up),
                              .latent_down = matrix(checkpoint, names.latent_down),
                              .latent_norm = checkpoint.vector(names.latent_norm, sizes.rank),
                              .latent_up = matrix(checkpoint, names.latent_up),
                              .output = matrix(checkpoint, names.output),
                              .sizes = sizes,
                              .softmax_factor = softmax_factor(checkpoint.config())};
  return tensors;
}

cuda::SwiGluTensors swiglu_tensors(const Checkpoint& checkpoint, const SwiGluNames& names) {
  return {matrix(checkpoint, names.gate), matrix(checkpoint, names.up), matrix(checkpoint, names.down)};
}

cuda::MixtureTensors mixture_tensors(const Checkpoint& checkpoint, index_t layer) {
  const MixtureNames names = mixture_names(checkpoint.config(), layer);
  cuda::MixtureTensors tensors{.gate = matrix(checkpoint, names.gate), .rule = routing_rule(checkpoint, layer), .experts = {}, .shared = {}};
  for (const SwiGluNames& expert : names.experts) tensors.experts.push_back(swiglu_tensors(checkpoint, expert));
  if (names.shared) tensors.shared = swiglu_tensors(checkpoint, *names.shared);
  return tensors;
}

cuda::LayerTensors layer_tensors(const Checkpoint& checkpoint, index_t layer) {
  const Json& config = checkpoint.config();
  const index_t M = model_sizes(config).width;
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  cuda::LayerTensors tensors{.attention_norm = checkpoint.vector(prefix + "input_layernorm.weight", M),
                             .attention = {},
                             .feed_forward_norm = checkpoint.vector(prefix + "post_attention_layernorm.weight", M),
                             .feed_forward = {}};
  switch (family(config)) {
    case Family::gqa: tensors.attention = grouped_tensors(checkpoint, layer); break;
    case Family::mla: tensors.attention = latent_tensors(checkpoint, layer); break;
  }
  if (is_mixture(config, layer))
    tensors.feed_forward = mixture_tensors(checkpoint, layer);
  else
    tensors.feed_forward = swiglu_tensors(checkpoint, dense_names(config, layer));
  return tensors;
}

/// Width of the rotated part of a head.
index_t rope_width(const Json& config) {
  return family(config) == Family::gqa ? grouped_sizes(config).key_width : latent_sizes(config).rope_width;
}

cuda::ModelTensors model_tensors(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  const ModelSizes sizes = model_sizes(config);
  const std::string embedding = "model.embed_tokens.weight";
  cuda::ModelTensors tensors{
      .embedding = checkpoint.matrix(embedding, sizes.vocabulary, sizes.width),
      .layers = {},
      .final_norm = checkpoint.vector("model.norm.weight", sizes.width),
      .head = checkpoint.matrix(sizes.tied_embeddings ? embedding : "lm_head.weight", sizes.vocabulary, sizes.width),
      .norm_epsilon = sizes.norm_epsilon,
      .rope = read_rope(config, rope_width(config))};
  for (index_t layer = 0; layer < sizes.layers; ++layer) tensors.layers.push_back(layer_tensors(checkpoint, layer));
  return tensors;
}

// ---- the transformer ----

/// Keeps how long each sequence is; the device keeps the rest.
class CudaTransformer : public Transformer {
 public:
  CudaTransformer(std::unique_ptr<cuda::DeviceModel> model, const Limits& limits)
      : model_(std::move(model)), capacity_(limits.capacity), lengths_(limits.sequences) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    for (const Segment& part : batch) require_room(lengths_.at(part.sequence), capacity_, part.rows);
    std::vector<cuda::NewRow> rows;
    for (const Segment& part : batch)
      for (index_t t = 0; t < part.rows; ++t)
        rows.push_back({tokens[part.first_row + t], part.sequence, lengths_[part.sequence] + t});
    Tensor<2> logits = model_->logits(rows, wanted);
    for (const Segment& part : batch) lengths_[part.sequence] += part.rows;  // after all is well
    return logits;
  }

  index_t length(index_t sequence) const override { return lengths_.at(sequence); }
  index_t truncate(index_t sequence, index_t length) override {
    return lengths_.at(sequence) = std::min(lengths_[sequence], length);
  }
  index_t share(index_t, index_t to, index_t) override { return truncate(to, 0); }
  void prompt_ends(index_t) override {}
  index_t vocabulary() const override { return model_->vocabulary(); }
  StateBytes state_bytes() const override {
    const std::size_t tokens = std::accumulate(lengths_.begin(), lengths_.end(), index_t{0});
    const std::size_t allocated = model_->cache_bytes();
    return {.allocated = allocated, .used = allocated / std::max<index_t>(1, capacity_ * lengths_.size()) * tokens};
  }

 private:
  std::unique_ptr<cuda::DeviceModel> model_;
  index_t capacity_;
  std::vector<index_t> lengths_;  // of every sequence
};

void require_device() {
  if (!cuda::device_available())
    throw Error("there is no CUDA device that this program can use; the other program, kvbook, runs the same kernels on the CPU");
}

}  // namespace

bool cuda_runs_on_cpu() { return cuda::device_is_cpu(); }

std::unique_ptr<Transformer> make_cuda_naive(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  require_device();
  return std::make_unique<CudaTransformer>(cuda::make_naive_model(model_tensors(checkpoint), limits), limits);
}

std::unique_ptr<Transformer> make_cuda_absorbed(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  require_device();
  return std::make_unique<CudaTransformer>(cuda::make_absorbed_model(model_tensors(checkpoint), limits), limits);
}

}  // namespace kv
