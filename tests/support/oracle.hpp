#pragma once
/// @file
/// The independent reading of every formula: naive loops in double precision that share no code with the book's own
/// arithmetic. Slow, plain, and never optimised.
#include <complex>
#include <vector>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "tests/support/equality.hpp"

namespace kv::test::oracle {

template <std::size_t N>
Doubles<N> widen(const Tensor<N>& x) {
  Doubles<N> result = Doubles<N>::from_shape(x.shape());
  std::copy(x.begin(), x.end(), result.begin());
  return result;
}

/// Causal attention of the last T of S tokens.
/// @param queries (T,H,D)  @param keys (C,G,D)  @param values (C,G,W)  @return (T,H,W)
Doubles<3> attention(const Doubles<3>& queries, const Doubles<3>& keys, const Doubles<3>& values, index_t S);

/// Which elements of a head make a pair.
enum class Pairs { half_split, interleaved };
/// One head as complex numbers, each multiplied by e^{i * position * frequency}.
std::vector<double> rotate(const std::vector<double>& head, const std::vector<double>& frequencies, double position,
                           Pairs pairs);

/// theta^(-2i/D)
std::vector<double> frequencies(index_t width, double theta);

std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<double>& weight, double epsilon);
/// The same for every row.
Doubles<2> rms_norm(Doubles<2> x, const std::vector<double>& weight, double epsilon);

/// silu(g) * u
double swiglu(double g, double u);

/// y = x W^T.  @param x (N,I)  @param weight (O,I)
Doubles<2> linear(const Doubles<2>& x, const Doubles<2>& weight);

/// The weights of one attention layer of the Llama and Qwen3 kind.
struct AttentionWeights {
  Doubles<2> query, key, value, output;
  std::vector<double> query_norm, key_norm;  // or empty
  double norm_epsilon;
  HeadSizes sizes;
  std::vector<double> frequencies;
};

/// One sequence from its first token on.  @param x (T,M)  @return (T,M)
Doubles<2> attention_layer(const Doubles<2>& x, const AttentionWeights& weights);

}  // namespace kv::test::oracle
