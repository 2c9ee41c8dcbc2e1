#include "common/text/chat_format.hpp"

#include <algorithm>
#include <vector>

namespace kv {
namespace {

/// A format, and the tokens that a tokenizer must have for it.
struct Row {
  std::vector<std::string_view> tokens;
  ChatFormat format;
};

/// The first row that fits holds: DeepSeek-V3 has all tokens of V2.
const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      // The models that ship with the book (data/make)
      {{"<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"},
       {.name = "kvbook",
        .start = "<|bos|>",
        .before_user = "<|user|>",
        .after_user = "<|assistant|>",
        .end_of_answer = "<|eos|>",
        .after_answer = "<|eos|>"}},
      // Llama 3's model card
      {{"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
       {.name = "llama3",
        .start = "<|begin_of_text|>",
        .before_user = "<|start_header_id|>user<|end_header_id|>\n\n",
        .after_user = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        .end_of_answer = "<|eot_id|>",
        .after_answer = "<|eot_id|>"}},
      // ChatML, as Qwen's chat templates write it
      {{"<|im_start|>", "<|im_end|>"},
       {.name = "chatml",
        .start = "",
        .before_user = "<|im_start|>user\n",
        .after_user = "<|im_end|>\n<|im_start|>assistant\n",
        .end_of_answer = "<|im_end|>",
        .after_answer = "<|im_end|>\n"}},
      // DeepSeek-V3's chat template
      {{"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"},
       {.name = "deepseek-v3",
        .start = "<｜begin▁of▁sentence｜>",
        .before_user = "<｜User｜>",
        .after_user = "<｜Assistant｜>",
        .end_of_answer = "<｜end▁of▁sentence｜>",
        .after_answer = "<｜end▁of▁sentence｜>"}},
      // DeepSeek-V2's; the model begins its answer with a space
      {{"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"},
       {.name = "deepseek-v2",
        .start = "<｜begin▁of▁sentence｜>",
        .before_user = "User: ",
        .after_user = "\n\nAssistant:",
        .end_of_answer = "<｜end▁of▁sentence｜>",
        .after_answer = "<｜end▁of▁sentence｜>"}},
  };
  return table;
}

}  // namespace

std::string_view ChatFormat::rest_of_answer(bool cut_off) const {
  return std::string_view(after_answer).substr(cut_off ? 0 : end_of_answer.size());
}

std::optional<ChatFormat> chat_format(const Tokenizer& tokenizer) {
  for (const Row& row : rows())
    if (std::ranges::all_of(row.tokens, [&](std::string_view token) { return tokenizer.find(token).has_value(); }))
      return row.format;
  return std::nullopt;
}

}  // namespace kv
