#include "common/text/post_processor.hpp"

#include "common/files/error.hpp"
#include "common/text/tokenizer_json.hpp"

namespace kv {
namespace {

constexpr std::size_t most_tokens = 256;  // on one side; published files have one or two

void append(std::vector<Token>& tokens, const Json& ids) {
  for (index_t i = 0; i < ids.length(); ++i) {
    if (tokens.size() == most_tokens)
      throw Error(ids.where() + " makes a frame of more than 256 tokens, which is not supported");
    tokens.push_back(read_token(ids.at(i)));
  }
}

/// A list of special tokens with the text, {"Sequence": {"id": "A"}}, somewhere in it.
Frame read_template(const Json& json) {
  require_known_keys(json, {"type", "single", "pair", "special_tokens"});
  const Json pieces = json.at("single");
  Frame frame;
  bool text_seen = false;
  for (index_t i = 0; i < pieces.length(); ++i) {
    const Json piece = pieces.at(i);
    require_known_keys(piece, {"SpecialToken", "Sequence"});
    if (piece.has("SpecialToken")) {
      const std::string name = piece.at("SpecialToken").at("id").text();
      append(text_seen ? frame.after : frame.before, json.at("special_tokens").at(name).at("ids"));
    } else {
      const Json id = piece.at("Sequence").at("id");
      if (id.text() != "A" || text_seen) throw Error(id.where() + " is not the one text 'A'");
      text_seen = true;
    }
  }
  if (!text_seen) throw Error(pieces.where() + " has no place for the text");
  return frame;
}

Frame read_step(const Json& json) {
  const std::string type = json.at("type").text();
  if (type == "TemplateProcessing") return read_template(json);
  if (type != "ByteLevel") throw_unknown_type(json);
  require_known_keys(json, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  return {};
}

}  // namespace

Frame read_post_processor(const Json& json) {
  Frame frame;
  for (const Json& step : read_steps(json, "processors")) {
    const Frame of_step = read_step(step);
    if (of_step.before.empty() && of_step.after.empty()) continue;
    if (!frame.before.empty() || !frame.after.empty())
      throw Error(step.where() + " is a second step that adds tokens, which is not supported");
    frame = of_step;
  }
  return frame;
}

}  // namespace kv
