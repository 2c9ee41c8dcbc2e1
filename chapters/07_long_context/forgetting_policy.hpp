#pragma once
/// @file
/// Who says which rows are given up.
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "chapters/01_uncached_attention/row_source.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// A token that has just attended, and what it attended to: its own row is the last one of every head.
struct Attended {
  index_t position;
  std::optional<Token> token;  ///< where the layer was told
  const Tensor<3>& query;      ///< (1,H,D)
  const RowSource& rows;
  float scale;
};

/// Of tokens: any number.
inline constexpr index_t no_limit = std::numeric_limits<index_t>::max();

// [policy]
/// Chooses for one sequence in one layer. It hears of every token, one after the other, and never
/// of chunks or batches: what it chooses depends on the tokens before and on nothing else.
struct ForgettingPolicy {
  /// A token has attended. Every head has got its row.
  virtual void after(const Attended& token) = 0;
  /// The tokens so far were a prompt.
  virtual void prompt_ends(const RowSource& /*rows*/) {}
  /// Rows that head g gives up now, ascending. Asked before each new row and at a prompt's end.
  virtual std::vector<index_t> victims(index_t g) const = 0;
  /// So many tokens can come, at least, before a head gives up a row: they may attend together.
  virtual index_t spare() const = 0;
  /// Rows of head g have been given up: those behind them close up.
  virtual void drop(index_t g, std::span<const index_t> indices) = 0;
  /// What it has noted besides the rows.
  virtual StateBytes bytes() const = 0;
  virtual ~ForgettingPolicy() = default;
};
// [policy]

/// @param heads G, those that have rows of their own
using MakePolicy = std::function<std::unique_ptr<ForgettingPolicy>(index_t heads)>;

}  // namespace kv
