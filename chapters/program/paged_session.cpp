#include "chapters/program/paged_session.hpp"

#include <algorithm>

#include "common/files/error.hpp"

namespace kv {

Stage chosen_paged_stage(const Checkpoint& checkpoint, const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, family(checkpoint.config()) == Family::mla ? "paged-absorbed" : "paged");
  if (!stage.make_on_pages) throw UsageError("stage '" + std::string(stage.name) + "' keeps no pages (stages: paged, paged-absorbed, paged-fp8)");
  return stage;
}

Limits chosen_limits(const Checkpoint& checkpoint, const Stage& stage, const Arguments& arguments) {
  const index_t usual = std::min<index_t>(model_sizes(checkpoint.config()).context, 4096);
  return {.sequences = arguments.size_or("--batch", 8, 1),
          .capacity = require_context(checkpoint, stage, arguments.size_or("--capacity", usual, 1))};
}

Scheduler load_scheduler(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits, const SchedulerOptions& options) {
  const std::shared_ptr<PageTable> table = make_page_table(limits, stage.options);
  return {load_decoder(checkpoint, on_table(stage, table), limits), table, options};
}

}  // namespace kv
