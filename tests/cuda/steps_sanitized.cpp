/// @file
/// Whole models under the race detector: kernels that begin before the last one has ended read and write nothing of its.
#include "chapters/06_cuda_kernels/model/device_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/wide_latents.hpp"

using namespace kv;

TEST_CASE("layers that share one cache, one after another", "[races]") {
  const test::WideLatents model(2, 0);
  const auto device = cuda::make_uncached_model(model.tensors, {.sequences = 2, .capacity = 10});
  std::vector<cuda::NewRow> rows;
  for (index_t t = 0; t < 9; ++t) rows.push_back({static_cast<Token>(t), 0, t});
  rows.push_back({3, 1, 0});
  CHECK(device->logits(rows, std::vector<index_t>{8, 9}).shape(0) == 2);
}

TEST_CASE("a prompt and replayed decode steps, kernel after kernel without a pause", "[races]") {
  const bool expands_prompts = GENERATE(false, true);
  const test::WideLatents model = expands_prompts ? test::WideLatents(1, 1, 64, 128) : test::WideLatents(1, 1);
  const auto make = GENERATE(cuda::make_ladder_model, cuda::make_absorbed_model, cuda::make_naive_model);
  const auto device = make(model.tensors, {.sequences = 2, .capacity = 16});
  std::vector<cuda::NewRow> prompts;
  for (index_t t = 0; t < 9; ++t) prompts.push_back({static_cast<Token>(t), 0, t});
  prompts.push_back({3, 1, 0});
  device->logits(prompts, std::vector<index_t>{8, 9});
  CHECK(device->next_tokens(std::vector<cuda::NewRow>{{1, 0, 9}, {2, 1, 1}}, 3).size() == 6);
}
