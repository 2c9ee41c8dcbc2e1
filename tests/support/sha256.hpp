#pragma once
/// @file
/// SHA-256, to keep the bits of a large result as one line of text.
#include <cstddef>
#include <span>
#include <string>

namespace kv::test {

/// 64 hexadecimal digits.  @see FIPS 180-4
std::string sha256(std::span<const std::byte> bytes);

}  // namespace kv::test
