#pragma once
/// @file
/// Who makes the heads. Chapters 1 to 3 store heads and do not care where they come from.
#include <memory>

#include "chapters/01_uncached_attention/row_source.hpp"
#include "common/tensor/linear.hpp"
#include "common/tensor/rope.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Queries, keys and values of N tokens. Keys are already turned to their positions.
struct Heads {
  Tensor<3> queries;  // (N,H,D)
  Tensor<3> keys;     // (N,G,D)
  Tensor<3> values;   // (N,G,W)
};

/// H query heads share G key/value heads: G = H is multi-head, G = 1 multi-query, between them grouped-query attention.
/// Values may be narrower than keys (W < D) where another projection makes them.
struct HeadSizes {
  index_t query_heads, key_value_heads, key_width, value_width;
  index_t window = no_window;  ///< how many tokens each one sees in this layer, itself counted
};

/// The linear maps on both sides of attention.
struct HeadProjection {
  /// @param x (N,M)  @param positions (N), absolute  @throws ShapeError
  virtual Heads project(const Tensor<2>& x, std::span<const index_t> positions) const = 0;
  /// The queries alone, at positions that need not be the tokens' own.  @return (N,H,D)
  virtual Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> positions) const = 0;
  /// @param mixed (N,H,W), what every head has attended to  @return (N,M)
  virtual Tensor<2> output(const Tensor<3>& mixed) const = 0;
  virtual HeadSizes sizes() const = 0;
  virtual ~HeadProjection() = default;
};

/// The projection of Llama and Qwen3: three matrices, optionally a norm on every query and key head, half-split RoPE.
class GroupedProjection : public HeadProjection {
 public:
  struct Weights {
    std::shared_ptr<const Linear> query, key, value, output;  // (H*D,M) (G*D,M) (G*D,M) (M,H*D); no output: never asked for
    Tensor<1> query_norm, key_norm;                           // (D), or empty: no norm
    float norm_epsilon = 0.0f;
  };
  /// @throws ShapeError when a matrix does not fit the sizes
  GroupedProjection(Weights weights, HeadSizes sizes, Rope rope);

  Heads project(const Tensor<2>& x, std::span<const index_t> positions) const override;
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> positions) const override;
  Tensor<2> output(const Tensor<3>& mixed) const override;
  HeadSizes sizes() const override { return sizes_; }

 private:
  /// Heads from a projection: split, normed if there is a norm, turned.
  Tensor<3> turned(const Tensor<2>& projected, index_t heads, const Tensor<1>& norm, const RopeTable& table) const;

  Weights weights_;
  HeadSizes sizes_;
  Rope rope_;
};

/// Throws ShapeError with the label unless the matrix is (outputs,inputs).
void require_sizes(const char* label, const Linear& matrix, index_t outputs, index_t inputs);

/// Throws ShapeError unless there are as many positions as rows. A batch that names more or fewer rows than there are must
/// not get past a projection: nothing is remembered yet.
void require_position_for_every_row(std::span<const index_t> positions, const Tensor<2>& x);

/// (N, H*D) seen as (N,H,D).
Tensor<3> split_heads(const Tensor<2>& x, index_t heads);
/// (N,H,D) seen as (N, H*D).
Tensor<2> join_heads(const Tensor<3>& x);

}  // namespace kv
