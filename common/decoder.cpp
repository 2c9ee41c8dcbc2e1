#include "common/decoder.hpp"

#include <set>

#include "common/error.hpp"
#include "common/rms_norm.hpp"

namespace kv {
namespace {

/// x += y
void add(Tensor<2>& x, const Tensor<2>& y) {
  require_shape("residual (N,M)", y, {x.shape(0), x.shape(1)});
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] += y.data()[i];
}

/// The rows of the last `count` tokens of every segment, `count` as in `batch`.
Tensor<2> rows_of_new(const Tensor<2>& x, const Batch& fed, const std::vector<NewTokens>& batch) {
  index_t total = 0;
  for (const NewTokens& part : batch) total += part.tokens.size();
  Tensor<2> result = empty<2>({total, x.shape(1)});
  index_t next = 0;
  for (index_t b = 0; b < batch.size(); ++b) {
    const index_t count = batch[b].tokens.size();
    put_rows(result, next, rows(x, fed[b].first_row + fed[b].rows - count, count));
    next += count;
  }
  return result;
}

}  // namespace

Decoder::Decoder(DecoderParts parts) : parts_(std::move(parts)), tokens_(parts_.limits.sequences) {}

Tensor<2> Decoder::logits(const std::vector<NewTokens>& batch) { return (*parts_.head)(hidden_of_new(batch)); }

Tensor<2> Decoder::last_logits(const std::vector<NewTokens>& batch) {
  const Tensor<2> hidden = hidden_of_new(batch);
  Tensor<2> last = empty<2>({batch.size(), hidden.shape(1)});
  index_t end = 0;
  for (index_t b = 0; b < batch.size(); ++b) {
    end += batch[b].tokens.size();
    put_rows(last, b, rows(hidden, end - 1, 1));
  }
  return (*parts_.head)(last);
}

Tensor<2> Decoder::hidden_of_new(const std::vector<NewTokens>& batch) {
  require_valid(batch);
  std::vector<index_t> lengths_before;
  for (const auto& [sequence, tokens] : batch) {
    lengths_before.push_back(length(sequence));
    tokens_[sequence].insert(tokens_[sequence].end(), tokens.begin(), tokens.end());
  }
  try {
    // [feed]
    // A layer is fed what it does not remember: the new tokens, or, uncached, the whole sequence.
    std::vector<NewTokens> fed;
    Batch segments;
    index_t next_row = 0;
    for (const NewTokens& part : batch) {
      const std::vector<Token>& all = tokens_[part.sequence];
      const index_t known = remembered(part.sequence);
      fed.push_back({part.sequence, {all.begin() + static_cast<std::ptrdiff_t>(known), all.end()}});
      segments.push_back({part.sequence, next_row, all.size() - known});
      next_row += all.size() - known;
    }
    // [feed]
    return rows_of_new(run_layers(embed(fed), segments), segments, batch);
  } catch (...) {
    for (index_t b = 0; b < batch.size(); ++b) truncate(batch[b].sequence, lengths_before[b]);
    throw;
  }
}

// [layers]
Tensor<2> Decoder::run_layers(Tensor<2> x, const Batch& batch) {
  for (DecoderLayer& layer : parts_.layers) {
    add(x, layer.attention->forward(rms_norm(x, layer.attention_norm, parts_.norm_epsilon), batch));
    add(x, layer.feed_forward->forward(rms_norm(x, layer.feed_forward_norm, parts_.norm_epsilon)));
  }
  return rms_norm(x, parts_.final_norm, parts_.norm_epsilon);
}
// [layers]

Tensor<2> Decoder::embed(const std::vector<NewTokens>& fed) const {
  index_t total = 0;
  for (const NewTokens& part : fed) total += part.tokens.size();
  Tensor<2> x = empty<2>({total, parts_.embedding.columns});
  index_t n = 0;
  for (const NewTokens& part : fed)
    for (const Token token : part.tokens) {
      for (index_t m = 0; m < x.shape(1); ++m) x(n, m) = parts_.embedding.at(static_cast<index_t>(token), m);
      ++n;
    }
  return x;
}

void Decoder::require_valid(const std::vector<NewTokens>& batch) const {
  std::set<index_t> seen;
  for (const auto& [sequence, tokens] : batch) {
    if (sequence >= tokens_.size())
      throw Error("sequence " + std::to_string(sequence) + " does not exist: the decoder was made for " +
                  std::to_string(tokens_.size()));
    if (!seen.insert(sequence).second)
      throw Error("sequence " + std::to_string(sequence) + " stands twice in one batch");
    if (tokens.empty()) throw Error("sequence " + std::to_string(sequence) + " has no new tokens");
    for (const Token token : tokens)
      if (token < 0 || static_cast<index_t>(token) >= parts_.embedding.rows)
        throw Error("token id " + std::to_string(token) + " is outside the vocabulary of " +
                    std::to_string(parts_.embedding.rows));
    if (const index_t wanted = length(sequence) + tokens.size(); wanted > parts_.limits.capacity)
      throw Error("sequence " + std::to_string(sequence) + " would have " + std::to_string(wanted) +
                  " tokens; the capacity is " + std::to_string(parts_.limits.capacity) +
                  ": shorten the prompt, ask for fewer new tokens, or raise the capacity");
  }
}

void Decoder::truncate(index_t sequence, index_t length) {
  if (length > tokens_.at(sequence).size())
    throw std::out_of_range("cannot truncate " + std::to_string(tokens_[sequence].size()) + " tokens to " +
                            std::to_string(length));
  tokens_[sequence].resize(length);
  for (DecoderLayer& layer : parts_.layers)
    if (layer.attention->length(sequence) > length) layer.attention->truncate(sequence, length);
}

std::size_t Decoder::state_bytes() const {
  std::size_t bytes = 0;
  for (const DecoderLayer& layer : parts_.layers) bytes += layer.attention->state_bytes();
  return bytes;
}

}  // namespace kv
