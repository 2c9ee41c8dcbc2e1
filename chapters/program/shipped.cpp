#include "chapters/program/shipped.hpp"

#include <system_error>

namespace kv {

std::filesystem::path shipped(std::string_view name) {
  std::error_code unknown;  // a system without /proc, or a folder that cannot be looked into
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  const std::filesystem::path installed = program.parent_path().parent_path() / "share/kvbook";
  return (!program.empty() && std::filesystem::exists(installed, unknown) ? installed : std::filesystem::path(KV_DATA)) / name;
}

}  // namespace kv
