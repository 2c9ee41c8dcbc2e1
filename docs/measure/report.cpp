#include "docs/measure/report.hpp"

#include <ctime>
#include <fstream>
#include <thread>

#include "common/files/error.hpp"
#include "common/tensor/parallel.hpp"

namespace kv::book {
namespace {

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
  return text;
}

/// The processor's name, where the system tells it.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "processor unknown";
}

std::string line_of(const std::vector<std::string>& cells) {
  std::string line = "|";
  for (const std::string& cell : cells) line += " " + cell + " |";
  return line + "\n";
}

}  // namespace

Circumstances circumstances(std::string commit, std::string model) {
  return {.date = today(),
          .device = processor() + ", " + std::to_string(std::thread::hardware_concurrency()) + " cores",
          .commit = std::move(commit),
          .model = std::move(model),
          .threads = threads()};
}

Report::Report(std::filesystem::path folder, Circumstances circumstances)
    : folder_(std::move(folder)), circumstances_(std::move(circumstances)) {
  all_.set("date", circumstances_.date)
      .set("device", circumstances_.device)
      .set("threads", circumstances_.threads)
      .set("commit", circumstances_.commit)
      .set("model", circumstances_.model);
}

Report Report::with_model(std::string model) const {
  Report report = *this;
  report.circumstances_.model = std::move(model);
  return report;
}

void Report::table(const std::string& name, const MarkdownTable& table, const std::string& note) const {
  std::string text = line_of(table.front());
  text += line_of([&] {
    std::vector<std::string> rule(table.front().size(), "---:");
    rule.front() = "---";
    return rule;
  }());
  for (auto row = table.begin() + 1; row != table.end(); ++row) text += line_of(*row);
  text += "\n<div class=\"measured\">" + note + " " + circumstances_.model + ". " + circumstances_.date + ", " +
          circumstances_.device + ", " + threads() + ", commit " +
          circumstances_.commit + ".</div>\n";
  write(name + ".md", text);
}

std::string Report::threads() const {
  return std::to_string(circumstances_.threads) + (circumstances_.threads == 1 ? " thread" : " threads");
}

void Report::figure(const std::string& name, const Plot& plot) const {
  write(name + ".svg", svg(plot, circumstances_.date + ", " + circumstances_.device + ", " + threads()));
}

void Report::numbers(const std::string& name, const std::vector<JsonObject>& rows) { all_.set(name, rows); }

void Report::finish(const std::string& file) { write(file, all_.text() + "\n"); }

void Report::write(const std::string& file, const std::string& text) const {
  std::ofstream stream(folder_ / file);
  if (!(stream << text) || !stream.flush()) throw Error((folder_ / file).string() + ": cannot be written");
}

}  // namespace kv::book
