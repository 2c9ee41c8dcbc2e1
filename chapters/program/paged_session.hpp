#pragma once
/// @file
/// What the commands share that serve many requests: a checkpoint becomes a scheduler.
#include "chapters/09_paged_cache/scheduler.hpp"
#include "chapters/program/session.hpp"

namespace kv {

inline constexpr Option batch_option{"--batch", "B", "answers that run together (default 8)"};
inline constexpr Option capacity_option{"--capacity", "C", "tokens that one answer may have with its prompt (default: the context, at most 4096)"};
inline constexpr Option step_option{"--tokens-per-step", "N", "tokens that are fed in one step (default 512)"};

/// --stage with its options (--page, --pages), or the stage of this chapter that fits the checkpoint: `paged` where heads
/// are kept, `paged-absorbed` where latents are.
/// @throws UsageError for a stage that keeps no pages
Stage chosen_paged_stage(const Checkpoint& checkpoint, const Arguments& arguments);

/// --batch and --capacity.
/// @throws Error for a capacity beyond the model's context
Limits chosen_limits(const Checkpoint& checkpoint, const Stage& stage, const Arguments& arguments);

/// Loads the model and makes its scheduler.
Scheduler load_scheduler(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                         const SchedulerOptions& options);

}  // namespace kv
