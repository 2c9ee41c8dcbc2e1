/// Chat formats: which one a tokenizer has, and that a conversation reads as the published chat template writes it.
#include "common/text/chat_format.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

Tokenizer open(const std::string& name) {
  const std::filesystem::path data = KV_DATA, golden = KV_GOLDEN;
  return Tokenizer((name == "tiny" ? data / "tiny-gqa" : golden / "tokenizers" / name) / "tokenizer.json");
}

}  // namespace

TEST_CASE("the tokenizer's special tokens tell the format", "[chat]") {
  // What the published templates write for: user "Q", assistant "A", user "R", and the answer opened.
  const auto [tokenizer_name, format_name, expected] = GENERATE(table<std::string, std::string, std::string>({
      {"tiny", "kvbook", "<|bos|><|user|>Q<|assistant|>A<|eos|><|user|>R<|assistant|>"},
      {"llama3", "llama3",
       "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
      {"qwen", "chatml",
       "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
       "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"},
      {"deepseek-v3", "deepseek-v3",
       "<｜begin▁of▁sentence｜><｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜><｜User｜>R<｜Assistant｜>"},
      {"deepseek-v2", "deepseek-v2",
       "<｜begin▁of▁sentence｜>User: Q\n\nAssistant: A<｜end▁of▁sentence｜>User: R\n\nAssistant:"},
  }));
  const Tokenizer tokenizer = open(tokenizer_name);
  const auto format = chat_format(tokenizer);
  REQUIRE(format);
  CHECK(format->name == format_name);
  const std::string answer = format_name == "deepseek-v2" ? " A" : "A";  // there the model says the space
  const std::string conversation = format->start + format->before_user + "Q" + format->after_user + answer +
                                   format->after_answer + format->before_user + "R" + format->after_user;
  CHECK(conversation == expected);

  const std::vector<Token> end = tokenizer.encode(format->end_of_answer);
  REQUIRE(end.size() == 1);
  CHECK(tokenizer.is_special(end.front()));
  CHECK(format->after_answer.starts_with(format->end_of_answer));
  CHECK(format->rest_of_answer(true) == format->after_answer);
  CHECK(format->end_of_answer + std::string(format->rest_of_answer(false)) == format->after_answer);
}

TEST_CASE("turn by turn gives the tokens of the whole conversation", "[chat]") {
  const Tokenizer tokenizer = open(GENERATE("tiny", "llama3", "qwen", "deepseek-v3", "deepseek-v2"));
  const ChatFormat format = chat_format(tokenizer).value();
  const std::vector<std::string> pieces = {format.start + format.before_user + "What is it?" + format.after_user,
                                           format.after_answer, format.before_user + "And then?" + format.after_user};
  std::vector<Token> fed;
  std::string whole;
  for (const std::string& piece : pieces) {
    whole += piece;
    for (const Token token : tokenizer.encode(piece)) fed.push_back(token);
  }
  CHECK(fed == tokenizer.encode(whole));
}

TEST_CASE("a tokenizer without chat tokens has no format", "[chat]") {
  CHECK_FALSE(chat_format(open("gpt2")));
  CHECK_FALSE(chat_format(open("llama2")));
}
