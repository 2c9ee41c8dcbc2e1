#pragma once
/// @file
/// A subcommand of kvbook, its options, and the arguments it was called with.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/tensor/tensor.hpp"
#include "common/text/token.hpp"

namespace kv {

/// One option. Without a value it is a flag. A name without dashes is a word that stands alone.
struct Option {
  std::string_view name;   ///< "--model", or "TEXT"
  std::string_view value;  ///< "DIR", or empty
  std::string_view help;
};

/// What was given on the command line. Every access names the option in its errors.
class Arguments {
 public:
  /// What follows "--" is no option, whatever it begins with.
  /// @throws UsageError for an option that is unknown, stands twice or lacks its value
  Arguments(const std::vector<std::string>& words, const std::vector<Option>& options);

  bool has(std::string_view name) const { return values_.contains(name); }
  /// @throws UsageError when it is not there
  std::string text(std::string_view name) const;
  std::string text_or(std::string_view name, std::string_view fallback) const;
  /// A whole number from `least` up.
  index_t size_or(std::string_view name, index_t fallback, index_t least = 0) const;
  double number_or(std::string_view name, double fallback) const;
  /// "A,B,C"
  std::vector<std::string> list(std::string_view name) const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

/// One subcommand.
struct Command {
  std::string_view name, summary;
  std::vector<Option> options;
  void (*run)(const Arguments& arguments);
};

/// Splits at commas.
std::vector<std::string> split(std::string_view text);
/// A whole number that is not negative.  @throws UsageError naming `what`
index_t parse_size(std::string_view text, std::string_view what);
/// Token ids: "1,2,3", or "@FILE" with ids separated by commas or white space.  @throws UsageError naming --tokens
std::vector<Token> parse_tokens(std::string text);

extern const Command stages_command, tour_command, generate_command, logits_command, compare_command, bench_command,
    inspect_command, chat_command, experts_command, balance_command, perplexity_command, needle_command, quantise_command,
    gpu_bench_command, budget_command, tokenise_command, traffic_command, serve_command, pack_command, trace_command, claim_command;

}  // namespace kv
