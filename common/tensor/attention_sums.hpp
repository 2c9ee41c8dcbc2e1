#pragma once
/// @file
/// The two sums of attention, over many rows at once. Each has one fixed order that depends on nothing but its own
/// length, so a score is the same bits whether it is computed alone, in a batch, or a step later.
#include "common/tensor/tensor.hpp"

namespace kv {

/// scores[s] = query . rows[s] for every row s.
/// Order: 16 partial sums, element i goes to sum i mod 16 as one FMA chain, then a fixed tree.
/// @param query (D)  @param rows `count` rows of width D  @param scores (count), written
/// @throws ShapeError
void dot_rows(std::span<const float> query, const RowsView& rows, std::span<float> scores);

/// The same for several queries that look at the same rows (the heads of a group): every row
/// is read once for all of them. scores[q * scores_stride + s], equal bits to one query at a time.
/// @param queries (Q,D)  @param rows (S,D)
void dot_rows(const RowsView& queries, const RowsView& rows, float* scores, index_t scores_stride);

/// out[q * out_stride + d] += sum over s of weights[q][s] * rows[s][d].
/// Order: one FMA chain over ascending s that starts with what `out` holds, so a sum may come in pieces.
/// @param weights (Q,S)  @param rows (S,D)  @param out Q rows of D, at least D apart
/// @throws ShapeError
void add_weighted_rows(const RowsView& weights, const RowsView& rows, float* out, index_t out_stride);

/// Stored rows that attention will read after these, in whatever format.
struct NextRows {
  const void* data;
  index_t bytes, stride;  // of a row, and from one to the next
};

/// The same, and fetches a next row for every row, so that memory works while the sums are computed. Without it what lies behind
/// `rows` is fetched: of copies in a wider format that would be nothing of use.
void add_weighted_rows(const RowsView& weights, const RowsView& rows, const NextRows& next, float* out, index_t out_stride);

/// x *= factor, every element.
void scale(std::span<float> x, float factor);

}  // namespace kv
