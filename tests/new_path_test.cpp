/// What is written is complete or not there: links that somebody planted, signals, limits, errors.
#include <sys/resource.h>

#include <csignal>

#include "common/files/new_path.hpp"
#include "common/files/replace_file.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace fs = std::filesystem;

namespace {

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

volatile std::sig_atomic_t heard = 0;

/// How a signal is met while this lives, and again as before after it.
class Disposition {
 public:
  Disposition(int signal, void (*handler)(int)) : signal_(signal), before_(std::signal(signal, handler)) {}
  ~Disposition() { std::signal(signal_, before_); }
  Disposition(const Disposition&) = delete;
  Disposition& operator=(const Disposition&) = delete;

 private:
  int signal_;
  void (*before_)(int);
};

/// The system takes no file larger than this.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FileLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("a new path has another name until it is complete", "[new_path]") {
  const TemporaryDirectory directory;
  const fs::path final_path = directory.path() / "out";
  const auto kind = GENERATE(NewPath::Kind::file, NewPath::Kind::directory);
  fs::path temporary;
  {
    NewPath path(final_path, kind);
    temporary = path.path();
    CHECK(fs::exists(temporary));
    CHECK(temporary.parent_path() == directory.path());
    CHECK_FALSE(fs::exists(final_path));
    path.complete();
    CHECK(fs::exists(final_path));
  }
  CHECK(fs::is_directory(final_path) == (kind == NewPath::Kind::directory));
  CHECK_FALSE(fs::exists(temporary));
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("a new path that is never completed is gone, with all it holds", "[new_path]") {
  const TemporaryDirectory directory;
  {
    const NewPath folder(directory.path() / "out/", NewPath::Kind::directory);  // a slash behind it changes nothing
    std::ofstream(folder.path() / "part") << "half";
    CHECK(entries(directory.path()) == 1);
  }
  CHECK(entries(directory.path()) == 0);
  directory.write("file", "old");
  CHECK(holds(error_of([&] { NewPath(directory.path() / "file" / "out", NewPath::Kind::file); }), "out: cannot be written: Not a directory"));
  CHECK(holds(error_of([&] { NewPath(directory.path() / "none" / "out", NewPath::Kind::directory); }), "out: cannot be written: No such file"));
}

TEST_CASE("no two names are alike, and no link is followed that somebody put where one could be guessed", "[new_path]") {
  const TemporaryDirectory directory;
  const fs::path victim = directory.write("victim", "precious"), out = directory.path() / "out";
  const std::string process = std::to_string(::getpid());
  for (const std::string& guess : {process, std::string(), std::string("0"), std::string("tmp"), std::string("aaaaaaaaaaaa")})
    fs::create_symlink(victim, out.string() + ".writing-" + guess);
  std::string other;
  for (int i = 0; i < 3; ++i) {
    const NewPath path(out, NewPath::Kind::file);
    const std::string name = path.path().string();
    CHECK(name != other);
    CHECK_FALSE(fs::is_symlink(fs::symlink_status(path.path())));
    CHECK(name.size() >= out.string().size() + 12);
    other = name;
  }
  replace_file(out, {"new"});
  CHECK(contents_of(victim) == "precious");
  CHECK(contents_of(out) == "new");
}

TEST_CASE("a signal waits for the piece that is being written, leaves nothing, and is met as before afterwards", "[new_path]") {
  const TemporaryDirectory directory;
  const int signal = GENERATE(SIGINT, SIGTERM, SIGHUP);
  const Disposition own(signal, [](int number) { heard = number; });
  heard = 0;
  int interrupted = 0;
  try {
    NewPath outer(directory.path() / "out", NewPath::Kind::directory);
    {
      NewPath inner(outer.path() / "part", NewPath::Kind::file);
      CHECK_NOTHROW(throw_if_interrupted());
      inner.complete();
    }
    std::raise(signal);  // one is still being written
    CHECK(heard == 0);
    outer.complete();
  } catch (const Interrupted& caught) {
    interrupted = caught.signal;
  }
  CHECK(interrupted == signal);
  CHECK(heard == 0);
  CHECK(entries(directory.path()) == 0);
  CHECK_NOTHROW(throw_if_interrupted());
  std::raise(signal);
  CHECK(heard == signal);
  replace_file(directory.path() / "out", {"the next one is not interrupted"});
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("a signal that is ignored stays ignored while something is written: nohup", "[new_path]") {
  const TemporaryDirectory directory;
  const Disposition ignored(SIGHUP, SIG_IGN);
  NewPath path(directory.path() / "out", NewPath::Kind::file);
  std::raise(SIGHUP);
  CHECK_NOTHROW(path.complete());
  CHECK(fs::exists(directory.path() / "out"));
}

TEST_CASE("a file larger than the system allows is an error, not the end, and the old one stays", "[new_path]") {
  const TemporaryDirectory directory;
  const fs::path file = directory.write("out", "old");
  const std::string large(100'000, 'x');
  const std::string message = [&] {
    const FileLimit limit(1000);
    return error_of([&] { replace_file(file, {"head", large}); });
  }();
  CHECK(holds(message, "out: cannot be written: File too large"));
  CHECK(contents_of(file) == "old");
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("replace_file writes all parts, and what cannot be written leaves what was there", "[new_path]") {
  const TemporaryDirectory directory;
  const fs::path file = directory.write("out", "a text that is longer than the new one");
  replace_file(file, {"one, ", "", "two"});
  CHECK(contents_of(file) == "one, two");
  CHECK(holds(error_of([&] { replace_file(directory.path(), {"x"}); }), "is a directory, expected a file to write"));
  CHECK(holds(error_of([] { replace_file("/dev/full", {"x"}); }), "/dev/full: cannot be written: No space left"));
  replace_file("/dev/null", {"x"});
  CHECK(fs::is_character_file("/dev/null"));
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("a link stays a link, to a new file", "[new_path]") {
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "far");
  const fs::path target = directory.path() / "far" / "target", link = directory.path() / "link", second = directory.path() / "second";
  std::ofstream(target) << "old";
  fs::create_symlink("far/target", link);
  fs::create_symlink(link, second);
  replace_file(second, {"new"});
  CHECK(fs::is_symlink(fs::symlink_status(second)));
  CHECK(fs::is_symlink(fs::symlink_status(link)));
  CHECK(contents_of(target) == "new");
  CHECK(entries(target.parent_path()) == 1);
  fs::create_symlink("loop", directory.path() / "loop");
  CHECK(holds(error_of([&] { replace_file(directory.path() / "loop", {"x"}); }), "loop: cannot be written: Too many levels"));
}
