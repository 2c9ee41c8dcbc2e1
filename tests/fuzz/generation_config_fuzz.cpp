/// Any bytes as generation_config.json: the reader says Error, or gives numbers that a sampler can use.
#include <cmath>

#include "common/checkpoint/generation_config.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const kv::fuzz::Folder folder;
  folder.write("config.json", "{}");
  folder.write("generation_config.json", kv::fuzz::text_of(data, size));
  for (const std::optional<bool> sample : {std::optional<bool>(), std::optional(true), std::optional(false)})
    kv::fuzz::read_or_refuse([&] {
      const kv::GenerationConfig config = kv::read_generation_config(folder.path(), sample);
      for (const kv::Token token : config.stop) kv::fuzz::require(token >= 0);
      for (const kv::Token token : config.rules.suppressed) kv::fuzz::require(token >= 0);
      kv::fuzz::require(config.temperature > 0 && std::isfinite(config.temperature));
      kv::fuzz::require(config.top_p > 0 && config.top_p <= 1 && config.min_p >= 0 && config.min_p <= 1);
      kv::fuzz::require(config.rules.repetition_penalty > 0 && std::isfinite(config.rules.repetition_penalty));
      for (const auto& [tokens, bias] : config.rules.sequence_bias) kv::fuzz::require(std::isfinite(bias));
      kv::fuzz::require(config.rules.sequence_bias.find({}) == config.rules.sequence_bias.end());
    });
  return 0;
}
