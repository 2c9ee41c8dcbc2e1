/// Small pieces of work whose machine instructions are counted: counted_work NAME runs one of them. Time depends on who
/// else uses the machine; the number of instructions does not.
#include <cstdio>
#include <map>
#include <numeric>
#include <string>

#include "chapters/decoders.hpp"
#include "common/tensor/attention_sums.hpp"
#include "common/tensor/parallel.hpp"
#include "common/tensor/softmax.hpp"

using namespace kv;

namespace {

using Work = std::function<void()>;

std::vector<float> numbers(index_t count) {
  std::vector<float> result(count);
  for (index_t i = 0; i < count; ++i) result[i] = static_cast<float>(i * 37 % 101) * 0.01f - 0.5f;
  return result;
}

/// A linear layer of 512 inputs and 256 outputs in bf16.
Work linear(index_t rows) {
  static const std::vector<std::uint16_t> weights(256 * 512, 0x3f01);
  const auto layer = std::make_shared<Linear>(MatrixView{weights.data(), DType::bf16, 256, 512, 512, 1});
  return [=, x = numbers(rows * 512), y = numbers(rows * 256)]() mutable {
    layer->multiply(rows, x.data(), 512, y.data(), 256);
  };
}

/// 16 queries and a block of 128 rows of 576, whose first 512 are summed.
Work scores() {
  return [queries = numbers(16 * 576), rows = numbers(128 * 576), out = numbers(16 * 128)]() mutable {
    dot_rows({queries.data(), 576, 16, 576}, {rows.data(), 576, 128, 576}, out.data(), 128);
  };
}
Work sums() {
  return [weights = numbers(16 * 128), rows = numbers(128 * 576), out = numbers(16 * 512)]() mutable {
    add_weighted_rows({weights.data(), 128, 16, 128}, {rows.data(), 576, 128, 512}, out.data(), 512);
  };
}
Work running_softmax() {
  return [x = numbers(16 * 128)]() mutable {
    for (index_t q = 0; q < 16; ++q) RunningSoftmax().next({x.data() + q * 128, 128});
  };
}

/// The shipped model with latents and experts: a prompt of 64 tokens, or one token behind it.
Work model(index_t tokens_before, index_t tokens) {
  const Checkpoint checkpoint(KV_DATA "/tiny-mla");
  auto decoder = std::make_shared<Decoder>(make_decoder(checkpoint, find_stage("absorbed"), {.capacity = 128}));
  std::vector<Token> text(tokens_before + tokens);
  std::iota(text.begin(), text.end(), Token{3});
  decoder->last_logits({{0, text}});  // every weight that is needed is in memory
  decoder->truncate(0, tokens_before);
  return [=] { decoder->last_logits({{0, {text.end() - static_cast<std::ptrdiff_t>(tokens), text.end()}}}); };
}

const std::map<std::string, std::function<Work()>> pieces{
    {"linear_1_row", [] { return linear(1); }},   {"linear_48_rows", [] { return linear(48); }},
    {"dot_rows", scores},                         {"add_weighted_rows", sums},
    {"running_softmax", running_softmax},         {"prefill_64_tokens", [] { return model(0, 64); }},
    {"decode_1_token", [] { return model(64, 1); }},
};

}  // namespace

/// Only what happens in here is counted.
extern "C" __attribute__((noinline)) void counted_work(const Work& work) {
  work();
  asm volatile("");  // no tail call: the function must last as long as the work
}

int main(int count, char** values) {
  const auto found = count == 2 ? pieces.find(values[1]) : pieces.end();
  if (found == pieces.end()) {
    std::fprintf(stderr, "usage: counted_work NAME, one of:");
    for (const auto& [name, make] : pieces) std::fprintf(stderr, " %s", name.c_str());
    std::fprintf(stderr, "\n");
    return 2;
  }
  set_threads(1);
  const Work work = found->second();
  work();  // scratch memory is there
  counted_work(work);
}
