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
  if (equality.tolerance == 0.0) return "bit for bit";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "within %.0e: ", equality.tolerance);
  return buffer + std::string(equality.reason);
}

JsonObject describe(const Stage& stage) {
  JsonObject object;
  object.set("name", stage.name)
      .set("chapter", static_cast<std::int64_t>(stage.chapter))
      .set("idea", stage.idea)
      .set("families", families_text(stage))
      .set("tolerance", stage.equality.tolerance)
      .set("reason", stage.equality.reason);
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
