#pragma once
/// @file
/// Tokens back to text, one after the other.
#include <memory>
#include <string>
#include <string_view>

#include "common/files/json.hpp"
#include "common/text/budget.hpp"

namespace kv {

/// Where a text stands between two tokens.
struct Decoding {
  Budget budget;           ///< for all of the text
  std::string pending;     ///< bytes that do not make a text yet
  bool at_start = true;    ///< no token so far
  index_t stripped = 0;    ///< characters taken away at the start so far
  bool stripping = true;   ///< more may be taken away
};

/// The `decoder` of tokenizer.json. The pieces that push() and finish() give, put together, are the whole text, and
/// each is whole UTF-8 characters.
struct TextDecoder {
  /// What has become final with this token.  @throws Error when the budget is used up
  virtual std::string push(Decoding& decoding, std::string_view token) const = 0;
  /// What is left at the end; the decoding starts anew.
  virtual std::string finish(Decoding& decoding) const = 0;
  virtual ~TextDecoder() = default;
};

/// ByteLevel, Metaspace, or a Sequence of Replace, ByteFallback, Fuse and Strip in the order Llama 2 has them.
/// @throws Error naming what else is declared
std::unique_ptr<const TextDecoder> read_text_decoder(const Json& decoder);

}  // namespace kv
