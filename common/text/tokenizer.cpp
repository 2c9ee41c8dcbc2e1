#include "common/text/tokenizer.hpp"

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "common/files/error.hpp"
#include "common/text/added_tokens.hpp"
#include "common/text/byte_pair.hpp"
#include "common/text/normalizer.hpp"
#include "common/text/post_processor.hpp"
#include "common/text/pre_tokenizer.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv {

struct Tokenizer::Tables {
  /// A token by its id.
  struct Entry {
    std::string text;
    bool special = false;
  };

  BytePair model;
  Normalizer normalize = [](std::string text, Budget&) { return text; };
  PreTokenizer cut_into_words = [](std::vector<Word> words, Budget&) { return words; };
  Frame frame;
  std::unique_ptr<const TextDecoder> decoder;
  TextMap<Token> added;
  AddedTokenFinder in_raw_text, in_normalized_text;
  std::unordered_map<Token, Entry> entries;
  index_t size = 0;

  explicit Tables(const Json& file);
  void add_entry(Token token, Entry entry);
  void read_added_tokens(const Json& list);
  void require_frame(const Json& file) const;

  void encode(std::string_view text, std::vector<Token>& tokens) const;
  void encode_normalized(std::string_view text, bool starts_text, Budget& budget, std::vector<Token>& tokens) const;
};

Tokenizer::Tables::Tables(const Json& file)
    : model(file.at("model")),
      in_raw_text(file.where() + ": added_tokens"),
      in_normalized_text(file.where() + ": added_tokens") {
  // What it says of truncation and padding is not done: transformers takes both back before it encodes a text.
  require_known_keys(file, {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                            "post_processor", "decoder", "model"});
  if (file.has("normalizer")) normalize = read_normalizer(file.at("normalizer"));
  if (file.has("pre_tokenizer")) cut_into_words = read_pre_tokenizer(file.at("pre_tokenizer"));
  if (file.has("post_processor")) frame = read_post_processor(file.at("post_processor"));
  decoder = read_text_decoder(file.at("decoder"));
  for (const auto& [text, token] : model.vocabulary()) add_entry(token, {text});
  if (file.has("added_tokens")) read_added_tokens(file.at("added_tokens"));
  require_frame(file);
}

void Tokenizer::Tables::add_entry(Token token, Entry entry) {
  entries.insert_or_assign(token, std::move(entry));
  size = std::max(size, static_cast<index_t>(token) + 1);
}

namespace {
struct Declaration {
  Json json;
  AddedToken token;
};

/// Where a token is declared several times, the last declaration holds; but once special it stays special.
std::vector<Declaration> without_repetition(const Json& list) {
  std::vector<Declaration> tokens;
  TextMap<std::size_t> place;
  for (index_t i = 0; i < list.length(); ++i) {
    const Json json = list.at(i);
    AddedToken token = read_added_token(json);
    const auto [found, is_new] = place.emplace(token.text, tokens.size());
    if (is_new) {
      tokens.push_back({json, std::move(token)});
      continue;
    }
    AddedToken& before = tokens[found->second].token;
    if (token.token != before.token)
      throw Error(json.at("id").where() + " is " + std::to_string(token.token) + ", but the same token is declared as " +
                  std::to_string(before.token) + " before");
    token.special |= before.special;
    before = std::move(token);
  }
  return tokens;
}
}  // namespace

void Tokenizer::Tables::read_added_tokens(const Json& list) {
  Budget budget;  // for all of them
  for (const auto& [json, token] : without_repetition(list)) {
    added.emplace(token.text, token.token);
    const auto in_vocabulary = model.find(token.text);
    if (in_vocabulary && *in_vocabulary != token.token)
      throw Error(json.at("id").where() + " is " + std::to_string(token.token) + ", but model.vocab has it as " +
                  std::to_string(*in_vocabulary));
    if (!in_vocabulary && entries.contains(token.token))
      throw Error(json.at("id").where() + " is " + std::to_string(token.token) + ", which another token has");

    const std::string pattern = token.normalized ? normalize(token.text, budget) : token.text;
    if (pattern.empty()) throw Error(json.at("content").where() + " is nothing after normalization");
    if (!(token.normalized ? in_normalized_text : in_raw_text).add(pattern, token))
      throw Error(json.at("content").where() + " is the same as another's after normalization");
    add_entry(token.token, {pattern, token.special});
  }
}

void Tokenizer::Tables::require_frame(const Json& file) const {
  for (const auto& side : {frame.before, frame.after})
    for (const Token token : side)
      if (!entries.contains(token))
        throw Error(file.at("post_processor").where() + " adds the token " + std::to_string(token) +
                    ", which does not exist");
}

namespace {
std::string text_of(const TextPart& part, std::string_view text) {
  return std::string(text.substr(part.begin, part.end - part.begin));
}
}  // namespace

void Tokenizer::Tables::encode(std::string_view any_bytes, std::vector<Token>& tokens) const {
  const std::string text = replace_invalid_utf8(any_bytes);
  Budget budget(text.size());
  for (const TextPart& part : in_raw_text.split(text, budget)) {
    if (part.token) tokens.push_back(*part.token);
    else encode_normalized(normalize(text_of(part, text), budget), part.begin == 0, budget, tokens);
  }
}

void Tokenizer::Tables::encode_normalized(std::string_view text, bool starts_text, Budget& budget,
                                          std::vector<Token>& tokens) const {
  for (const TextPart& part : in_normalized_text.split(text, budget)) {
    if (part.token) {
      tokens.push_back(*part.token);
      continue;
    }
    const Word whole{text_of(part, text), starts_text && part.begin == 0};
    for (const Word& word : cut_into_words({whole}, budget)) model.encode(word.text, tokens);
  }
}

Tokenizer::Tokenizer(const std::filesystem::path& file) : Tokenizer(Json::read(file)) {}
Tokenizer::Tokenizer(const Json& file) : tables_(std::make_unique<const Tables>(file)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<Token> Tokenizer::encode(std::string_view text) const {
  std::vector<Token> tokens;
  tables_->encode(text, tokens);
  return tokens;
}

std::vector<Token> Tokenizer::encode_with_special(std::string_view text) const {
  std::vector<Token> tokens = tables_->frame.before;
  tables_->encode(text, tokens);
  tokens.insert(tokens.end(), tables_->frame.after.begin(), tables_->frame.after.end());
  return tokens;
}

std::string Tokenizer::decode(std::span<const Token> tokens) const {
  Decoding decoding;
  std::string text;
  for (const Token token : tokens) {
    const auto entry = tables_->entries.find(token);
    if (entry == tables_->entries.end()) throw std::out_of_range("decode: there is no token " + std::to_string(token));
    text += tables_->decoder->push(decoding, entry->second.text);
  }
  return text + tables_->decoder->finish(decoding);
}

std::optional<Token> Tokenizer::find(std::string_view token) const {
  const auto found = tables_->added.find(token);
  return found != tables_->added.end() ? std::optional(found->second) : tables_->model.find(token);
}

const std::string& Tokenizer::spelling(Token token) const { return tables_->entries.at(token).text; }

bool Tokenizer::is_special(Token token) const {
  const auto entry = tables_->entries.find(token);
  return entry != tables_->entries.end() && entry->second.special;
}

index_t Tokenizer::size() const { return tables_->size; }

TextStream::TextStream(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

std::string TextStream::push(Token token) {
  const Tokenizer::Tables& tables = *tokenizer_->tables_;
  const auto entry = tables.entries.find(token);
  if (entry == tables.entries.end() || entry->second.special) return "";
  return tables.decoder->push(decoding_, entry->second.text);
}

std::string TextStream::finish() { return tokenizer_->tables_->decoder->finish(decoding_); }

}  // namespace kv
