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

}  // namespace

ForgettingCache::ForgettingCache(const ForgettingSizes& sizes, MakePolicy make_policy)
    : sizes_(sizes),
      make_policy_(std::move(make_policy)),
      rows_(sizes.layout, sizes.room),
      policy_(make_policy_(sizes.layout.heads)) {}

// [attend]
Tensor<3> ForgettingCache::attend(const Tensor<3>& query, float scale,
                                  std::optional<Token> token, const AppendRow& append) {
  leave_window();
  give_up();
  append(rows_, length_);
  Tensor<3> mixed = kv::attend(query, rows_, {.position = length_}, scale);
  policy_->after({length_, token, query, rows_, scale});
  ++length_;
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
  for (const auto& [sequence, first, count, position, tokens] : batch)
    for (index_t t = 0, n = first; t < count; ++t, ++n) {
      const auto token = t < tokens.size() ? std::optional(tokens[t]) : std::nullopt;
      const auto append_own = [&](KeptRows& rows, index_t at) { append(rows, n, at); };
      put_rows(mixed, n,
               caches.at(sequence).attend(rows(queries, n, 1), scale, token, append_own));
    }
  return mixed;
}
// [batch]

}  // namespace kv
