#pragma once
/// @file
/// What is written has another name until it is complete, and is gone if that never happens: an error, a full disk, Ctrl-C.
#include <filesystem>

namespace kv {

/// A new file or directory beside the one that it will replace. Its name cannot be guessed and is taken by nobody: a link that
/// somebody put there is never followed.
///
/// While one lives, SIGINT, SIGTERM and SIGHUP wait until throw_if_interrupted() is asked, and a file that grows past the
/// system's limit is an error and no signal. For one thread at a time.
class NewPath {
 public:
  enum class Kind { file, directory };

  /// @throws Error with the system's reason
  NewPath(const std::filesystem::path& final_path, Kind kind);
  ~NewPath();
  NewPath(const NewPath&) = delete;
  NewPath& operator=(const NewPath&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Gives it the final name.  @throws Error with the system's reason
  void complete();

 private:
  std::filesystem::path final_, path_;
  bool complete_ = false;
};

/// A signal came while something was being written, which is gone by the time this is caught. The program ends by that signal.
struct Interrupted {
  int signal;
};

/// For every piece that is written.  @throws Interrupted
void throw_if_interrupted();

}  // namespace kv
