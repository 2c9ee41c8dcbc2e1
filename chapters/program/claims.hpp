#pragma once
/// @file
/// What articles say about the KV cache, and what this book finds: the one table of claims.
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

enum class Verdict { holds, holds_if, does_not_hold, not_tested };

/// One number that decides a claim, or shows how far it reaches. Found anew whenever it is asked for.
struct ClaimNumber {
  std::string_view what;   ///< with its unit
  std::string_view model;  ///< a folder of data/
  double least, most;      ///< where it must lie
  double (*find)(const std::filesystem::path& model);
  bool timed = false;      ///< by the clock, so that it differs from run to run
};

struct Source {
  std::string_view title, original;  ///< in English, and as it was published
};

struct Claim {
  index_t source;  ///< place in claim_sources()
  std::string_view says;
  Verdict verdict;
  std::string_view why;    ///< goes on after the verdict's words: "not tested because", "..."
  std::string_view place;  ///< in the book: a section's anchor
  std::vector<ClaimNumber> numbers = {};
};

/// In the order of their numbers, from 1 on.
const std::vector<Claim>& claims();
const std::vector<Source>& claim_sources();

/// "does not hold"
std::string_view verdict_name(Verdict verdict);
/// ": its weights alone ...", or " ..." where the verdict's words go on
std::string reason(const Claim& claim);

/// "31.41", to four digits.
std::string number_text(double value);
/// "31 to 32", or "exactly 0".
std::string interval_text(const ClaimNumber& number);

/// A claim's row in docs/measured/claims.md.  @param found the numbers' texts, in their order
std::string markdown_row(index_t number, const std::vector<std::string>& found);

}  // namespace kv
