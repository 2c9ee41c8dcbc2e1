#include "chapters/06_cuda_kernels/model/feed_forward_layers.hpp"

#include <stdexcept>

namespace kv::cuda {

namespace {

LinearView row(const LinearView& map, index_t i) {
  return {map.weight.row_slice(i, 1), map.bias ? map.bias.from(i) : VectorView()};
}

/// A matrix with zeros to its right and below.
Tensor<2> padded(const kv::MatrixView& matrix, index_t rows, index_t columns) {
  Tensor<2> result(Shape<2>{rows, columns}, 0.0f);
  for (index_t i = 0; i < matrix.rows; ++i)
    for (index_t j = 0; j < matrix.columns; ++j) result(i, j) = matrix.at(i, j);
  return result;
}

/// A SwiGLU is the sum of narrower ones, as every inner number is by itself: F of them in each.
void add_pieces(const SwiGluTensors& whole, index_t F, std::vector<SwiGluTensors>& to) {
  for (index_t f = 0; f < whole.gate.weight.rows; f += F)
    to.push_back({{whole.gate.weight.row_slice(f, F), whole.gate.bias ? whole.gate.bias.from(f) : VectorView()},
                  {whole.up.weight.row_slice(f, F), whole.up.bias ? whole.up.bias.from(f) : VectorView()},
                  {whole.down.weight.column_slice(f, F), f == 0 ? whole.down.bias : VectorView()}});
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
  std::vector<LinearView> gate{tensors.gate};
  if (tensors.shared_gate) gate.push_back(*tensors.shared_gate);
  std::vector<SwiGluTensors> experts = tensors.experts;
  const index_t F = experts.at(0).gate.weight.rows, M = tensors.gate.columns;
  Tensor<2> gate_rows, up_rows, down_columns;  // of a shared expert whose width no number of experts has
  if (const auto& shared = tensors.shared; shared && shared->gate.weight.rows % F == 0) {
    add_pieces(*shared, F, experts);
  } else if (shared) {
    if (shared->gate.bias || shared->up.bias) throw std::invalid_argument("a shared expert of a width of its own, with biases");
    const index_t width = (shared->gate.weight.rows + F - 1) / F * F;
    gate_rows = padded(shared->gate.weight, width, M), up_rows = padded(shared->up.weight, width, M);
    down_columns = padded(shared->down.weight, M, width);
    add_pieces({view(gate_rows), view(up_rows), {view(down_columns), shared->down.bias}}, F, experts);
  }
  return {.gate = Matrix(gate), .rule = tensors.rule, .experts = upload(experts),
          .shared = static_cast<int>(experts.size() - tensors.experts.size())};
}

// [dense]
Change DenseLayer::queue(const float* x, float* y, const Step& step) {
  const int N = step.rows(), M = weights_.gate_up.columns(), F = weights_.width();
  float* const inner = step.scratch.take<float>(std::size_t(N) * F);
  gated_linear(weights_.gate_up, {x, M}, N, {inner, F}, step.stream);
  linear(weights_.down, {inner, F}, N, {y, M}, step.stream);
  return {y};
}
// [dense]

MixtureLayer::MixtureLayer(Weights weights)
    : weights_(std::move(weights)), bias_(std::span<const float>(weights_.rule.bias.data(), weights_.rule.bias.size())),
      router_(router(weights_.rule, bias_.size() ? bias_.data() : nullptr, weights_.shared)),
      arrived_(std::vector<unsigned>{0}) {
  router_.logits = weights_.gate.rows();
}

// [mixture]
Change MixtureLayer::queue(const float* x, float*, const Step& step) {
  const int N = step.rows(), M = weights_.gate.columns(), F = weights_.experts.width();
  const int E = router_.all_experts(), K = router_.all_chosen();
  const std::size_t visits = std::size_t(N) * K;
  Scratch& scratch = step.scratch;
  float* const logits = scratch.take<float>(std::size_t(N) * router_.logits);
  const Choices choices{scratch.take<int>(visits), scratch.take<float>(visits)};
  const Permutation sorted{scratch.take<int>(E + 1), scratch.take<int>(E), scratch.take<int>(visits), scratch.take<int>(visits)};
  float* const inner = scratch.take<float>(visits * F);
  float* const outputs = scratch.take<float>(visits * M);
  const int groups = std::min(E, N * K);  // that can be in use

  linear(weights_.gate, {x, M}, N, {logits, router_.logits}, step.stream);
  route(router_, logits, N, choices, sorted, arrived_.data(), step.stream);
  gated_linear_experts(weights_.experts.gate_up, {x, M}, {inner, F},
                       {.active = sorted.active, .offsets = sorted.offsets, .token_of_row = sorted.token_of_row, .outputs = 2 * F},
                       groups, N, step.stream);
  linear_experts(weights_.experts.down, {inner, F}, {outputs, M},
                 {.active = sorted.active, .offsets = sorted.offsets, .token_of_row = nullptr, .outputs = M}, groups, N,
                 step.stream);
  return {.rows = outputs, .visits = K, .weights = choices.weights, .places = sorted.row_of_visit};
}
// [mixture]

}  // namespace kv::cuda
