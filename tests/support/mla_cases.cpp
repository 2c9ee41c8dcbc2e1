#include "tests/support/mla_cases.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace kv::test {
namespace {

using cuda::bf16, cuda::latent_width, cuda::page_tokens, cuda::pages_of, cuda::to_bf16, cuda::to_float, cuda::value_width;

constexpr int no_page = 1 << 24;  // a kernel that looks there crashes

/// Pages for all sequences: the first ones in order, or any, with as many to spare.
std::vector<int> page_numbers(const MlaCase& c, int used, std::mt19937& generator) {
  std::vector<int> numbers(c.shuffled ? 2 * used + 1 : used);
  std::iota(numbers.begin(), numbers.end(), 0);
  if (c.shuffled) std::shuffle(numbers.begin(), numbers.end(), generator);
  return numbers;
}

const bf16* cached_row(const cuda::MlaDecodeOnHost& problem, std::size_t b, int token) {
  const int page = problem.block_table[b * problem.table_width + token / page_tokens];
  return &problem.latents[(std::size_t(page) * page_tokens + token % page_tokens) * latent_width];
}

}  // namespace

cuda::MlaDecodeOnHost make(const MlaCase& c) {
  std::mt19937 generator(c.seed);
  std::normal_distribution<float> normal(0.1f, 1.0f);  // not centred: a token too many or too few shows
  int used = 0, widest = 0;
  for (const int length : c.lengths) used += pages_of(length), widest = std::max(widest, pages_of(length));

  cuda::MlaDecodeOnHost problem{c.heads, widest + 1, c.scale, {}, {}, c.lengths, {}};
  problem.queries.resize(c.lengths.size() * c.heads * latent_width);
  for (bf16& q : problem.queries) q = to_bf16(normal(generator));
  const std::vector<int> numbers = page_numbers(c, used, generator);
  problem.latents.assign(numbers.size() * page_tokens * latent_width, to_bf16(std::numeric_limits<float>::quiet_NaN()));
  problem.block_table.assign(c.lengths.size() * problem.table_width, no_page);
  int next = 0;
  for (std::size_t b = 0; b < c.lengths.size(); ++b)
    for (int token = 0; token < c.lengths[b]; ++token) {
      if (token % page_tokens == 0) problem.block_table[b * problem.table_width + token / page_tokens] = numbers[next++];
      bf16* row = const_cast<bf16*>(cached_row(problem, b, token));
      std::generate(row, row + latent_width, [&] { return to_bf16(normal(generator)); });
    }
  return problem;
}

MlaOracle oracle(const cuda::MlaDecodeOnHost& problem) {
  const std::size_t batch = problem.lengths.size(), heads = problem.heads;
  MlaOracle result{std::vector<double>(batch * heads * value_width), std::vector<double>(batch * heads), 0.0, 0.0};
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t h = 0; h < heads; ++h) {
      const int S = problem.lengths[b];
      const bf16* query = &problem.queries[(b * heads + h) * latent_width];
      std::vector<double> weights(S);
      for (int s = 0; s < S; ++s) {
        const bf16* key = cached_row(problem, b, s);
        for (int i = 0; i < latent_width; ++i) weights[s] += double(to_float(query[i])) * to_float(key[i]);
        weights[s] *= problem.scale;
      }
      const double largest = S ? *std::max_element(weights.begin(), weights.end()) : 0.0;
      double sum = 0.0;
      for (double& w : weights) sum += w = std::exp(w - largest);
      result.lse[b * heads + h] = S ? largest + std::log(sum) : -std::numeric_limits<double>::infinity();
      double* output = &result.output[(b * heads + h) * value_width];
      std::vector<double> terms(value_width);
      for (int s = 0; s < S; ++s) {
        const bf16* row = cached_row(problem, b, s);
        for (int i = 0; i < value_width; ++i) {
          const double term = weights[s] / sum * to_float(row[i]);
          output[i] += term, terms[i] += std::abs(term);
        }
      }
      for (int i = 0; i < value_width; ++i) {
        result.largest = std::max(result.largest, std::abs(output[i]));
        result.largest_terms = std::max(result.largest_terms, terms[i]);
      }
    }
  return result;
}

bool same_bits(const cuda::Decoded& a, const cuda::Decoded& b) {
  const auto same_output = [](bf16 x, bf16 y) { return x.bits == y.bits; };
  const auto same_lse = [](float x, float y) { return std::bit_cast<unsigned>(x) == std::bit_cast<unsigned>(y); };
  return std::equal(a.output.begin(), a.output.end(), b.output.begin(), b.output.end(), same_output) &&
         std::equal(a.lse.begin(), a.lse.end(), b.lse.begin(), b.lse.end(), same_lse);
}

cuda::MlaDecodeOnHost traffic_problem() { return make({.heads = traffic_heads, .lengths = {traffic_tokens - 64, 64}, .seed = 1}); }

}  // namespace kv::test
