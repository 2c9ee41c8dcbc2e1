#include "chapters/06_cuda_kernels/model/ladder_attention.hpp"

#include <cmath>
#include <stdexcept>

namespace kv::cuda {
namespace {

constexpr int threads = 128;

/// Where the rows of a step find their caches, as the ladder asks for it: a row is a sequence of its own there.
struct PageTables {
  int *lengths, *table;  ///< (N) (N,pages_each)
  int pages_each;
};

// [tables]
/// A new row sees itself and all before it, in its sequence's pages, which lie in order.
__global__ void __launch_bounds__(threads) tables_kernel(const Tokens tokens, const PageTables tables) {
  const int n = blockIdx.x, first_page = tokens.sequences[n] * tables.pages_each;
  for (int i = threadIdx.x; i < tables.pages_each; i += threads) tables.table[std::size_t(n) * tables.pages_each + i] = first_page + i;
  if (threadIdx.x == 0) tables.lengths[n] = tokens.positions[n] + 1;
}
// [tables]

}  // namespace

const Rung& best_rung() {
  const Rung* best = nullptr;
  for (const Rung& rung : ladder())
    if (why_not(rung, device_properties()).empty()) best = &rung;
  if (!best) throw CudaError("no rung of the ladder runs on " + device_properties().name);
  return *best;
}

bool ladder_serves(const LatentSizes& sizes) {
  return sizes.rank == static_cast<index_t>(value_width) && sizes.row_width() == static_cast<index_t>(latent_width);
}

LadderAttentionLayer::LadderAttentionLayer(AbsorbedAttentionLayer::Weights weights, const Limits& limits, const Rung& rung)
    : weights_(std::move(weights)), pages_each_(pages_of(static_cast<int>(limits.capacity))),
      sequences_(static_cast<int>(limits.sequences)), rung_(rung) {
  if (!ladder_serves(weights_.down.sizes))
    throw std::invalid_argument("ladder: latents of " + std::to_string(weights_.down.sizes.rank) + " + " +
                                std::to_string(weights_.down.sizes.rope_width) + " numbers, expected 512 + 64");
  pages_ = Buffer<bf16>(std::size_t(sequences_) * pages_each_ * page_tokens * latent_width);
}

MlaDecode LadderAttentionLayer::problem(int rows) const {
  const LatentSizes& sizes = weights_.down.sizes;
  MlaDecode problem{};
  problem.latents = pages_.data();
  problem.batch = rows, problem.heads = static_cast<int>(sizes.heads);
  problem.pages = sequences_ * pages_each_, problem.table_width = pages_each_;
  problem.scale = weights_.softmax_factor / std::sqrt(static_cast<float>(sizes.key_width()));
  return problem;
}

// [queue]
void LadderAttentionLayer::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const LatentSizes& sizes = weights_.down.sizes;
  const int N = step.rows(), M = static_cast<int>(sizes.width), H = static_cast<int>(sizes.heads);
  const int D = static_cast<int>(sizes.key_width()), W = static_cast<int>(sizes.value_width);
  const std::size_t heads = std::size_t(N) * H;
  const auto [queries, compressed] = weights_.down.queue(x, step);
  bf16* const absorbed = step.scratch.take<bf16>(heads * latent_width);
  bf16* const mixed = step.scratch.take<bf16>(heads * value_width);
  float* const lifted = step.scratch.take<float>(heads * W);
  const PageTables tables{step.scratch.take<int>(N), step.scratch.take<int>(std::size_t(N) * pages_each_), pages_each_};
  MlaDecode decode = problem(N);
  decode.queries = absorbed, decode.output = mixed;
  decode.lengths = tables.lengths, decode.block_table = tables.table;
  decode.lse = step.scratch.take<float>(heads);
  std::byte* const workspace = step.scratch.take<std::byte>(rung_.workspace_bytes(decode, step.multiprocessors));

  const std::size_t of_sequence = std::size_t(pages_each_) * page_tokens * latent_width;
  append_latents(compressed, PagedRows{pages_.data(), of_sequence, latent_width},
                 {absorbed + value_width, H * latent_width, latent_width}, step.stream);
  launch({N, threads, 0, step.stream}, tables_kernel, step.tokens, tables);
  linear_heads(weights_.into_latents, H, queries, Rows<bf16>{absorbed, H * latent_width},
               {.rows = N, .outputs = value_width, .x_step = D, .y_step = latent_width}, step.stream);
  rung_.launch(decode, {workspace, step.multiprocessors, step.stream});
  linear_heads(weights_.out_of_latents, H, Rows<const bf16>{mixed, H * value_width}, RowsOut{lifted, H * W},
               {.rows = N, .outputs = W, .x_step = value_width, .y_step = W}, step.stream);
  linear(weights_.output, {lifted, H * W}, N, {y, M}, step.stream);
}
// [queue]

}  // namespace kv::cuda
