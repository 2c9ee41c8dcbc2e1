#pragma once
/// @file
/// Who makes the heads of multi-head latent attention (MLA): every token is squeezed into one short row, the latent and
/// one rotated key, and keys and values of all heads can be made from that row at any later time.
/// @see DeepSeek-AI 2024, section 2.1, arXiv:2405.04434
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/04_latent_cache/latent_sizes.hpp"

namespace kv {

/// The norms inside attention have an epsilon of their own: DeepSeek's code does not pass rms_norm_eps on to them.
inline constexpr float latent_norm_epsilon = 1e-6f;

/// The linear maps of an MLA layer. As a HeadProjection it makes every head's keys and values in full, so that chapters
/// 1 to 3 run on it unchanged: `preallocated` on such a checkpoint is what DeepSeek's code calls naive.
class LatentProjection : public HeadProjection {
 public:
  struct Weights {
    std::shared_ptr<const Linear> query_down;  // (query_rank,M), or none: queries are made from x itself
    Tensor<1> query_norm;                      // (query_rank), or empty
    std::shared_ptr<const Linear> query_up;    // (H*D,query_rank), or (H*D,M)
    std::shared_ptr<const Linear> latent_down; // (R+P,M)
    Tensor<1> latent_norm;                     // (R)
    std::shared_ptr<const Linear> latent_up;   // (H*(plain+W),R): of every head, first W_UK, then W_UV
    std::shared_ptr<const Linear> output;      // (M,H*W), or none: never asked for
  };

  /// @param rope of width P, interleaved
  /// @param softmax_factor multiplies the queries: scores of every form are divided by sqrt(D) and by nothing else
  /// @throws ShapeError when a matrix does not fit the sizes
  LatentProjection(Weights weights, LatentSizes sizes, Rope rope, float softmax_factor);

  /// What a token leaves behind for all heads: the latent after its norm, then the key part after its rotation.
  /// @param x (N,M)  @param positions (N), absolute  @return (N,R+P)
  Tensor<2> latents(const Tensor<2>& x, std::span<const index_t> positions) const;

  /// Every head's query: plain part, then rotated part; times the softmax factor.  @return (N,H,D)
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> positions) const override;

  /// Keys and values of all heads.
  struct Expanded {
    Tensor<3> keys;    // (S,H,D): W_UK,h c, then the rotated part, the same in every head
    Tensor<3> values;  // (S,H,W): W_UV,h c
  };
  /// @param latents (S,R+P)
  Expanded expand(const Tensor<2>& latents) const;

  Heads project(const Tensor<2>& x, std::span<const index_t> positions) const override;
  Tensor<2> output(const Tensor<3>& mixed) const override;
  HeadSizes sizes() const override { return sizes_.expanded(); }
  const LatentSizes& latent_sizes() const { return sizes_; }

 private:
  Weights weights_;
  LatentSizes sizes_;
  Rope rope_;
  float softmax_factor_;
};

}  // namespace kv
