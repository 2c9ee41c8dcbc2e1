#pragma once
/// @file
/// The tests that every chapter's attention passes, on one layer. A chapter's test file names them one by one and says
/// which kind of equal it promises.
#include <functional>
#include <memory>
#include <vector>

#include "common/model/attention.hpp"
#include "tests/support/oracle.hpp"

namespace kv::test {

/// Random weights of one layer: as the book's projection, and as the oracle reads them.
struct RandomProjection {
  RandomProjection(HeadSizes sizes, index_t width, bool norms, unsigned seed);
  index_t width;
  oracle::AttentionWeights weights;
  std::shared_ptr<const HeadProjection> projection;
};

/// Multi-head, grouped and multi-query; with and without norms; values narrower than keys; widths that fill no vector.
std::vector<RandomProjection> all_kinds_of_heads();
RandomProjection grouped_heads();

/// How a chapter makes its attention.
using MakeAttention =
    std::function<std::unique_ptr<Attention>(std::shared_ptr<const HeadProjection> projection, const Limits& limits)>;

/// New rows of one sequence.
struct NewRows {
  index_t sequence;
  Tensor<2> rows;  // (T,M)
};

/// Feeds a layer as the decoder does: what it does not remember, then what is new.
class Feeder {
 public:
  Feeder(std::unique_ptr<Attention> attention, index_t sequences);

  /// @return the outputs of the new rows, in the order given. When the layer throws, nothing has been fed.
  Tensor<2> operator()(const std::vector<NewRows>& batch);
  Tensor<2> operator()(index_t sequence, const Tensor<2>& rows) { return (*this)({{sequence, rows}}); }
  void truncate(index_t sequence, index_t length);

  Attention& attention() { return *attention_; }
  index_t fed(index_t sequence) const { return history_.at(sequence).shape(0); }

 private:
  std::unique_ptr<Attention> attention_;
  std::vector<Tensor<2>> history_;  // every sequence's rows so far
};

/// A sequence in pieces, one call for each.
Tensor<2> feed_in_chunks(Feeder& feeder, index_t sequence, const Tensor<2>& rows, const std::vector<index_t>& chunks);

/// a's rows, then b's.
Tensor<2> stack(const Tensor<2>& a, const Tensor<2>& b);

// ---- the rungs; each is one or more CHECKs ----

/// rel 1e-5: the oracle is in double precision.
void agrees_with_the_oracle(const MakeAttention& make);
/// exact, for all kinds of heads, in chunks and in one.
void repeats(const MakeAttention& make, const MakeAttention& previous);
/// exact: any way to cut the sequence.
void chunking_changes_nothing(const MakeAttention& make);
/// exact: sequences of different lengths, in one call and alone.
void batch_row_equals_solo_run(const MakeAttention& make);
/// exact: a future token changes no earlier row, and a past one changes the later rows.
void looks_back_only(const MakeAttention& make);
/// exact: after truncate, and after truncate to 0, as if the forgotten rows had never been. They were NaN.
void forgets_what_is_truncated(const MakeAttention& make);
/// Malformed input is refused by name and leaves lengths and later outputs as they were.
void refuses_wrong_shapes(const MakeAttention& make);

/// The message of the ShapeError that an action throws; one line.
std::string shape_error_of(const std::function<void()>& action);

}  // namespace kv::test
