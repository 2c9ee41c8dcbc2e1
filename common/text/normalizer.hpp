#pragma once
/// @file
/// What is done to the whole text before it is cut into words.
#include <functional>
#include <string>

#include "common/files/json.hpp"
#include "common/text/budget.hpp"

namespace kv {

/// UTF-8 to UTF-8.  @throws Error when the budget is used up
using Normalizer = std::function<std::string(std::string, Budget&)>;

/// The `normalizer` of tokenizer.json: NFC, Prepend, Replace, or a Sequence of them.
/// @throws Error naming what else is declared
Normalizer read_normalizer(const Json& normalizer);

}  // namespace kv
