// An exercise, in place of chapters/06_cuda_kernels/ladder/01_naive.cu: see exercises.md
// Tests: 06_ladder_test
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128;

__global__ void __launch_bounds__(threads) naive_kernel(const MlaDecode problem, float* scores) {
  const int h = blockIdx.x, b = blockIdx.y, S = problem.lengths[b];
  const bf16* query = problem.query(b, h);
  float* weights = scores + problem.place(b, h) * problem.table_width * page_tokens;  // (S)

  // --- yours ---
  // query (576), weights (S) in global memory, problem.row(b, s) (576): a thread for each token, then one for each
  // column of the output (512), which begins at problem.output + problem.place(b, h) * value_width; and one number,
  // problem.lse[problem.place(b, h)]. block_max() and block_sum() are barriers. S may be 0.
  // --- end ---
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  // --- yours ---
  throw std::logic_error("exercise 06 01_naive: the kernel is yours to write; then delete this line");
  // --- end ---
  if (problem.batch == 0) return;
  const dim3 grid(problem.heads, problem.batch);
  launch({grid, threads, 0, resources.stream}, naive_kernel, problem, static_cast<float*>(resources.workspace));
}

}  // namespace

Rung naive() {
  return {.number = 1,
          .name = "naive",
          .idea = "a thread for each token, all in global memory",
          .removes = "-",
          .prediction = {Percent{1, 1}, {}},
          .shared_bytes = reduction_bytes,
          .workspace_bytes = score_bytes,
          .launch = run};
}

}  // namespace kv::cuda
