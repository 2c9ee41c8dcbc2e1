#pragma once
/// @file
/// Text to token ids and back, from a Hugging Face tokenizer.json of the byte-pair-encoding kind.
///
/// The way of a text: added tokens are cut out (added_tokens.hpp), the rest is normalized (normalizer.hpp), cut into
/// words (pre_tokenizer.hpp), and every word is merged into tokens (byte_pair.hpp). Back: text_decoder.hpp.
/// @see Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 for bytes as the alphabet
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/files/json.hpp"
#include "common/tensor/tensor.hpp"
#include "common/text/text_decoder.hpp"
#include "common/text/token.hpp"

namespace kv {

/// Reads tokenizer.json of GPT-2, Llama 2 and 3, Mistral, Qwen and DeepSeek. What a file declares and this program does
/// not know is named in an Error, never ignored; except `truncation` and `padding`, which are about batches for
/// training. An object of this class does not change, so threads may share it.
class Tokenizer {
 public:
  /// @throws Error naming file and key
  explicit Tokenizer(const std::filesystem::path& file);
  /// What is in such a file.
  explicit Tokenizer(const Json& file);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  /// Special tokens that stand in the text are recognised. Nothing is added before or after.
  /// @param text any bytes; what is not UTF-8 counts as U+FFFD
  /// @throws Error for a character that no token can spell; a byte-level tokenizer can spell all
  std::vector<Token> encode(std::string_view text) const;
  /// The same, with what the file's post-processor adds (a begin-of-text token, say).
  std::vector<Token> encode_with_special(std::string_view text) const;

  /// The text of all tokens, special tokens included. Always UTF-8: half a character becomes U+FFFD.
  /// @throws std::out_of_range for an unknown id
  std::string decode(std::span<const Token> tokens) const;

  /// The id of a token by its text as the file writes it, if there is one.
  std::optional<Token> find(std::string_view token) const;
  /// A token as the file writes it.  @throws std::out_of_range for an unknown id
  const std::string& spelling(Token token) const;
  bool is_special(Token token) const;
  /// Largest id + 1.
  index_t size() const;

 private:
  struct Tables;
  std::unique_ptr<const Tables> tables_;
  friend class TextStream;
};

/// Decodes token by token and hands out whole UTF-8 characters only: a character split over two tokens comes with the
/// second. All that push() and finish() give is together what decode() gives for the tokens that are not special.
class TextStream {
 public:
  /// @param tokenizer must outlive the stream
  explicit TextStream(const Tokenizer& tokenizer);
  /// The text that has become complete. Special tokens give nothing, nor do ids without a token: the output matrix of
  /// many checkpoints has more rows than the tokenizer has tokens.
  std::string push(Token token);
  /// What is left at the end; incomplete bytes become U+FFFD. The stream starts anew.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  Decoding decoding_;
};

}  // namespace kv
