/// @file
/// kvbook-mpi: kvbook on the ranks of an MPI job. Rank 0 is the program, the others work for it.
#include <algorithm>
#include <iostream>

#include "common/checkpoint/fingerprint.hpp"
#include "chapters/10_tensor_parallel/mpi/mpi_communicator.hpp"
#include "chapters/10_tensor_parallel/rank_group.hpp"
#include "chapters/program/kvbook.hpp"
#include "chapters/program/session.hpp"
#include "common/files/mapped_file.hpp"
#include "common/tensor/memory.hpp"

namespace {

int run(kv::Communicator& job, const std::vector<std::string>& words) {
  std::uint64_t command = kv::fingerprint(KV_VERSION);
  for (const std::string& word : words) command = kv::fingerprint(word + "\n", command);
  kv::require_same(job, "version or command line", command);
  if (job.rank() != 0) {
    if (const auto inputs = std::ranges::find(words, "--inputs"); words.end() - inputs > 1) kv::apply_inputs(inputs[1]);
    return kv::follow_job(job);
  }
  kv::join_job(job);
  const auto failure = kv::run_kvbook(words);
  if (failure) kv::print_error(failure->message);
  kv::leave_job(failure ? failure->exit_code : 0);
  return failure ? failure->exit_code : 0;
}

}  // namespace

int main(int count, char** words) {
  kv::keep_freed_memory();
  kv::report_shortened_files();
  kv::MpiCommunicator job(count, words);
  try {
    return run(job, {words + 1, words + count});
  } catch (const std::exception& error) {
    job.abort(error.what());
  }
  return 1;
}
