#include "chapters/07_long_context/forgetting_cache.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {
namespace {

/// Indices first ... first+count-1.
std::vector<index_t> consecutive(index_t first, index_t count) {
  std::vector<index_t> result(count);
  for (index_t i = 0; i < count; ++i) result[i] = first + i;
  return result;
}

/// Rows as a token saw them: without those of the last `behind` tokens.
class RowsBefore : public RowSource {
 public:
  RowsBefore(const RowSource& rows, index_t behind) : rows_(rows), behind_(behind) {}
  index_t heads() const override { return rows_.heads(); }
  index_t value_width() const override { return rows_.value_width(); }
  index_t count(index_t g) const override { return rows_.count(g) - behind_; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override { return rows_.block(g, first, count); }

 private:
  const RowSource& rows_;
  index_t behind_;
};

}  // namespace

ForgettingCache::ForgettingCache(const ForgettingSizes& sizes, MakePolicy make_policy)
    : sizes_(sizes),
      make_policy_(std::move(make_policy)),
      rows_(sizes.layout, sizes.room),
      policy_(make_policy_(sizes.layout.heads)) {}

// [attend]
index_t ForgettingCache::together(index_t count) const {
  for (index_t g = 0; g < rows_.heads(); ++g)
    if (rows_.count(g) != length_) return 1;  // a row's number is no longer its position
  const index_t of_window = sizes_.window - std::min(sizes_.window, length_);
  return std::clamp<index_t>(std::min(policy_->spare(), of_window), 1, count);
}

Tensor<3> ForgettingCache::attend(const Tensor<3>& queries, float scale,
                                  std::span<const Token> tokens, const AppendRow& append) {
  leave_window();
  give_up();
  const index_t T = queries.shape(0);
  for (index_t t = 0; t < T; ++t) append(rows_, t, length_ + t);
  Tensor<3> mixed = kv::attend(queries, rows_, {.position = length_}, scale);
  for (index_t t = 0; t < T; ++t, ++length_) {
    const auto token = t < tokens.size() ? std::optional(tokens[t]) : std::nullopt;
    const RowsBefore seen(rows_, T - 1 - t);
    policy_->after({length_, token, kv::rows(queries, t, 1), seen, scale});
  }
  return mixed;
}

void ForgettingCache::give_up() {
  for (index_t g = 0; g < rows_.heads(); ++g) drop(g, policy_->victims(g));
}
// [attend]

void ForgettingCache::drop(index_t g, std::span<const index_t> indices) {
  rows_.drop(g, indices);
  policy_->drop(g, indices);
}

/// In a layer that was made with a window the next token does not see what lies before it, whatever the policy says.
void ForgettingCache::leave_window() {
  if (length_ < sizes_.window) return;
  for (index_t g = 0; g < rows_.heads(); ++g) {
    index_t outside = 0;
    for (const index_t position : rows_.positions(g)) outside += length_ - position >= sizes_.window;
    drop(g, consecutive(0, outside));
  }
}

void ForgettingCache::prompt_ends() {
  policy_->prompt_ends(rows_);
  give_up();
}

// [truncate]
index_t ForgettingCache::truncate(index_t length) {
  require_held(length, length_);
  if (length < length_) *this = ForgettingCache(sizes_, make_policy_);
  return length_;
}
// [truncate]

StateBytes ForgettingCache::bytes() const {
  StateBytes sum = rows_.bytes();
  return sum += policy_->bytes();
}

// [batch]
Tensor<3> attend_forgetting(const Tensor<3>& queries, const Batch& batch,
                            std::vector<ForgettingCache>& caches, float scale,
                            const AppendRowOf& append) {
  const index_t H = queries.shape(1), W = caches.front().rows().value_width();
  Tensor<3> mixed = empty<3>({queries.shape(0), H, W});
  for (const auto& [sequence, first, count, position, tokens] : batch) {
    ForgettingCache& cache = caches.at(sequence);
    for (index_t t = 0, T; t < count; t += T) {
      T = cache.together(count - t);
      const index_t n = first + t;
      const auto own = tokens.empty() ? tokens : tokens.subspan(t, T);
      const auto append_own = [&](KeptRows& rows, index_t i, index_t position) {
        append(rows, n + i, position);
      };
      put_rows(mixed, n, cache.attend(rows(queries, n, T), scale, own, append_own));
    }
  }
  return mixed;
}
// [batch]

}  // namespace kv
