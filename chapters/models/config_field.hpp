#pragma once
/// @file
/// Fields of a config.json, each checked when it is read. A field that is absent has its architecture's default, if it has
/// one; without one, or null, it is an error. All throw Error with the file and the field.
#include <optional>

#include "common/files/json.hpp"

namespace kv {

/// A whole number from `least` to 2^31 - 1.
index_t size_field(const Json& config, std::string_view key, index_t least = 1);

/// What a number may be, both ends included; so it is finite.
struct Range {
  double least, most;
};
double number_field(const Json& config, std::string_view key, Range range);
/// Of any object: `absent` where the field is not there or null; nothing: it must be there.
double number_field(const Json& object, std::string_view key, Range range, std::optional<double> absent);

/// False is the default of those that have none.
bool flag_field(const Json& config, std::string_view key);

/// Of any object: `absent` where the field is not there or null.
std::string text_field(const Json& object, std::string_view key, std::string_view absent);

/// The product of sizes that a config gives.  @throws Error when it does not fit 64 bits
index_t product(std::initializer_list<index_t> sizes);

}  // namespace kv
