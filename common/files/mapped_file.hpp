#pragma once
/// @file
/// A file mapped into memory, read-only: pages are loaded when they are touched and belong to the system's file cache.
///
/// The size is fixed when the file is opened. A file that somebody shortens while it is mapped makes a later read fault
/// (SIGBUS). No reader of mapped files can check for that: a program can only say so and end.
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace kv {

/// Keeps the mapping for as long as it lives.
class MappedFile {
 public:
  /// @throws Error when the file is missing, empty, not readable or not a regular file
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  /// The pages inside `part` may leave memory; they are read from the file again if they are touched again.
  void drop(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_;
  std::size_t size_;
};

/// From now on a read of a mapped file that has been shortened ends the program with one line that names it, and exit code 1.
void report_shortened_files();

}  // namespace kv
