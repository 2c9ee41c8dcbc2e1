/// Chapter 4 in double precision: its own source files, compiled once more with every float a double.
#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/04_latent_cache/decompressed_attention.hpp"
#include "chapters/04_latent_cache/latent_attention.hpp"
#include "tests/support/feed.hpp"

using namespace kv;

namespace {

constexpr float tolerance = 1e-12;  // relative to the largest output: rounding in double, and nothing else

Tensor<2> random_matrix(index_t rows, index_t columns, std::mt19937& generator) {
  std::normal_distribution<float> value(0.0, 1.0 / std::sqrt(static_cast<float>(columns)));
  Tensor<2> matrix = empty<2>({rows, columns});
  for (float& each : matrix) each = value(generator);
  return matrix;
}

/// A layer with everything that an MLA layer may have: q_lora, value width other than the plain width, a softmax factor.
struct Layer {
  LatentSizes sizes{.width = 40, .heads = 5, .rank = 24, .rope_width = 8, .plain_width = 14, .value_width = 11,
                    .query_rank = 18};
  Tensor<2> up;
  std::shared_ptr<const LatentProjection> projection;

  explicit Layer(unsigned seed) {
    std::mt19937 generator(seed);
    const auto matrix = [&](index_t outputs, index_t inputs) {
      return std::make_shared<const Linear>(view(random_matrix(outputs, inputs, generator)));
    };
    const auto norm = [&](index_t width) {
      const Tensor<2> row = random_matrix(1, width, generator);
      Tensor<1> weight = empty<1>({width});
      for (index_t i = 0; i < width; ++i) weight(i) = 1.0 + row(0, i);
      return weight;
    };
    up = random_matrix(sizes.heads * (sizes.plain_width + sizes.value_width), sizes.rank, generator);
    projection = std::make_shared<LatentProjection>(
        LatentProjection::Weights{.query_down = matrix(*sizes.query_rank, sizes.width),
                                  .query_norm = norm(*sizes.query_rank),
                                  .query_up = matrix(sizes.heads * sizes.key_width(), *sizes.query_rank),
                                  .latent_down = matrix(sizes.row_width(), sizes.width),
                                  .latent_norm = norm(sizes.rank),
                                  .latent_up = std::make_shared<const Linear>(view(up)),
                                  .output = matrix(sizes.width, sizes.heads * sizes.value_width)},
        sizes, Rope{.frequencies = {1.0, 0.3, 0.07, 0.01}, .magnitude = 1.1}, 1.7);
  }
};

float relative_difference(const Tensor<2>& a, const Tensor<2>& b) {
  float difference = 0, largest = 0;
  for (index_t i = 0; i < b.size(); ++i) {
    difference = std::max(difference, std::abs(a.data()[i] - b.data()[i]));
    largest = std::max(largest, std::abs(b.data()[i]));
  }
  return difference / largest;
}

/// A prompt in two pieces, then single tokens: all forms and stage `latent`'s choice between them.
Tensor<2> run(Attention& attention, const Tensor<2>& x) {
  Tensor<2> result = empty<2>({x.shape(0), x.shape(1)});
  index_t first = 0;
  for (const index_t T : {index_t{20}, index_t{9}, index_t{1}, index_t{1}}) {
    put_rows(result, first, kv::test::feed(attention, rows(x, first, T), {{0, 0, T}}));
    first += T;
  }
  return result;
}

}  // namespace

TEST_CASE("in double precision absorbed and decompressed agree with naive within 1e-12", "[latent][double]") {
  static_assert(sizeof(Tensor<2>::value_type) == 8);
  const unsigned seed = GENERATE(range(1u, 6u));
  const Layer layer(seed);
  std::mt19937 generator(seed + 100);
  Tensor<2> x = random_matrix(31, layer.sizes.width, generator);
  for (float& each : x) each *= 6;
  const Limits limits{.sequences = 1, .capacity = 31};
  PreallocatedAttention naive(layer.projection, limits);
  DecompressedAttention decompressed(layer.projection, limits);
  AbsorbedAttention absorbed(layer.projection, Absorption(view(layer.up), layer.sizes), limits);
  LatentAttention latent(layer.projection, Absorption(view(layer.up), layer.sizes), limits);

  const Tensor<2> expected = run(naive, x), found = run(absorbed, x);
  CHECK((run(decompressed, x) == expected));
  CHECK(relative_difference(found, expected) < tolerance);
  CHECK(relative_difference(found, expected) > 0);  // another order of the sums: not the same computation twice
  CHECK(relative_difference(run(latent, x), expected) < tolerance);
}
