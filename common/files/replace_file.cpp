#include "common/files/replace_file.hpp"

#include <cerrno>
#include <fstream>
#include <system_error>

#include "common/files/error.hpp"
#include "common/files/new_path.hpp"

namespace kv {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void cannot_write(const fs::path& path, const std::error_code& reason) {
  throw Error(path.string() + ": cannot be written: " + reason.message());
}

/// Why it failed, if it did.
std::error_code write(const fs::path& path, std::initializer_list<std::string_view> parts) {
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  for (const std::string_view part : parts) out.write(part.data(), static_cast<std::streamsize>(part.size()));
  out.close();
  return out ? std::error_code{} : std::error_code(errno != 0 ? errno : EIO, std::generic_category());
}

/// What is to be replaced: a link stays a link, to a new file.
fs::path target(const fs::path& path) {
  fs::path target = path;
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, error)); ++links) {
    if (links == 40) cannot_write(path, std::make_error_code(std::errc::too_many_symbolic_link_levels));
    target = target.parent_path() / fs::read_symlink(target, error);  // an absolute link stands for itself
    if (error) cannot_write(path, error);
  }
  return target;
}

}  // namespace

void replace_file(const fs::path& path, std::initializer_list<std::string_view> parts) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) throw Error(path.string() + ": is a directory, expected a file to write");
  // A file renamed to /dev/null would replace it.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    if (error = write(path, parts); error) cannot_write(path, error);
    return;
  }
  NewPath file(target(path), NewPath::Kind::file);
  if (error = write(file.path(), parts); error) cannot_write(path, error);
  file.complete();
}

}  // namespace kv
