#pragma once
/// @file
/// A sequence whose rows a policy gives up, and a batch through several of them.
#include "chapters/07_long_context/forgetting_policy.hpp"
#include "chapters/07_long_context/kept_rows.hpp"

namespace kv {

/// What the sequences of a layer have in common.
struct ForgettingSizes {
  RowLayout layout;
  index_t room = 0;            ///< rows of each head that memory is taken for from the beginning
  index_t window = no_window; ///< the layer's own
};

/// Writes the row of token t of those that come behind the others.
using AppendRow = std::function<void(KeptRows& rows, index_t t, index_t position)>;

/// Rows of one sequence, and who gives them up.
class ForgettingCache {
 public:
  ForgettingCache(const ForgettingSizes& sizes, MakePolicy make_policy);

  index_t length() const { return length_; }
  const KeptRows& rows() const { return rows_; }

  /// How many of the next `count` tokens may come together, since no row is given up between them; at least one.
  index_t together(index_t count) const;
  /// Tokens come, as many as may come together: the rows that the first of them shall not see are given up, their own are appended,
  /// and they attend.
  /// @param queries (T,H,D)  @param tokens where the layer was told, or none  @param append puts a row at the position it is told
  /// @return (T,H,W)
  Tensor<3> attend(const Tensor<3>& queries, float scale, std::span<const Token> tokens, const AppendRow& append);
  void prompt_ends();
  /// Keeps all `length` rows, or none: what was given up and what was noted of the others is also the doing of tokens that are
  /// now taken back.  @return how many tokens are remembered  @throws std::out_of_range when there are fewer
  index_t truncate(index_t length);
  StateBytes bytes() const;

 private:
  void leave_window();
  void give_up();
  void drop(index_t g, std::span<const index_t> indices);

  ForgettingSizes sizes_;
  MakePolicy make_policy_;
  KeptRows rows_;
  std::unique_ptr<ForgettingPolicy> policy_;
  index_t length_ = 0;
};

/// Writes row n of the batch behind the rows of a sequence.
using AppendRowOf = std::function<void(KeptRows& rows, index_t n, index_t position)>;

/// Appends and attends every segment. Once rows are given up, one token at a time: which rows the next one sees is not known before.
/// @param queries (N,H,D)  @param caches one for each sequence  @return (N,H,W)
Tensor<3> attend_forgetting(const Tensor<3>& queries, const Batch& batch,
                            std::vector<ForgettingCache>& caches, float scale, const AppendRowOf& append);

}  // namespace kv
