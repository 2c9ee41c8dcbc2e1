#include "common/text/normalizer.hpp"

#include <vector>

#include "common/text/pattern.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/unicode.hpp"

namespace kv {
namespace {

Normalizer compose(const Json& json) {
  require_known_keys(json, {"type"});
  return [](std::string text) { return nfc(text); };
}

Normalizer prepend(const Json& json) {
  require_known_keys(json, {"type", "prepend"});
  return [front = json.at("prepend").text()](std::string text) { return text.empty() ? text : front + text; };
}

Normalizer replace(const Json& json) {
  require_known_keys(json, {"type", "pattern", "content"});
  return [pattern = Pattern::read(json.at("pattern")), content = json.at("content").text()](std::string text) {
    return replace_all(pattern, text, content);
  };
}

Normalizer sequence(const Json& json) {
  require_known_keys(json, {"type", "normalizers"});
  const Json list = json.at("normalizers");
  std::vector<Normalizer> steps;
  for (index_t i = 0; i < list.length(); ++i) steps.push_back(read_normalizer(list.at(i)));
  return [steps](std::string text) {
    for (const Normalizer& step : steps) text = step(std::move(text));
    return text;
  };
}

}  // namespace

Normalizer read_normalizer(const Json& json) {
  const std::string type = json.at("type").text();
  if (type == "NFC") return compose(json);
  if (type == "Prepend") return prepend(json);
  if (type == "Replace") return replace(json);
  if (type == "Sequence") return sequence(json);
  throw_unknown_type(json);
}

}  // namespace kv
