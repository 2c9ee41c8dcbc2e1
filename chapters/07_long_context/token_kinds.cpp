#include "chapters/07_long_context/token_kinds.hpp"

#include "common/text/tokenizer.hpp"

namespace kv {
namespace {

bool is_punctuation(std::string_view text) {
  constexpr std::string_view blanks = " \t\n\r", marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
  return text.find_first_not_of(blanks) != text.npos &&
         text.find_first_not_of(std::string(blanks) + std::string(marks)) == text.npos;
}

}  // namespace

std::shared_ptr<const TokenKinds> token_kinds(const Checkpoint& checkpoint) {
  const std::filesystem::path file = checkpoint.directory() / "tokenizer.json";
  auto kinds = std::make_shared<TokenKinds>();
  if (!std::filesystem::exists(file)) return kinds;
  const Tokenizer tokenizer(file);
  TextStream text(tokenizer);
  for (index_t id = 0; id < tokenizer.size(); ++id) {
    const Token token = static_cast<Token>(id);
    const bool special = tokenizer.is_special(token), punctuation = is_punctuation(text.push(token) + text.finish());
    kinds->push_back(special ? TokenKind::special : punctuation ? TokenKind::punctuation : TokenKind::word);
  }
  return kinds;
}

}  // namespace kv
