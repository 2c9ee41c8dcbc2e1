#include "tests/support/program.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/support/temporary.hpp"

extern char** environ;

namespace kv::test {
namespace {

double seconds(const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; }

}  // namespace

Finished run_program(const std::vector<std::string>& words, std::string_view input, const std::string& out_file) {
  const TemporaryDirectory directory;
  const std::string in = directory.write("in", input).string(), err = (directory.path() / "err").string();
  const std::string out = out_file.empty() ? (directory.path() / "out").string() : out_file;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT, 0600);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t process = 0;
  const int failure = posix_spawn(&process, arguments[0], &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  REQUIRE(failure == 0);
  int status = 0;
  struct rusage used {};
  REQUIRE(wait4(process, &status, 0, &used) == process);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), out_file.empty() ? contents_of(out) : "",
          contents_of(err), seconds(used.ru_utime) + seconds(used.ru_stime), static_cast<std::size_t>(used.ru_maxrss) * 1024};
}

}  // namespace kv::test
