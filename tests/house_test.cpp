/// The house as its includes draw it: which room may look into which, no circle anywhere, no file that nothing compiles.
#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "common/files/json.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
namespace fs = std::filesystem;

namespace {

using Names = std::vector<std::string>;

/// Which rooms a room may look into, by the beginning of the included file's path. Its own files are always allowed, and
/// no room may see one that sees it, directly or through others: so chapters/models takes sizes from the chapters before
/// it and gives models to those after it.
const std::map<std::string, Names> may_include{
    {"common/tensor", {"common/files/error.hpp"}},
    {"common/files", {"common/tensor/"}},
    {"common/checkpoint", {"common/files/", "common/tensor/", "common/text/token.hpp"}},
    {"common/text", {"common/files/", "common/tensor/"}},
    {"common/http", {"common/files/error.hpp", "common/tensor/"}},
    {"common/model", {"common/checkpoint/", "common/files/", "common/tensor/", "common/text/"}},
    {"common/cuda", {"common/files/error.hpp", "common/tensor/"}},
    {"chapters/NN", {"common/", "chapters/NN", "chapters/models/"}},  // NN: not a later one
    {"chapters/models", {"common/", "chapters/NN"}},
    {"chapters", {"common/", "chapters/NN", "chapters/models/"}},
    {"chapters/studies", {"common/", "chapters/"}},
    {"chapters/server", {"common/", "chapters/NN"}},
    {"chapters/program", {"common/", "chapters/"}},
};

const fs::path root = KV_ROOT;

bool is_source(const fs::path& path) {
  static const std::set<std::string> endings{".cpp", ".hpp", ".cu", ".inc"};
  return endings.contains(path.extension().string());
}

/// Sources of the house by their paths from the root, sorted.
Names sources(const Names& folders) {
  Names result;
  for (const std::string& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(root / folder))
      if (is_source(entry.path())) result.push_back(fs::relative(entry.path(), root).generic_string());
  std::ranges::sort(result);
  return result;
}

/// The book's own files that a file includes.
Names includes(const std::string& file) {
  const std::string text = contents_of(root / file);
  static const std::regex line(R"re((?:^|\n)#include "((?:common|chapters|tests|docs)/[^"]+)")re");
  Names result;
  for (auto match = std::sregex_iterator(text.begin(), text.end(), line); match != std::sregex_iterator(); ++match)
    result.push_back((*match)[1]);
  return result;
}

/// "chapters/03_preallocated_cache", "common/tensor", "chapters": a folder's folders belong to it.
std::string room(const std::string& file) {
  const size_t first = file.find('/'), second = file.find('/', first + 1);
  return file.substr(0, second == std::string::npos ? first : second);
}

bool is_chapter(std::string_view room) { return room.starts_with("chapters/") && room[9] >= '0' && room[9] <= '9'; }

/// An edge for each include, between files or between rooms.
using Graph = std::map<std::string, std::set<std::string>>;

Graph files_graph() {
  Graph graph;
  for (const std::string& file : sources({"common", "chapters", "tests", "docs/measure"}))
    for (const std::string& included : includes(file)) graph[file].insert(included);
  return graph;
}

Graph rooms_graph() {
  Graph graph;
  for (const auto& [file, included] : files_graph())
    for (const std::string& other : included)
      if (other != "common/files/error.hpp" && room(other) != room(file)) graph[room(file)].insert(room(other));
  return graph;
}

/// The first circle that is found, as "a > b > a"; empty when there is none.
std::string circle(const Graph& graph) {
  std::set<std::string> seen;
  Names path;
  std::string found;
  const auto visit = [&](const auto& self, const std::string& node) -> void {
    const auto again = std::ranges::find(path, node);
    if (again != path.end() && found.empty()) {
      std::for_each(again, path.end(), [&](const std::string& each) { found += each + " > "; });
      found += node;
    }
    if (!found.empty() || !seen.insert(node).second) return;
    path.push_back(node);
    if (graph.contains(node))
      for (const std::string& next : graph.at(node)) self(self, next);
    path.pop_back();
  };
  for (const auto& [node, next] : graph) visit(visit, node);
  return found;
}

/// Empty, or why `file` may not include `included`.
std::string objection(const std::string& file, const std::string& included) {
  const std::string from = room(file), to = room(included);
  if (from == to) return "";
  const std::string row = is_chapter(from) ? "chapters/NN" : from;
  if (!may_include.contains(row)) return from + " is a room that the table in house_test.cpp does not know";
  const bool allowed = std::ranges::any_of(may_include.at(row), [&](const std::string& beginning) {
    return beginning == "chapters/NN" ? is_chapter(to) : included.starts_with(beginning);
  });
  if (!allowed) return file + " includes " + included + ": " + from + " may not look into " + to;
  if (is_chapter(from) && is_chapter(to) && to > from) return file + " includes " + included + ", of a later chapter";
  return "";
}

/// Names in a folder, as `ls` shows them.
Names listed(const std::string& folder) {
  Names names;
  for (const auto& entry : fs::directory_iterator(root / folder)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

}  // namespace

TEST_CASE("no circle of includes, and none of rooms", "[house]") {
  CHECK(circle({{"a", {"b"}}, {"b", {"c", "d"}}, {"d", {"b"}}}) == "b > d > b");
  CHECK(circle({{"a", {"b", "c"}}, {"b", {"c"}}}) == "");
  CHECK(circle(files_graph()) == "");
  CHECK(circle(rooms_graph()) == "");
}

TEST_CASE("every arrow between rooms is allowed", "[house]") {
  CHECK(objection("common/tensor/rope.cpp", "common/files/json.hpp") != "");
  CHECK(objection("common/model/a.cpp", "chapters/stages.hpp") != "");
  CHECK(objection("chapters/02_b/a.cpp", "chapters/03_c/c.hpp") != "");
  CHECK(objection("chapters/03_c/c.cpp", "chapters/02_b/a.hpp") == "");
  CHECK(objection("chapters/models/a.cpp", "chapters/studies/b.hpp") != "");
  CHECK(objection("chapters/unknown/a.cpp", "common/tensor/tensor.hpp") != "");
  index_t arrows = 0;
  for (const std::string& file : sources({"common", "chapters"}))
    for (const std::string& included : includes(file)) {
      ++arrows;
      if (const std::string why = objection(file, included); !why.empty()) FAIL_CHECK(why);
    }
  CHECK(arrows > 400);
}

TEST_CASE("what is included is there", "[house]") {
  for (const auto& [file, included] : files_graph())
    for (const std::string& other : included) {
      CAPTURE(file, other);
      CHECK(fs::exists(root / other));
    }
}

TEST_CASE("two folders fit on a screen and name the ideas", "[house]") {
  for (const char* folder : {"common", "chapters"}) {
    const Names names = listed(folder);
    CAPTURE(folder, names);
    CHECK(names.size() <= 24);
  }
}

TEST_CASE("every source is compiled by something", "[house]") {
  if (test::sanitized) return;  // such a build leaves out chapter 6's tests and the benchmarks
  const Json commands = Json::read(fs::path(KV_BUILD) / "compile_commands.json");
  std::set<std::string> compiled;
  for (index_t i = 0; i < commands.length(); ++i)
    compiled.insert(fs::relative(commands.at(i).at("file").text(), root).generic_string());
  for (const std::string& file : sources({"common", "chapters", "tests", "docs/measure"})) {
    if (!file.ends_with(".cpp") && !file.ends_with(".cu")) continue;
    if (file.starts_with("tests/fuzz/") || file.starts_with("tests/gpu/") || file.starts_with("tests/bench/peers/") || file.find("/mpi/") != file.npos)
      continue;  // by scripts of their own; where nvcc is; by hand; where MPI is
    if (!compiled.contains(file)) FAIL_CHECK(file + " is compiled by nothing: no glob in a CMake file finds it");
  }
}
