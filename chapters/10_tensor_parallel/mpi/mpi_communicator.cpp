#include "chapters/10_tensor_parallel/mpi/mpi_communicator.hpp"

#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <limits>

namespace kv {
namespace {

/// Whether a rank of this machine has said why the job ends: memory that all of them see.
std::atomic<int>* spoken = nullptr;

/// A signal handler may call this: it writes and does nothing else.
void say_once(const char* line, std::size_t size) noexcept {
  if (spoken && spoken->exchange(1) != 0) return;
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line, size);
}

/// mpirun ends the other ranks like this when one is gone.
extern "C" void say_that_a_rank_is_gone(int) {
  static constexpr char line[] = "kvbook: error: a rank is gone or mpirun was told to stop: the job ends\n";
  say_once(line, sizeof line - 1);
  ::_exit(1);
}

/// Makes `spoken`.
void share_memory_of_this_machine() {
  static_assert(std::atomic<int>::is_always_lock_free);
  MPI_Comm machine;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  int rank;
  MPI_Comm_rank(machine, &rank);
  MPI_Win window;
  int* own;
  MPI_Win_allocate_shared(rank == 0 ? sizeof(int) : 0, sizeof(int), MPI_INFO_NULL, machine, &own, &window);
  MPI_Aint size;
  int unit;
  int* first;
  MPI_Win_shared_query(window, 0, &size, &unit, &first);
  if (rank == 0) new (first) std::atomic<int>(0);
  MPI_Barrier(machine);
  spoken = reinterpret_cast<std::atomic<int>*>(first);
}

int count(std::size_t bytes) {
  if (bytes > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error("MPI: a message of more than 2 GB: feed the prompt in pieces");
  return static_cast<int>(bytes);
}

}  // namespace

MpiCommunicator::MpiCommunicator(int& count, char**& words) {
  std::signal(SIGTERM, say_that_a_rank_is_gone);  // first: another rank may be gone before all are up
  int provided, rank, ranks;
  MPI_Init_thread(&count, &words, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  rank_ = static_cast<index_t>(rank);
  ranks_ = static_cast<index_t>(ranks);
  share_memory_of_this_machine();
}

MpiCommunicator::~MpiCommunicator() {
  std::signal(SIGTERM, SIG_DFL);
  MPI_Finalize();
}

void MpiCommunicator::abort(const std::string& why) noexcept {
  std::string line = "kvbook: error: " + why;
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  line += "\n";
  say_once(line.data(), line.size());
  MPI_Abort(MPI_COMM_WORLD, 1);
  ::_exit(1);
}

// [exchange]
/// Every pair at once. An error of MPI itself ends the job: that is its default.
void MpiCommunicator::exchange(const std::vector<ConstBytes>& out, const std::vector<Bytes>& in) {
  std::vector<MPI_Request> requests;
  for (index_t r = 0; r < ranks_; ++r) {
    if (r == rank_) continue;
    const int other = static_cast<int>(r);
    MPI_Irecv(in[r].data(), count(in[r].size()), MPI_BYTE, other, 0, MPI_COMM_WORLD,
              &requests.emplace_back());
    MPI_Isend(out[r].data(), count(out[r].size()), MPI_BYTE, other, 0, MPI_COMM_WORLD,
              &requests.emplace_back());
  }
  std::ranges::copy(out[rank_], in[rank_].begin());
  MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
}
// [exchange]

}  // namespace kv
