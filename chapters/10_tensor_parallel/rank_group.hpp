#pragma once
/// @file
/// All ranks of a model as one transformer: rank 0 is told what to do, tells the others, and does its own part.
/// So only rank 0 samples, prints and reads; the others need nothing but the calls. It costs one broadcast of a few dozen bytes
/// per step, and ranks can never disagree about a token.
#include <functional>
#include <memory>

#include "chapters/10_tensor_parallel/rank_model.hpp"
#include "chapters/models/stage_options.hpp"

namespace kv {

/// The whole model, on --ranks threads of this process with an equal part of its threads for each; or, after join_job(), on the
/// ranks of the job. When a rank fails, all stop: the call throws what that rank said, and so does every later one.
/// @throws UsageError when a rank would get nothing, or a job has another number of ranks than was asked for
std::unique_ptr<Transformer> make_on_ranks(Cut cut, const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options);

/// Of the latest model that was made: bytes of each rank's cache, and what each has sent since. All ranks are asked.
struct RankReport {
  StateBytes state;
  Traffic sent;
};
std::vector<RankReport> rank_reports(const Transformer& on_ranks);

/// This process is rank 0 of a job that was started from outside, by mpirun say: from now on models are made on its ranks.
/// @param job must outlive all models
void join_job(Communicator& job);
/// What the other ranks do until rank 0 leaves.  @return the job's exit code
int follow_job(Communicator& job);
/// Rank 0 has come to an end.
void leave_job(int exit_code);

/// Throws Error on each rank where `own` is not what rank 0 has.
void require_same(Communicator& line, std::string_view what, std::uint64_t own);

}  // namespace kv
