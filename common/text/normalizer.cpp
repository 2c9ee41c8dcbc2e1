#include "common/text/normalizer.hpp"

#include <vector>

#include "common/text/nfc.hpp"
#include "common/text/pattern.hpp"
#include "common/text/tokenizer_json.hpp"

namespace kv {
namespace {

Normalizer compose(const Json& json) {
  require_known_keys(json, {"type"});
  return [where = json.where()](const std::string& text, Budget& budget) {
    budget.spend_on_bytes(text.size(), where);
    return nfc(text);
  };
}

Normalizer prepend(const Json& json) {
  require_known_keys(json, {"type", "prepend"});
  return [front = json.at("prepend").text(), where = json.where()](std::string text, Budget& budget) {
    budget.spend_on_bytes(front.size() + text.size(), where);
    return text.empty() ? text : front + text;
  };
}

Normalizer replace(const Json& json) {
  require_known_keys(json, {"type", "pattern", "content"});
  return [pattern = Pattern::read(json.at("pattern")), content = json.at("content").text()](
             const std::string& text, Budget& budget) { return pattern.replace_all(text, content, budget); };
}

Normalizer read_step(const Json& json) {
  const std::string type = json.at("type").text();
  if (type == "NFC") return compose(json);
  if (type == "Prepend") return prepend(json);
  if (type == "Replace") return replace(json);
  throw_unknown_type(json);
}

}  // namespace

Normalizer read_normalizer(const Json& json) {
  std::vector<Normalizer> steps;
  for (const Json& step : read_steps(json, "normalizers")) steps.push_back(read_step(step));
  return [steps = std::move(steps)](std::string text, Budget& budget) {
    for (const Normalizer& step : steps) text = step(std::move(text), budget);
    return text;
  };
}

}  // namespace kv
