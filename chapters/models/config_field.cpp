#include "chapters/models/config_field.hpp"

#include <limits>
#include <sstream>

#include "chapters/models/architectures.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr index_t largest_size = (index_t{1} << 31) - 1;

std::string number_text(double number) {
  std::ostringstream text;
  text << number;
  return text.str();
}

/// Of a field that is absent; null is not absent.
std::optional<double> default_for(const Json& config, std::string_view key) {
  return config.contains(key) ? std::nullopt : default_of(config, key);
}

double in_range(const Json& value, Range range) {
  const double number = value.number();
  if (number >= range.least && number <= range.most) return number;
  throw Error(value.where() + " is " + number_text(number) + "; it must lie between " + number_text(range.least) + " and " +
              number_text(range.most));
}

}  // namespace

index_t size_field(const Json& config, std::string_view key, index_t least) {
  if (const auto value = default_for(config, key)) return static_cast<index_t>(*value);
  const Json value = config.at(key);
  const index_t size = value.size();
  if (size < least || size > largest_size)
    throw Error(value.where() + " is " + std::to_string(size) + "; it must be at least " + std::to_string(least) +
                " and below 2^31");
  return size;
}

double number_field(const Json& config, std::string_view key, Range range) {
  const auto value = default_for(config, key);
  return value ? *value : in_range(config.at(key), range);
}

double number_field(const Json& object, std::string_view key, Range range, std::optional<double> absent) {
  return absent && !object.has(key) ? *absent : in_range(object.at(key), range);
}

bool flag_field(const Json& config, std::string_view key) {
  return config.contains(key) ? config.at(key).flag() : default_of(config, key).value_or(false) != 0.0;
}

std::string text_field(const Json& object, std::string_view key, std::string_view absent) {
  return object.has(key) ? object.at(key).text() : std::string(absent);
}

index_t product(std::initializer_list<index_t> sizes) {
  index_t result = 1;
  for (const index_t size : sizes) {
    if (size != 0 && result > std::numeric_limits<index_t>::max() / size)
      throw Error("the sizes in config.json are so large that their product does not fit 64 bits; is it damaged?");
    result *= size;
  }
  return result;
}

}  // namespace kv
