#include "chapters/06_cuda_kernels/model/ladder_attention.hpp"

#include <cmath>
#include <stdexcept>

namespace kv::cuda {
namespace {

constexpr int threads = 128;

// [tables]
/// A new row sees itself and all before it, in its sequence's pages, which lie in order.
__global__ void __launch_bounds__(threads) tables_kernel(const Tokens tokens, int pages_each, int* lengths, int* table) {
  const int n = blockIdx.x, first_page = tokens.sequences[n] * pages_each;
  for (int i = threadIdx.x; i < pages_each; i += threads) table[std::size_t(n) * pages_each + i] = first_page + i;
  if (threadIdx.x == 0) lengths[n] = tokens.positions[n] + 1;
}
// [tables]

}  // namespace

const Rung& best_rung() {
  const Rung* best = nullptr;
  for (const Rung& rung : ladder())
    if (!rung.untried && why_not(rung, device_properties()).empty()) best = &rung;
  if (!best) throw CudaError("no rung of the ladder runs on " + device_properties().name);
  return *best;
}

bool ladder_serves(const LatentSizes& sizes) {
  return sizes.rank == static_cast<index_t>(value_width) && sizes.row_width() == static_cast<index_t>(latent_width);
}

StepPages::StepPages(index_t heads, const Limits& limits, const Rung& rung) : rung_(rung) {
  problem_.heads = static_cast<int>(heads);
  problem_.table_width = pages_of(static_cast<int>(limits.capacity));
  problem_.pages = static_cast<int>(limits.sequences) * problem_.table_width;
}

void StepPages::queue(const Step& step) {
  problem_.batch = step.rows();
  int* const lengths = step.scratch.take<int>(problem_.batch);
  int* const table = step.scratch.take<int>(std::size_t(problem_.batch) * problem_.table_width);
  problem_.lengths = lengths, problem_.block_table = table;
  launch({problem_.batch, threads, 0, step.stream}, tables_kernel, step.tokens, problem_.table_width, lengths, table);
  if (!rung_.share_count) return;
  schedule_.share_count = rung_.share_count(problem_, step.multiprocessors);
  schedule_.shares = step.scratch.take<Share>(schedule_.share_count);
  schedule_.readers = step.scratch.take<Readers>(problem_.batch);
  make_schedule(lengths, problem_.batch, schedule_, step.stream);
}

LadderAttentionLayer::LadderAttentionLayer(AbsorbedAttentionLayer::Weights weights, std::shared_ptr<const StepPages> step)
    : weights_(std::move(weights)), step_(std::move(step)) {
  if (!ladder_serves(weights_.down.sizes))
    throw std::invalid_argument("ladder: latents of " + std::to_string(weights_.down.sizes.rank) + " + " +
                                std::to_string(weights_.down.sizes.rope_width) + " numbers, expected 512 + 64");
  pages_ = Buffer<bf16>(std::size_t(step_->problem().pages) * page_tokens * latent_width);
}

// [queue]
void LadderAttentionLayer::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const LatentSizes& sizes = weights_.down.sizes;
  const int N = step.rows(), M = static_cast<int>(sizes.width), width = static_cast<int>(sizes.heads * sizes.value_width);
  const LatentDown::Rows rows = weights_.down.queue(x, step);
  float* const mixed = step.scratch.take<float>(std::size_t(N) * width);
  const PagedRows pages{pages_.data(), std::size_t(step_->problem().table_width) * page_tokens * latent_width, latent_width};
  if (prompts_are_expanded(sizes, step)) {
    append_latents(rows.latents, pages, rows.turned_in_place(sizes), step.stream);
    attend_expanded(weights_, pages, rows.queries, mixed, step);
  } else {
    climb(rows, pages, mixed, step);
  }
  linear(weights_.output, {mixed, width}, N, {y, M}, step.stream);
}

void LadderAttentionLayer::climb(const LatentDown::Rows& rows, const PagedRows& pages, float* mixed, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const LatentSizes& sizes = weights_.down.sizes;
  const int N = step.rows(), H = static_cast<int>(sizes.heads), D = static_cast<int>(sizes.key_width());
  const int W = static_cast<int>(sizes.value_width);
  const std::size_t heads = std::size_t(N) * H;
  bf16* const absorbed = step.scratch.take<bf16>(heads * latent_width);
  bf16* const latents = step.scratch.take<bf16>(heads * value_width);
  MlaDecode decode = step_->problem();
  decode.latents = pages_.data(), decode.queries = absorbed, decode.output = latents;
  decode.lse = step.scratch.take<float>(heads);
  decode.scale = weights_.softmax_factor / std::sqrt(static_cast<float>(D));
  const Rung& rung = step_->rung();
  std::byte* const workspace = step.scratch.take<std::byte>(rung.workspace_bytes(decode, step.multiprocessors));

  append_latents(rows.latents, pages, TurnedQueries<bf16>{absorbed + value_width, H * latent_width, latent_width}, step.stream);
  linear_heads(weights_.into_latents, H, rows.queries, Rows<bf16>{absorbed, H * latent_width},
               {.rows = N, .outputs = value_width, .x_step = D, .y_step = latent_width}, step.stream);
  rung.launch(decode, {workspace, step.multiprocessors, step.stream, step_->schedule()});
  linear_heads(weights_.out_of_latents, H, Rows<const bf16>{latents, H * value_width}, RowsOut{mixed, H * W},
               {.rows = N, .outputs = W, .x_step = value_width, .y_step = W}, step.stream);
}
// [queue]

}  // namespace kv::cuda
