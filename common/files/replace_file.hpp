#pragma once
/// @file
/// Writes whole files: a reader sees the old one or the new one, never half of it.
#include <filesystem>
#include <initializer_list>
#include <string_view>

namespace kv {

/// Writes the parts one after the other or, when that fails, leaves what was there before. A link stays a link, to a new file;
/// a device or a pipe is written to and stays what it is.
/// @throws Error with the file and the system's reason; Interrupted
void replace_file(const std::filesystem::path& path, std::initializer_list<std::string_view> parts);

}  // namespace kv
