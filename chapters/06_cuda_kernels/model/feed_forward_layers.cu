#include "chapters/06_cuda_kernels/model/feed_forward_layers.hpp"

#include "chapters/06_cuda_kernels/model/swiglu.hpp"

namespace kv::cuda {

namespace {

LinearView row(const LinearView& map, index_t i) {
  return {map.weight.row_slice(i, 1), map.bias ? map.bias.from(i) : VectorView()};
}

}  // namespace

SwiGlu upload(const SwiGluTensors& tensors) { return upload(std::vector{tensors}); }

SwiGlu upload(const std::vector<SwiGluTensors>& experts) {
  std::vector<LinearView> gate_up, down;
  for (const SwiGluTensors& expert : experts) {
    for (index_t f = 0; f < expert.gate.weight.rows; ++f) {  // neighbours: one warp makes both
      gate_up.push_back(row(expert.gate, f));
      gate_up.push_back(row(expert.up, f));
    }
    down.push_back(expert.down);
  }
  return {Matrix(gate_up), Matrix(down)};
}

MixtureLayer::Weights upload(const MixtureTensors& tensors) {
  MixtureLayer::Weights weights{.gate = Matrix{tensors.gate}, .rule = tensors.rule, .experts = upload(tensors.experts), .shared = {}, .shared_gate = {}};
  if (tensors.shared) weights.shared = upload(*tensors.shared);
  if (tensors.shared_gate) weights.shared_gate = Matrix{*tensors.shared_gate};
  return weights;
}

// [dense]
void DenseLayer::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const int N = step.rows(), M = weights_.gate_up.columns(), F = weights_.width();
  float* const inner = step.scratch.take<float>(std::size_t(N) * F);
  gated_linear(weights_.gate_up, {x, M}, N, {inner, F}, step.stream);
  linear(weights_.down, {inner, F}, N, {y, M}, step.stream);
}
// [dense]

MixtureLayer::MixtureLayer(Weights weights)
    : gate_(std::move(weights.gate)), rule_(std::move(weights.rule)), experts_(std::move(weights.experts)),
      bias_(std::span<const float>(rule_.bias.data(), rule_.bias.size())) {
  if (weights.shared) shared_.emplace(std::move(*weights.shared));
  shared_gate_ = std::move(weights.shared_gate);
}

// [mixture]
void MixtureLayer::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const int N = step.rows(), M = gate_.columns(), E = experts(), K = chosen(), F = experts_.width();
  const std::size_t visits = std::size_t(N) * K;
  Scratch& scratch = step.scratch;
  float* const logits = scratch.take<float>(std::size_t(N) * E);
  const Choices choices{scratch.take<int>(visits), scratch.take<float>(visits)};
  const Permutation sorted{scratch.take<int>(E + 1), scratch.take<int>(E), scratch.take<int>(visits), scratch.take<int>(visits)};
  float* const inner = scratch.take<float>(visits * F);
  float* const outputs = scratch.take<float>(visits * M);
  float* const shared = shared_ ? scratch.take<float>(std::size_t(N) * M) : nullptr;
  float* const shared_gate = shared_gate_ ? scratch.take<float>(N) : nullptr;
  const int groups = std::min(E, N * K);  // that can be in use

  linear(gate_, {x, M}, N, {logits, E}, step.stream);
  route(router(rule_, bias_.size() ? bias_.data() : nullptr), logits, N, choices, step.stream);
  sort_by_expert(choices, N, K, E, sorted, step.stream);
  gated_linear_experts(experts_.gate_up, {x, M}, {inner, F},
                       {.active = sorted.active, .offsets = sorted.offsets, .token_of_row = sorted.token_of_row, .outputs = 2 * F},
                       groups, N, step.stream);
  linear_experts(experts_.down, {inner, F}, {outputs, M},
                 {.active = sorted.active, .offsets = sorted.offsets, .token_of_row = nullptr, .outputs = M}, groups, N,
                 step.stream);
  if (shared_) shared_->queue(x, shared, step);
  if (shared_gate_) {
    linear(*shared_gate_, {x, M}, N, {shared_gate, 1}, step.stream);
    gate_rows(shared_gate, N, M, shared, step.stream);
  }
  gather_visits(choices, sorted, outputs, shared, N, K, M, y, step.stream);
}
// [mixture]

}  // namespace kv::cuda
