// An exercise, in place of chapters/06_cuda_kernels/ladder/02_warp_per_token.cu: see exercises.md
// Tests: 06_ladder_test 06_ladder_traffic
#include "chapters/06_cuda_kernels/ladder/four_columns.hpp"
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_threads;
constexpr int pieces = latent_width / 8;  // of 16 bytes in a row: lanes 0 ... 7 have three, the others two
static_assert(threads * 4 == value_width, "each thread sums four columns of the values");

__global__ void __launch_bounds__(threads) warp_per_token_kernel(const MlaDecode problem, float* scores) {
  const int h = blockIdx.x, b = blockIdx.y, S = problem.lengths[b];
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const bf16* query = problem.query(b, h);
  float* weights = scores + problem.place(b, h) * problem.table_width * page_tokens;  // (S)

  // --- yours ---
  // query (576), weights (S) in global memory, problem.row(b, s) (576): a warp for each token, 16 bytes for each lane
  // at a time; then a thread for four columns of the output (512), and problem.lse, both where rung 1 has them.
  // S may be 0.
  // --- end ---
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  // --- yours ---
  throw std::logic_error("exercise 06 02_warp_per_token: the kernel is yours to write; then delete this line");
  // --- end ---
  if (problem.batch == 0) return;
  const dim3 grid(problem.heads, problem.batch);
  launch({grid, threads, 0, resources.stream}, warp_per_token_kernel, problem, static_cast<float*>(resources.workspace));
}

}  // namespace

Rung warp_per_token() {
  return {.number = 2,
          .name = "warp per token",
          .idea = "32 lanes read one row, 16 bytes each",
          .removes = "uncoalesced reads",
          .prediction = {Percent{5, 8}, {}},
          .shared_bytes = reduction_bytes,
          .workspace_bytes = score_bytes,
          .launch = run};
}

}  // namespace kv::cuda
