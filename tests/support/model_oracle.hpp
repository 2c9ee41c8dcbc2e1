#pragma once
/// @file
/// The oracle for whole models: its formulas on a checkpoint's raw tensors.
#include "common/checkpoint/checkpoint.hpp"
#include "common/text/token.hpp"
#include "tests/support/equality.hpp"

namespace kv::test::oracle {

/// A whole Llama or Qwen3 decoder from the checkpoint's raw tensors and its config.json.
/// @return (T,V)
Doubles<2> logits(const Checkpoint& checkpoint, const std::vector<Token>& tokens);

}  // namespace kv::test::oracle
