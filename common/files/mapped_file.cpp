#include "common/files/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

#include "common/files/error.hpp"

namespace kv {
namespace {

/// An open file, closed on every way out. A mapping stays valid without it.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  const std::string reason = std::generic_category().message(errno);
  throw Error(path.string() + ": " + what + ": " + reason);
}

/// Bytes in a regular file that is not empty.
std::size_t checked_size(const std::filesystem::path& path, int descriptor) {
  struct stat status;
  if (::fstat(descriptor, &status) != 0) fail(path, "its size cannot be read");
  if (S_ISDIR(status.st_mode)) throw Error(path.string() + ": is a directory, expected a file");
  if (!S_ISREG(status.st_mode)) throw Error(path.string() + ": is not a regular file");
  if (status.st_size == 0) throw Error(path.string() + ": is empty; copy or download it again");
  if (static_cast<std::uintmax_t>(status.st_size) > std::numeric_limits<std::size_t>::max() / 2)
    throw Error(path.string() + ": is too large for this machine's address space");
  return static_cast<std::size_t>(status.st_size);
}

// ---- files that are shortened while they are mapped ----

/// Those that the handler of a signal can look up: it may take no lock and no memory.
std::array<std::atomic<const MappedFile*>, 1024> mapped;

void enter(const MappedFile* file) {
  for (auto& place : mapped)
    if (const MappedFile* none = nullptr; place.compare_exchange_strong(none, file)) return;
}

void leave(const MappedFile* file) {
  for (auto& place : mapped)
    if (const MappedFile* found = file; place.compare_exchange_strong(found, nullptr)) return;
}

/// The end of a path in plain ASCII: a name could steer the terminal, and a handler has no means to tell one character from another.
std::string_view plain(std::string_view path, std::span<char> room) {
  path = path.substr(path.size() - std::min(path.size(), room.size()));
  std::ranges::transform(path, room.begin(), [](char c) { return c >= ' ' && c <= '~' ? c : '?'; });
  return {room.data(), path.size()};
}

/// To standard error, as a handler may.
void say(std::string_view text) {
  while (!text.empty()) {
    const ::ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void on_bus_error(int, siginfo_t* info, void*) {
  const auto* const address = static_cast<const std::byte*>(info->si_addr);
  for (const auto& place : mapped) {
    const MappedFile* const file = place.load();
    if (!file || address < file->bytes().data() || address >= file->bytes().data() + file->bytes().size()) continue;
    std::array<char, 400> room;
    say("kvbook: error: ");
    say(plain(file->path().native(), room));
    say(": was shortened, or its disk failed, while it was being read: copy it again and start anew\n");
    ::_exit(1);
  }
  std::signal(SIGBUS, SIG_DFL);  // not a file of ours: on return the fault comes again
}

}  // namespace

void report_shortened_files() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  // Without O_NONBLOCK the open of a named pipe would wait for a writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) fail(path, "cannot be opened");
  size_ = checked_size(path, file.number);
  void* const start = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (start == MAP_FAILED) fail(path, "cannot be mapped into memory");
  data_ = static_cast<const std::byte*>(start);
  enter(this);
}

MappedFile::~MappedFile() {
  leave(this);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::span<const std::byte> part) const {
  // Only whole pages: the first and the last one may hold a neighbour's bytes.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - data_);
  const std::size_t first = (offset + page - 1) / page * page;
  const std::size_t last = (offset + part.size()) / page * page;
  // Advice: if the system does not take it, the pages just stay.
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace kv
