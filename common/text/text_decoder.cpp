#include "common/text/text_decoder.hpp"

#include <functional>
#include <utility>
#include <vector>

#include "common/files/error.hpp"
#include "common/text/byte_alphabet.hpp"
#include "common/text/byte_pair.hpp"
#include "common/text/pattern.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

/// Tokens spell bytes in GPT-2's alphabet. A character may be spread over several tokens.
class ByteLevelDecoder : public TextDecoder {
 public:
  std::string push(Decoding& decoding, std::string_view token) const override {
    decoding.pending += from_byte_alphabet(token).value_or(std::string(token));  // "<｜User｜>" is no spelling: as it is
    const std::size_t whole = final_length(decoding.pending);
    const std::string text = replace_invalid_utf8(std::string_view(decoding.pending).substr(0, whole));
    decoding.pending.erase(0, whole);
    return text;
  }

  std::string finish(Decoding& decoding) const override {
    const std::string text = replace_invalid_utf8(decoding.pending);
    decoding = {};
    return text;
  }

 private:
  /// How many bytes no later byte can change the reading of.
  static std::size_t final_length(std::string_view bytes) {
    std::size_t length = 0;
    while (length < bytes.size()) {
      const Utf8Front front = utf8_front(bytes.substr(length));
      if (front.kind == Utf8Front::unfinished) break;
      length += front.length;
    }
    return length;
  }
};

/// Changes the text of one token; `decoding` knows whether it is the first of all.
using TokenStep = std::function<std::string(const std::string& token, Decoding& decoding)>;

/// Takes a character away at the start of the text, up to `count` times: the space that the normalizer put there.
struct Strip {
  std::string character;
  index_t count = 0;
};

/// Tokens are pieces of text. Those that stand for single bytes count as text when a whole run of them is UTF-8,
/// otherwise each becomes U+FFFD.
class PieceDecoder : public TextDecoder {
 public:
  PieceDecoder(std::vector<TokenStep> steps, bool byte_fallback, Strip strip)
      : steps_(std::move(steps)), byte_fallback_(byte_fallback), strip_(std::move(strip)) {}

  std::string push(Decoding& decoding, std::string_view token) const override {
    std::string text(token);
    decoding.budget.add_text(token.size());
    for (const TokenStep& step : steps_) text = step(text, decoding);
    decoding.at_start = false;
    const auto byte = byte_fallback_ ? byte_of_token(text) : std::nullopt;
    if (byte) {
      decoding.pending += static_cast<char>(*byte);
      return "";
    }
    return strip(decoding, end_of_run(decoding) + text);
  }

  std::string finish(Decoding& decoding) const override {
    const std::string text = strip(decoding, end_of_run(decoding));
    decoding = {};
    return text;
  }

 private:
  static std::string end_of_run(Decoding& decoding) {
    const std::string run = std::exchange(decoding.pending, "");
    if (is_utf8(run)) return run;
    std::string text;
    for (std::size_t i = 0; i < run.size(); ++i) text += replacement_character;
    return text;
  }

  std::string strip(Decoding& decoding, std::string text) const {
    std::string_view left = text;
    while (decoding.stripping && !left.empty()) {
      decoding.stripping = decoding.stripped < strip_.count && left.starts_with(strip_.character);
      if (!decoding.stripping) break;
      left.remove_prefix(strip_.character.size());
      ++decoding.stripped;
    }
    return std::string(left);
  }

  std::vector<TokenStep> steps_;
  bool byte_fallback_;
  Strip strip_;
};

std::unique_ptr<const TextDecoder> read_byte_level(const Json& json) {
  require_known_keys(json, {"type", "add_prefix_space", "trim_offsets", "use_regex"});  // all three are about encoding
  return std::make_unique<ByteLevelDecoder>();
}

TokenStep read_replace(const Json& json) {
  require_known_keys(json, {"type", "pattern", "content"});
  return [pattern = Pattern::read(json.at("pattern")), content = json.at("content").text()](
             const std::string& token, Decoding& decoding) {
    return pattern.replace_all(token, content, decoding.budget);
  };
}

/// Marks become spaces; those of the first token were put there.
TokenStep read_metaspace(const Json& json) {
  require_known_keys(json, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const bool prefix = flag_or(json, "add_prefix_space", true);  // the key of older files
  const bool prepended = text_or(json, "prepend_scheme", prefix ? "always" : "never") != "never";
  return [mark = read_character(json.at("replacement")), prepended](const std::string& token, Decoding& decoding) {
    std::string text;
    for (std::string_view left = token; !left.empty();) {
      const bool is_mark = left.starts_with(mark);
      const std::size_t length = is_mark ? mark.size() : character_length(left);
      if (!is_mark) text += left.substr(0, length);
      else if (!(decoding.at_start && prepended)) text += ' ';
      left.remove_prefix(length);
    }
    return text;
  };
}

Strip read_strip(const Json& json) {
  require_known_keys(json, {"type", "content", "start", "stop"});
  if (json.at("stop").size() != 0) throw Error(json.at("stop").where() + " is not 0, which is not supported");
  return {read_character(json.at("content")), json.at("start").size()};
}

/// First steps on single tokens, then bytes, then what is done to the whole text.
std::unique_ptr<const TextDecoder> read_pieces(const Json& json) {
  std::vector<TokenStep> steps;
  bool byte_fallback = false, fused = false;
  Strip strip;
  for (const Json& step : read_steps(json, "decoders")) {
    const std::string type = step.at("type").text();
    if (type == "Replace" && !byte_fallback && !fused) {
      steps.push_back(read_replace(step));
    } else if (type == "Metaspace" && !byte_fallback && !fused) {
      steps.push_back(read_metaspace(step));
    } else if (type == "ByteFallback" && !byte_fallback && !fused) {
      require_known_keys(step, {"type"});
      byte_fallback = true;
    } else if (type == "Fuse" && !fused) {
      require_known_keys(step, {"type"});
      fused = true;
    } else if (type == "Strip" && fused && strip.count == 0) {
      strip = read_strip(step);
    } else {
      throw_unknown_type(step);
    }
  }
  return std::make_unique<PieceDecoder>(std::move(steps), byte_fallback, std::move(strip));
}

}  // namespace

std::unique_ptr<const TextDecoder> read_text_decoder(const Json& json) {
  return json.at("type").text() == "ByteLevel" ? read_byte_level(json) : read_pieces(json);
}

}  // namespace kv
