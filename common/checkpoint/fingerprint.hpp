#pragma once
/// @file
#include <cstdint>

#include "common/checkpoint/checkpoint.hpp"

namespace kv {

/// A number that differs, but for chance, between two checkpoints: of config.json, of the names, types and shapes of all tensors,
/// and of 192 bytes of each. To read everything would take as long as to load it.
std::uint64_t fingerprint(const Checkpoint& checkpoint);

/// Of a text.  @param before what it goes on from
std::uint64_t fingerprint(std::string_view text, std::uint64_t before = 0xcbf29ce484222325);

}  // namespace kv
