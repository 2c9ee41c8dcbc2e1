#include "chapters/06_cuda_kernels/cuda_stages.hpp"

#include <numeric>

#include "chapters/06_cuda_kernels/model/device_model.hpp"
#include "chapters/models/model_tensors.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

/// Keeps how much of each sequence is remembered; the device keeps the rest.
class CudaTransformer : public Transformer {
 public:
  CudaTransformer(std::unique_ptr<cuda::DeviceModel> model, const Limits& limits)
      : model_(std::move(model)), capacity_(limits.capacity), lengths_(limits.sequences) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    Tensor<2> logits = model_->logits(new_rows(tokens, batch), wanted);
    remember(batch);
    return logits;
  }
  std::vector<Token> most_likely(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    std::vector<Token> next = model_->most_likely(new_rows(tokens, batch), wanted);
    remember(batch);
    return next;
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
  std::vector<cuda::NewRow> new_rows(std::span<const Token> tokens, const Batch& batch) const {
    for (const Segment& part : batch) require_room(lengths_.at(part.sequence), capacity_, part.rows);
    std::vector<cuda::NewRow> rows;
    for (const Segment& part : batch)
      for (index_t t = 0; t < part.rows; ++t)
        rows.push_back({tokens[part.first_row + t], part.sequence, lengths_[part.sequence] + t});
    return rows;
  }
  /// After all is well.
  void remember(const Batch& batch) {
    if (!model_->remembers()) return;
    for (const Segment& part : batch) lengths_[part.sequence] += part.rows;
  }

  std::unique_ptr<cuda::DeviceModel> model_;
  index_t capacity_;
  std::vector<index_t> lengths_;  // of every sequence
};

void require_device() {
  if (!cuda::device_available())
    throw Error("there is no CUDA device that this program can use; the other program, kvbook, runs the same kernels on the CPU");
}

/// Chapter 6 was written for models that look back on everything.
ModelTensors tensors_without_windows(const Checkpoint& checkpoint, const Limits& limits) {
  ModelTensors tensors = model_tensors(checkpoint);
  if (const index_t window = shortest_window(tensors); window < limits.capacity)
    throw Error(checkpoint.config().where() + ": layers with a sliding_window of " + std::to_string(window) +
                " tokens are not run by this stage beyond it; take a stage on the CPU, such as ring");
  return tensors;
}

using MakeModel = std::unique_ptr<cuda::DeviceModel>(const ModelTensors& tensors, const Limits& limits);

std::unique_ptr<Transformer> on_device(MakeModel make, const Checkpoint& checkpoint, const Limits& limits) {
  require_device();
  return std::make_unique<CudaTransformer>(make(tensors_without_windows(checkpoint, limits), limits), limits);
}

}  // namespace

bool cuda_runs_on_cpu() { return cuda::device_is_cpu(); }

std::unique_ptr<Transformer> make_cuda_naive(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return on_device(cuda::make_naive_model, checkpoint, limits);
}

std::unique_ptr<Transformer> make_cuda_bf16(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return on_device(cuda::make_bf16_model, checkpoint, limits);
}

std::unique_ptr<Transformer> make_cuda_absorbed(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return on_device(cuda::make_absorbed_model, checkpoint, limits);
}

std::unique_ptr<Transformer> make_cuda_uncached(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return on_device(cuda::make_uncached_model, checkpoint, limits);
}

}  // namespace kv
