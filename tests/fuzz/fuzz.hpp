#pragma once
/// @file
/// What all targets share. A target has its own LLVMFuzzerTestOneInput: any bytes are read, or refused by an Error in one line.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "common/files/error.hpp"

namespace kv::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();  // libFuzzer keeps the input
}

/// Calls read(); an Error that it throws is a short line.
template <class Read>
void read_or_refuse(Read read) {
  try {
    read();
  } catch (const Error& error) {
    require(std::strlen(error.what()) < 2000 && std::strchr(error.what(), '\n') == nullptr);
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }

/// What stands before the first zero byte, and what stands behind it.
struct Halves {
  std::string_view first, second;
  explicit Halves(std::string_view all) : first(all.substr(0, all.find('\0'))) {
    if (first.size() < all.size()) second = all.substr(first.size() + 1);
  }
};

/// A checkpoint's folder of one's own, in memory where the system has such a place.
class Folder {
 public:
  Folder() {
    std::string pattern = std::filesystem::exists("/dev/shm") ? "/dev/shm/kvbook-fuzz-XXXXXX" : "/tmp/kvbook-fuzz-XXXXXX";
    require(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const char* name, std::string_view bytes) const { std::ofstream(path_ / name, std::ios::binary) << bytes; }

 private:
  std::filesystem::path path_;
};

}  // namespace kv::fuzz
