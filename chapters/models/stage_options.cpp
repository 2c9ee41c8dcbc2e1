#include "chapters/models/stage_options.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "common/files/error.hpp"

namespace kv {
namespace {

std::string text_of(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.10g", value);
  return buffer;
}

}  // namespace

bool StageOptions::has(std::string_view name) const {
  return std::ranges::find(options_, name, &StageOption::name) != options_.end();
}

void StageOptions::set(std::string_view name, std::string_view text) {
  const auto option = std::ranges::find(options_, name, &StageOption::name);
  if (option == options_.end()) throw UsageError("the stage has no option --" + std::string(name));
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  const bool in_range = is_number && value >= option->least && value <= option->most;
  if (!in_range || (!option->is_fraction && value != std::floor(value)))
    throw UsageError("--" + std::string(name) + " " + std::string(text) + ": needs a " +
                     (option->is_fraction ? "" : "whole ") + "number from " + text_of(option->least) + " to " +
                     text_of(option->most));
  option->value = value;
  option->is_given = true;
}

const StageOption& StageOptions::at(std::string_view name) const {
  const auto option = std::ranges::find(options_, name, &StageOption::name);
  if (option == options_.end()) throw std::logic_error("the stage has no option " + std::string(name));
  return *option;
}

}  // namespace kv
