#include "common/model/layer_stack.hpp"

#include "common/tensor/rms_norm.hpp"

namespace kv {
namespace {

/// x += y
void add(Tensor<2>& x, const Tensor<2>& y) {
  require_shape("residual (N,M)", y, {x.shape(0), x.shape(1)});
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] += y.data()[i];
}

Tensor<2> chosen_rows(const Tensor<2>& x, std::span<const index_t> wanted) {
  Tensor<2> result = empty<2>({wanted.size(), x.shape(1)});
  for (index_t i = 0; i < wanted.size(); ++i) put_rows(result, i, rows(x, wanted[i], 1));
  return result;
}

}  // namespace

Tensor<2> LayerStack::logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) {
  for (const DecoderLayer& layer : parts_.layers) layer.attention->require_room(batch);
  return (*parts_.head)(chosen_rows(run_layers(embed(tokens), batch), wanted));
}

Tensor<2> LayerStack::embed(std::span<const Token> tokens) const {
  Tensor<2> x = empty<2>({tokens.size(), parts_.embedding.columns});
  for (index_t n = 0; n < tokens.size(); ++n)
    for (index_t m = 0; m < x.shape(1); ++m) x(n, m) = parts_.embedding.at(static_cast<index_t>(tokens[n]), m);
  return x;
}

// [layers]
Tensor<2> LayerStack::run_layers(Tensor<2> x, const Batch& batch) {
  for (DecoderLayer& layer : parts_.layers) {
    add(x, layer.attention->forward(rms_norm(x, layer.attention_norm, parts_.norm_epsilon), batch));
    add(x, layer.feed_forward->forward(rms_norm(x, layer.feed_forward_norm, parts_.norm_epsilon)));
  }
  return rms_norm(x, parts_.final_norm, parts_.norm_epsilon);
}
// [layers]

index_t LayerStack::truncate(index_t sequence, index_t length) {
  for (bool even = false; !even;) {
    even = true;  // until a layer keeps less than those before it
    for (DecoderLayer& layer : parts_.layers) {
      index_t kept = layer.attention->length(sequence);
      if (kept > length) kept = layer.attention->truncate(sequence, length);
      if (kept < length && &layer != &parts_.layers.front()) even = false;
      length = std::min(length, kept);
    }
  }
  return length;
}

index_t LayerStack::share(index_t from, index_t to, index_t length) {
  for (DecoderLayer& layer : parts_.layers) length = layer.attention->share(from, to, length);
  return truncate(to, length);
}

void LayerStack::prompt_ends(index_t sequence) {
  for (DecoderLayer& layer : parts_.layers) layer.attention->prompt_ends(sequence);
}

StateBytes LayerStack::state_bytes() const {
  StateBytes bytes;
  for (const DecoderLayer& layer : parts_.layers) bytes += layer.attention->state_bytes();
  return bytes;
}

}  // namespace kv
