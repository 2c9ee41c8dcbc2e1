#include "common/files/new_path.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <random>
#include <system_error>

#include "common/files/error.hpp"

namespace kv {
namespace {

namespace fs = std::filesystem;

constexpr std::array waiting_signals{SIGINT, SIGTERM, SIGHUP};
volatile std::sig_atomic_t arrived = 0;
std::array<struct sigaction, waiting_signals.size()> before;
struct sigaction before_too_large;
int alive = 0;

void note(int signal) { arrived = signal; }

void hold_signals() {
  if (alive++ > 0) return;
  arrived = 0;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < before.size(); ++i) {
    ::sigaction(waiting_signals[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_IGN) ::sigaction(waiting_signals[i], &action, nullptr);  // nohup stays in force
  }
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGXFSZ, &action, &before_too_large);
}

void release_signals() {
  if (--alive > 0) return;
  for (std::size_t i = 0; i < before.size(); ++i) ::sigaction(waiting_signals[i], &before[i], nullptr);
  ::sigaction(SIGXFSZ, &before_too_large, nullptr);
}

fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

std::string random_letters() {
  std::random_device random;
  std::string letters;
  for (int i = 0; i < 12; ++i) letters += static_cast<char>('a' + random() % 26);
  return letters;
}

/// Makes it, if nothing of that name is there: neither call follows a link.
bool make(const fs::path& path, NewPath::Kind kind) {
  if (kind == NewPath::Kind::directory) return ::mkdir(path.c_str(), 0777) == 0;
  const int file = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  return file >= 0 && ::close(file) == 0;
}

[[noreturn]] void fail(const fs::path& path, int reason) {
  throw Error(path.string() + ": cannot be written: " + std::generic_category().message(reason));
}

}  // namespace

NewPath::NewPath(const fs::path& final_path, Kind kind) : final_(without_slash(final_path)) {
  hold_signals();
  for (int tries = 0; tries < 100; ++tries) {
    path_ = final_.string() + ".writing-" + random_letters();
    if (make(path_, kind)) return;
    if (errno != EEXIST) break;
  }
  const int reason = errno;
  release_signals();
  fail(final_, reason);
}

NewPath::~NewPath() {
  std::error_code ignored;
  if (!complete_) fs::remove_all(path_, ignored);
  release_signals();
}

void NewPath::complete() {
  throw_if_interrupted();
  std::error_code error;
  fs::rename(path_, final_, error);
  if (error) fail(final_, error.value());
  complete_ = true;
}

void throw_if_interrupted() {
  if (arrived != 0 && alive > 0) throw Interrupted{arrived};
}

}  // namespace kv
