/// @file
/// How many kernels a decode step starts, counted by the CPU runtime. What the text of the chapter says of it stands here.
#include "chapters/06_cuda_kernels/model/device_model.hpp"
#include "common/cuda/simt/runtime.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/wide_latents.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Of one step of one sequence, the graph's second replay.
std::size_t kernels_of_a_step(int dense, int mixtures) {
  const WideLatents model(dense, mixtures);
  const auto paged = cuda::make_ladder_model(model.tensors, {.sequences = 1, .capacity = 8});
  paged->next_tokens(std::vector<cuda::NewRow>{{1, 0, 0}});
  const std::size_t before = simt::grids_run();
  paged->next_tokens(std::vector<cuda::NewRow>{{2, 0, 1}});
  return simt::grids_run() - before;
}

}  // namespace

TEST_CASE("kernels of a decode step: of a layer with a mixture, of one without, of the rest", "[launches]") {
  const std::size_t one = kernels_of_a_step(1, 0);
  CHECK(kernels_of_a_step(1, 1) - one == 13);
  CHECK(kernels_of_a_step(2, 0) - one == 11);
  CHECK(one - 11 == 6);
}
