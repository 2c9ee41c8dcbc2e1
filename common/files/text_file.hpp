#pragma once
/// @file
/// A whole file of text.
#include <filesystem>
#include <string>

namespace kv {

/// @throws Error when it cannot be read, or is empty
std::string read_text(const std::filesystem::path& file);

}  // namespace kv
