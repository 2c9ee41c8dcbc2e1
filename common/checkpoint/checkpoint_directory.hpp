#pragma once
/// @file
/// Where a user says that a checkpoint is.
#include <filesystem>

namespace kv {

/// The directory, if it is one.
/// @throws Error that says what was given instead: a name on the hub, a GGUF file, a folder of the hub's cache
std::filesystem::path checkpoint_directory(const std::filesystem::path& given);

}  // namespace kv
