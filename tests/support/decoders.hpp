#pragma once
/// @file
/// Decoders of small checkpoints, and the ways a sequence can be put through one.
#include <string>
#include <vector>

#include "chapters/decoders.hpp"
#include "tests/support/small_model.hpp"

namespace kv::test {

/// Names of all goldens, sorted.
std::vector<std::string> golden_names();
/// A golden's directory.
std::filesystem::path golden(const std::string& name);
/// The same checkpoint with its other config.json, in a directory that lives as long as this.
class OtherSpelling {
 public:
  explicit OtherSpelling(const std::filesystem::path& original);
  const std::filesystem::path& path() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

/// The stages but for chapter 6's. Those take long on the CPU's runtime: they have the same tests, on fewer inputs, in
/// 06_cuda_stages_test.cpp.
std::vector<Stage> stages_of_layers(Family family);
/// The others.
std::vector<Stage> whole_stages(Family family);

/// Empty when some stage runs on the checkpoint; otherwise the error that says why none does.
std::string why_not_supported(const std::filesystem::path& checkpoint);

/// All logits (T,V) of a sequence, fed in these pieces.
Tensor<2> logits_in_chunks(Decoder& decoder, index_t sequence, const std::vector<Token>& tokens,
                           const std::vector<index_t>& chunks);
/// All logits, in one piece, from a new decoder.
Tensor<2> whole_logits(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& tokens);

/// Tokens first ... first+count-1.
std::vector<Token> part(const std::vector<Token>& tokens, index_t first, index_t count);

}  // namespace kv::test
