#include <iostream>

#include "chapters/program/session.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

std::string families_text(const Stage& stage) {
  std::string text;
  for (const Family each : stage.families) text += (text.empty() ? "" : ", ") + std::string(name(each));
  return text;
}

std::string equality_text(const Equality& equality) {
  const std::string reference = equality.reference == "uncached" ? "" : " as " + std::string(equality.reference);
  if (equality.exact()) return "bit for bit" + reference;
  if (equality.lossy) return "lossy: " + std::string(equality.reason);
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "within %.0e", equality.tolerance);
  return buffer + reference + ": " + std::string(equality.reason);
}

/// "--budget N (128): rows that are kept; ..."
std::vector<std::string> options_text(const StageOptions& options) {
  std::vector<std::string> list;
  for (const StageOption& option : options)
    list.push_back("--" + std::string(option.name) + " " + std::string(option.letter) + ": " + std::string(option.help));
  return list;
}

JsonObject describe(const Stage& stage) {
  JsonObject object;
  object.set("name", stage.name)
      .set("chapter", static_cast<std::int64_t>(stage.chapter))
      .set("idea", stage.idea)
      .set("families", families_text(stage))
      .set("tolerance", stage.equality.tolerance)
      .set("reason", stage.equality.reason)
      .set("reference", stage.equality.reference)
      .set("lossy", stage.equality.lossy)
      .set("options", options_text(stage.options));
  return object;
}

void run(const Arguments& arguments) {
  if (arguments.has("--json")) {
    std::vector<JsonObject> list;
    for (const Stage& stage : stages()) list.push_back(describe(stage));
    std::cout << JsonObject().set("stages", list).text() << "\n";
    return;
  }
  Table table({"stage", "chapter", "families", "equal to uncached", "idea"});
  for (const Stage& stage : stages())
    table.add({std::string(stage.name), std::to_string(stage.chapter), families_text(stage),
               equality_text(stage.equality), std::string(stage.idea)});
  std::cout << table.text();
}

}  // namespace

const Command stages_command{"stages", "the table of stages", {json_option}, run};

}  // namespace kv
