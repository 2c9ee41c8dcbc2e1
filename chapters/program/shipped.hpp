#pragma once
/// @file
/// Where the models and texts are that the program comes with.
#include <filesystem>
#include <string_view>

namespace kv {

/// A file or folder of data/: in share/kvbook where the program is installed, otherwise in the source's folder.
std::filesystem::path shipped(std::string_view name);

}  // namespace kv
