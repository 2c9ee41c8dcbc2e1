/// Any bytes as chat_template.jinja and, behind the first zero byte, as what a user says: the reader and the template say Error,
/// or a conversation becomes UTF-8 of a bounded length.
#include "common/text/chat_template.hpp"
#include "common/text/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const kv::fuzz::Folder folder;
  const kv::fuzz::Halves halves(kv::fuzz::text_of(data, size));
  if (!kv::is_utf8(halves.second)) return 0;  // what a caller sees to
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  folder.write("chat_template.jinja", halves.first);
  kv::fuzz::read_or_refuse([&] {
    const kv::ChatTemplate form(folder.path());
    const std::string user(halves.second);
    const std::vector<kv::Message> messages = {{"system", "s"}, {"user", user}, {"assistant", "a"}, {"user", user}};
    for (const bool open : {false, true}) {
      const std::string text = form.render(messages, open, std::chrono::year_month_day(std::chrono::sys_days{}));
      kv::fuzz::require(kv::is_utf8(text) && text.size() < std::size_t{1} << 28);
    }
  });
  return 0;
}
