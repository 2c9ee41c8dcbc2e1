#pragma once
/// @file
/// What can be chosen about a stage, declared in its row of the table.
#include <initializer_list>
#include <string_view>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// One number, a whole one unless it is a fraction.
struct StageOption {
  std::string_view name;   ///< "budget": --budget on the command line
  std::string_view letter, help;
  double value;            ///< the default, until it is set
  double least, most;
  bool is_fraction = false;
  bool is_given = false;   ///< set by the user: never changed to what would fit
};

/// The options of a stage and their values.
class StageOptions {
 public:
  StageOptions() = default;
  StageOptions(std::initializer_list<StageOption> options) : options_(options) {}

  bool has(std::string_view name) const;
  /// @throws UsageError for an option that the stage does not have, or a value outside its range
  void set(std::string_view name, std::string_view text);
  /// @throws std::logic_error for an option that the stage does not have
  double number(std::string_view name) const { return at(name).value; }
  bool is_given(std::string_view name) const { return at(name).is_given; }
  index_t size(std::string_view name) const { return static_cast<index_t>(number(name)); }

  auto begin() const { return options_.begin(); }
  auto end() const { return options_.end(); }

 private:
  const StageOption& at(std::string_view name) const;

  std::vector<StageOption> options_;
};

}  // namespace kv
