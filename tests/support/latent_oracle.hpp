#pragma once
/// @file
/// Multi-head latent attention once more, from the formulas: naive loops that share nothing with the book's code but the
/// checkpoint reader. In any precision, in three forms, and with well-known mistakes on demand.
#include <vector>

#include "common/checkpoint/checkpoint.hpp"

namespace kv::test::latent {

/// What people get wrong, and what a test must notice.
enum class Mistake {
  none,
  half_split_rope,          ///< pairs (i, i + P/2) on weights made for (2i, 2i + 1)
  scale_of_latent_row,      ///< (R+P)^-0.5, the width of what is compared, in place of D^-0.5
  cached_before_norm,       ///< the latent goes into the cache without its norm
  cached_before_rotation,   ///< the key part goes into the cache unrotated
  yarn_by_capacity,         ///< YaRN only when the sequence is longer than the original length
  no_softmax_factor,        ///< YaRN without m(mscale_all_dim)^2
  magnitude_without_quotient,  ///< cos and sin times m(mscale), not m(mscale) / m(mscale_all_dim)
  sees_one_ahead,           ///< the causal mask off by one
};

/// A matrix or a list of rows, row-major.
template <class Real>
struct Rows {
  index_t count, width;
  std::vector<Real> values;

  Rows(index_t rows, index_t columns) : count(rows), width(columns), values(rows * columns) {}
  Real& operator()(index_t i, index_t j) { return values.at(i * width + j); }
  const Real& operator()(index_t i, index_t j) const { return values.at(i * width + j); }
};

template <class Real>
class LatentOracle {
 public:
  LatentOracle(const Checkpoint& checkpoint, index_t layer, Mistake mistake = Mistake::none);

  /// Each on a whole sequence that starts at position 0.  @param x (N,M)  @return (N,M)
  /// Keys and values of every token made once.
  Rows<Real> expanded(const Tensor<2>& x) const;
  /// Keys and values made from the cached row again for every query.
  Rows<Real> decompressed(const Tensor<2>& x) const;
  /// Queries moved to the latents.
  Rows<Real> absorbed(const Tensor<2>& x) const;

  /// (N,R+P)
  Rows<Real> latents(const Tensor<2>& x) const;

 private:
  struct Yarn {
    double factor, original_length, beta_fast, beta_slow, mscale, mscale_all_dim;
  };
  Rows<Real> weight(const Checkpoint& checkpoint, const std::string& name, index_t rows, index_t columns) const;
  Rows<Real> norm_weight(const Checkpoint& checkpoint, const std::string& name, index_t width) const;
  bool stretches(index_t tokens) const;
  std::vector<double> frequencies(index_t tokens) const;
  void rotate(Real* part, index_t position, index_t tokens) const;
  Rows<Real> queries(const Tensor<2>& x) const;  // (N,H*D), without any factor
  Real scale(index_t tokens) const;
  /// Row h * (plain + value) + i of kv_b times the latent.
  Real up(index_t row, const Rows<Real>& latents, index_t s) const;
  template <class Score, class Value>
  Rows<Real> attend(index_t tokens, Score score, index_t width, Value value) const;
  Rows<Real> output(const Rows<Real>& mixed) const;

  Mistake mistake_;
  index_t model_, heads_, rank_, rope_, plain_, value_, query_rank_;
  double theta_;
  bool has_yarn_;
  Yarn yarn_;
  Rows<Real> query_down_{0, 0}, query_norm_{0, 0}, query_up_{0, 0}, latent_down_{0, 0}, latent_norm_{0, 0},
      up_{0, 0}, output_{0, 0};
};

extern template class LatentOracle<float>;
extern template class LatentOracle<double>;

/// Largest |a - b| relative to the largest |b|.
double relative_difference(const Tensor<2>& a, const Tensor<2>& b);
template <class A, class B>
double relative_difference(const Rows<A>& a, const Rows<B>& b);
template <class B>
double relative_difference(const Tensor<2>& a, const Rows<B>& b);

}  // namespace kv::test::latent
