#include "tests/support/decoders.hpp"

#include <algorithm>

#include "chapters/06_cuda_kernels/cuda_stages.hpp"

namespace kv::test {

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden(""))) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

std::filesystem::path golden(const std::string& name) { return std::filesystem::path(KV_GOLDEN) / "models" / name; }

OtherSpelling::OtherSpelling(const std::filesystem::path& original) {
  for (const auto& entry : std::filesystem::directory_iterator(original)) {
    const std::string name = entry.path().filename().string();
    if (name == "config_other_spelling.json")
      std::filesystem::copy_file(entry.path(), path() / "config.json");
    else if (name != "config.json")
      std::filesystem::create_symlink(std::filesystem::absolute(entry.path()), path() / name);
  }
}

std::vector<Stage> stages_of_layers(Family family) {
  std::vector<Stage> result = stages(family);
  std::erase_if(result, [](const Stage& stage) { return stage.chapter == cuda_chapter; });
  return result;
}

std::vector<Stage> whole_stages(Family family) {
  std::vector<Stage> result = stages(family);
  std::erase_if(result, [](const Stage& stage) { return stage.chapter != cuda_chapter; });
  return result;
}

std::string why_not_supported(const std::filesystem::path& directory) {
  try {
    const Checkpoint checkpoint(directory);
    const Stage stage = stages(family(checkpoint.config())).front();
    make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 1});
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

Tensor<2> logits_in_chunks(Decoder& decoder, index_t sequence, const std::vector<Token>& tokens,
                           const std::vector<index_t>& chunks) {
  Tensor<2> logits = empty<2>({tokens.size(), decoder.vocabulary()});
  index_t next = 0;
  for (const index_t chunk : chunks) {
    put_rows(logits, next, decoder.logits(sequence, part(tokens, next, chunk)));
    next += chunk;
  }
  REQUIRE(next == tokens.size());
  return logits;
}

Tensor<2> whole_logits(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& tokens) {
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = tokens.size()});
  return decoder.logits(0, tokens);
}

std::vector<Token> part(const std::vector<Token>& tokens, index_t first, index_t count) {
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace kv::test
