#include <iostream>
#include <iterator>

#include "chapters/program/session.hpp"
#include "common/files/text_file.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// What was given: a text, a file as @FILE, or else what comes in.
std::string given_text(const Arguments& arguments) {
  if (!arguments.has("TEXT")) return {std::istreambuf_iterator<char>(std::cin), {}};
  const std::string text = arguments.text("TEXT");
  return text.starts_with("@") ? read_text(text.substr(1)) : text;
}

void run(const Arguments& arguments) {
  const std::filesystem::path directory = model_directory(arguments);
  const Tokenizer tokenizer = open_tokenizer(directory);
  const std::vector<Token> tokens = encode_prompt(directory, tokenizer, given_text(arguments));
  std::vector<std::string> spellings;
  for (const Token token : tokens) spellings.push_back(tokenizer.spelling(token));
  if (arguments.has("--json")) {
    std::cout << JsonObject().set("model", directory.string())
                     .set("ids", std::vector<std::int64_t>(tokens.begin(), tokens.end()))
                     .set("tokens", spellings).text() << "\n";
    return;
  }
  for (index_t i = 0; i < tokens.size(); ++i) std::cout << tokens[i] << "\t" << spellings[i] << "\n";
}

}  // namespace

const Command tokenise_command{"tokenise",
                               "a text's token ids as generate feeds them, and its tokens",
                               {model_option, json_option, {"TEXT", "", "the text, or @FILE; without it what comes in is read"}},
                               run};

}  // namespace kv
