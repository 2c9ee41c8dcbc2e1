/// What the book says of itself: the README's ladder is the table of stages, its core path and folders are those that
/// are there, and no text speaks of what is yet to come.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <regex>

#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"

using namespace kv;
using namespace kv::test;
namespace fs = std::filesystem;

namespace {

using Names = std::vector<std::string>;

const fs::path root = KV_ROOT;

/// Lines, without their ends.
Names lines(const std::string& text) {
  Names result{""};
  for (const char c : text)
    if (c == '\n')
      result.emplace_back();
    else
      result.back() += c;
  return result;
}

/// What stands between "<!-- NAME -->" and "<!-- end of NAME -->".
std::string marked(const std::string& file, const std::string& name) {
  const std::string text = contents_of(root / file), begin = "<!-- " + name + " -->\n", end = "<!-- end of " + name + " -->";
  const std::size_t first = text.find(begin), last = text.find(end);
  if (first == text.npos || last == text.npos) throw Error(file + ": the marks of '" + name + "' are not there");
  return text.substr(first + begin.size(), last - first - begin.size());
}

/// Names between back ticks.
Names quoted(const std::string& text) {
  static const std::regex name("`([^`]+)`");
  Names result;
  for (auto match = std::sregex_iterator(text.begin(), text.end(), name); match != std::sregex_iterator(); ++match)
    result.push_back((*match)[1]);
  return result;
}

Names folders(const fs::path& folder) {
  Names names;
  for (const auto& entry : fs::directory_iterator(root / folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name[0] != '.' && name[0] != '_') names.push_back((folder / name).generic_string());
  }
  std::ranges::sort(names);
  return names;
}

/// Lines of a folder's C++ files, or of one file; "name.*" stands for its header and its source.
index_t line_count(const std::string& path) {
  CAPTURE(path);
  if (path.ends_with(".*")) {
    const std::string stem = path.substr(0, path.size() - 2);
    return line_count(stem + ".hpp") + line_count(stem + ".cpp");
  }
  REQUIRE(fs::exists(root / path));
  if (!fs::is_directory(root / path)) return lines(contents_of(root / path)).size() - 1;
  index_t count = 0;
  for (const auto& entry : fs::directory_iterator(root / path))
    if (entry.path().extension() == ".cpp" || entry.path().extension() == ".hpp")
      count += lines(contents_of(entry.path())).size() - 1;
  return count;
}

std::string grouped(index_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t place = digits.size(); place > 3;) digits.insert(place -= 3, ",");
  return digits;
}

/// Bytes that a stage keeps for each further token of a shipped model, where a format has groups for those of a group; a
/// dash where it does not run.
std::string bytes_per_token(const Stage& stage, const std::string& model) {
  const Checkpoint checkpoint(fs::path(KV_DATA) / model);
  if (std::ranges::find(stage.families, family(checkpoint.config())) == stage.families.end()) return "-";
  const std::vector<Token> group(32, 1);
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 2 * group.size()});
  decoder.last_logits({{0, group}});
  const std::size_t before = decoder.state_bytes().used;
  decoder.last_logits({{0, group}});
  return grouped((decoder.state_bytes().used - before) / group.size());
}

std::string promise(const Equality& equality) {
  if (equality.lossy) return "lossy: measured";
  if (equality.exact()) return equality.reference == "uncached" ? "equal bits" : "equal bits, as `" + std::string(equality.reference) + "`";
  char text[32];
  std::snprintf(text, sizeof text, "within %.0e", equality.tolerance);
  return text;
}

/// "[3 The preallocated cache](chapters/03_preallocated_cache/chapter.md)"
std::string link(const std::string& folder) {
  const fs::path text = root / folder / "chapter.md";
  const std::string number = std::to_string(std::stoi(folder.substr(9, 2)));
  if (!fs::exists(text)) return "[" + number + "](" + folder + ")";
  const std::string heading = lines(contents_of(text)).front();
  std::smatch found;
  REQUIRE(std::regex_match(heading, found, std::regex("# [0-9]+ · (.*) \\{#ch[0-9]+\\}")));
  return "[" + number + " " + found[1].str() + "](" + folder + "/chapter.md)";
}

/// The README's table of chapters and stages.
std::string ladder() {
  std::string table =
      "| chapter | stage | what it does | its logits next to `uncached` | bytes per token: tiny-gqa | tiny-mla |\n"
      "|---|---|---|---|---|---|\n";
  for (const std::string& folder : folders("chapters")) {
    if (!std::isdigit(static_cast<unsigned char>(folder[9]))) continue;
    std::string chapter = link(folder);
    for (const Stage& stage : stages()) {
      if (stage.chapter != std::stoi(folder.substr(9, 2))) continue;
      table += "| " + chapter + " | `" + std::string(stage.name) + "` | " + std::string(stage.idea) + " | " +
               (stage.name == "uncached" ? "the reference" : promise(stage.equality)) + " | " +
               bytes_per_token(stage, "tiny-gqa") + " | " + bytes_per_token(stage, "tiny-mla") + " |\n";
      chapter.clear();
    }
    if (!chapter.empty()) table += "| " + chapter + " | | no stage of its own: every stage runs on its models | | | |\n";
  }
  return table;
}

/// Lines of all files that a row of the core path names. A name alone is in the folder of the one before.
index_t lines_of_row(const std::string& row) {
  index_t count = 0;
  std::string folder;
  for (const std::string& name : quoted(row)) {
    const bool alone = name.find('/') == name.npos;
    if (!alone) folder = name.substr(0, name.rfind('/') + 1);
    count += line_count(alone ? folder + name : name);
  }
  return count;
}

/// The core path as it stands, its numbers counted anew, in tens.
std::string core_path() {
  static const std::regex number("[0-9]+ \\|$");
  std::string table;
  for (const std::string& row : lines(marked("README.md", "core path"))) {
    const index_t count = lines_of_row(row);
    if (!row.empty()) table += (count == 0 ? row : std::regex_replace(row, number, std::to_string((count + 5) / 10 * 10) + " |")) + "\n";
  }
  return table;
}

void write(const std::string& file, const std::string& name, const std::string& replacement) {
  std::string text = contents_of(root / file);
  const std::string begin = "<!-- " + name + " -->\n";
  text.replace(text.find(begin) + begin.size(), marked(file, name).size(), replacement);
  std::ofstream(root / file) << text;
}

constexpr const char* how_to_write = "After a change that is meant: KV_WRITE_README=1 build/tests/book_test";
bool on_purpose() { return std::getenv("KV_WRITE_README") != nullptr; }

/// All texts and sources of the repository's own folders.
Names texts() {
  Names result{"README.md"};
  for (const char* folder : {"chapters", "common", "data", "docs", "tests"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string ending = entry.path().extension().string();
      if (ending == ".md" || ending == ".cpp" || ending == ".hpp" || ending == ".cu" || ending == ".cmake")
        result.push_back(fs::relative(entry.path(), root).generic_string());
    }
  return result;
}

}  // namespace

TEST_CASE("the README's ladder is the table of stages", "[book]") {
  INFO(how_to_write);
  if (on_purpose()) write("README.md", "ladder", ladder());
  CHECK(marked("README.md", "ladder") == ladder());
}

TEST_CASE("the core path is as long as it says, and the same on the book's first page", "[book]") {
  INFO(how_to_write);
  if (on_purpose())
    for (const char* file : {"README.md", "docs/index.md"}) write(file, "core path", core_path());
  const std::string path = marked("README.md", "core path");
  CHECK(marked("docs/index.md", "core path") == path);
  index_t total = 0;
  for (const std::string& row : lines(path)) {
    const index_t count = lines_of_row(row);
    if (count == 0) continue;
    std::smatch said;
    CAPTURE(row, count);
    REQUIRE(std::regex_search(row, said, std::regex("\\| ([0-9]+) \\|$")));
    CHECK(std::abs(std::stod(said[1]) - static_cast<double>(count)) <= 10 + 0.1 * static_cast<double>(count));
    total += count;
  }
  CAPTURE(total);
  CHECK(total > 2500);
  CHECK(total < 3500);
}

TEST_CASE("the README has a line for every folder", "[book]") {
  Names named;
  for (const std::string& row : lines(marked("README.md", "house")))
    if (row.starts_with("| `")) named.push_back(quoted(row).front());
  for (const char* floor : {"common", "chapters", "tests", "docs", "data"}) {
    Names all = folders(floor);
    all.emplace_back(floor);
    for (const std::string& folder : all) {
      if (folder.starts_with("chapters/0") || folder.starts_with("chapters/1")) continue;  // in the ladder
      CAPTURE(folder);
      CHECK(std::ranges::count(named, folder) == 1);
    }
  }
  for (const std::string& folder : named) {
    CAPTURE(folder);
    CHECK(fs::is_directory(root / folder));
  }
}

TEST_CASE("no text speaks of what is yet to come", "[book]") {
  const std::regex promises("not here " "yet|\\bplan" "ned\\b", std::regex::icase);
  for (const std::string& file : texts()) {
    std::smatch found;
    const std::string text = contents_of(root / file);
    if (std::regex_search(text, found, promises)) FAIL_CHECK(file + " says '" + found.str() + "'");
  }
}

TEST_CASE("links of the README lead somewhere", "[book]") {
  const std::string text = contents_of(root / "README.md");
  static const std::regex target("\\]\\(([^)#]+)\\)");
  for (auto match = std::sregex_iterator(text.begin(), text.end(), target); match != std::sregex_iterator(); ++match) {
    const std::string path = (*match)[1];
    CAPTURE(path);
    CHECK((path.starts_with("https://") || fs::exists(root / path)));
  }
}
