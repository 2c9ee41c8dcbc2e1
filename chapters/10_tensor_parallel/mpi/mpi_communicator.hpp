#pragma once
/// @file
/// Ranks that are processes, on one machine or on many, started by mpirun.
#include "chapters/10_tensor_parallel/communicator.hpp"

namespace kv {

/// The ranks of MPI_COMM_WORLD. MPI is up from its construction to its destruction; one object in a process.
class MpiCommunicator : public Communicator {
 public:
  /// As main's arguments; MPI may take some of them.
  MpiCommunicator(int& count, char**& words);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  index_t rank() const override { return rank_; }
  index_t ranks() const override { return ranks_; }
  /// Prints one line on standard error, unless another rank of this machine has done so, and ends the job.
  void abort(const std::string& why) noexcept override;

 protected:
  void exchange(const std::vector<ConstBytes>& out, const std::vector<Bytes>& in) override;

 private:
  index_t rank_, ranks_;
};

}  // namespace kv
