#include "common/text/chat_template.hpp"

#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "common/files/mapped_file.hpp"
#include "common/text/jinja/evaluator.hpp"
#include "common/text/jinja/parser.hpp"

namespace kv {
namespace {

using Tokens = std::map<std::string, std::string>;

/// "eos_token": "</s>", or an object with that as its content, or null for none.
void add_tokens(const Json& object, Tokens& tokens) {
  for (const std::string& key : object.keys()) {
    const Json value = object.at(key);
    if (value.is_null()) tokens.erase(key);
    if (!key.ends_with("_token") ||
        !(value.is_text() || (value.is_object() && value.has("content"))))
      continue;
    tokens[key] = value.is_text() ? value.text() : value.at("content").text();
  }
}

/// As transformers collects them.
Tokens special_tokens(const std::filesystem::path& checkpoint, const Json& config) {
  Tokens tokens;
  const std::string kind = config.has("tokenizer_class") ? config.at("tokenizer_class").text() : "";
  if (kind == "Qwen2Tokenizer" || kind == "Qwen2TokenizerFast")
    tokens = {{"eos_token", "<|endoftext|>"},
              {"unk_token", "<|endoftext|>"},
              {"pad_token", "<|endoftext|>"}};
  add_tokens(config, tokens);
  if (config.has("extra_special_tokens") && config.at("extra_special_tokens").is_object())
    add_tokens(config.at("extra_special_tokens"), tokens);
  const auto map = checkpoint / "special_tokens_map.json";
  if (!config.has("added_tokens_decoder") && std::filesystem::exists(map))
    add_tokens(Json::read(map), tokens);
  return tokens;
}

std::string default_template(const Json& held) {
  if (held.is_object()) return held.at("default").text();
  if (!held.is_array()) return held.text();
  for (index_t i = 0; i < held.length(); ++i)
    if (held.at(i).at("name").text() == "default") return held.at(i).at("template").text();
  throw Error(held.where() + " has no template named 'default'");
}

/// "FILE: " in front of what is wrong with a template.
template <class Action>
auto located(const std::string& where, Action action) {
  try {
    return action();
  } catch (const Error& error) {
    throw Error(where + ": " + error.what());
  }
}

}  // namespace

ChatTemplate::ChatTemplate(const std::filesystem::path& checkpoint) {
  const auto alone = checkpoint / "chat_template.jinja",
             config_file = checkpoint / "tokenizer_config.json";
  const Json config = std::filesystem::exists(config_file)
                          ? Json::read(config_file)
                          : Json::parse("{}", config_file.string());
  std::string source;
  if (std::filesystem::exists(alone)) {
    where_ = alone.string();
    source = MappedFile(alone).text();
  } else if (config.has("chat_template")) {
    where_ = config.at("chat_template").where();
    source = default_template(config.at("chat_template"));
  } else {
    throw Error(
        checkpoint.string() +
        " has no chat template, in tokenizer_config.json (chat_template) or chat_template.jinja, " +
        "so nothing says how a conversation is written: use kvbook generate");
  }
  block_ = located(where_, [&] { return jinja::parse(source); });
  tokens_ = special_tokens(checkpoint, config);
}

std::string ChatTemplate::render(const std::vector<Message>& messages, bool open_answer,
                                 const std::optional<std::chrono::year_month_day>& today) const {
  return located(where_, [&] {
    jinja::Meter meter;
    std::vector<jinja::Value> turns;
    for (const auto& [role, content] : messages)
      turns.push_back(make_dict({{jinja::make_text("role"), jinja::make_text(role)},
                                 {jinja::make_text("content"), jinja::make_text(content)}},
                                meter));
    jinja::Given given{{{"messages", make_list(std::move(turns), meter)},
                        {"add_generation_prompt", {open_answer}},
                        {"tools", {}},
                        {"documents", {}}},
                       today};
    for (const auto& [name, text] : tokens_) given.variables[name] = jinja::make_text(text);
    return render_block(block_, given, meter);
  });
}

}  // namespace kv
