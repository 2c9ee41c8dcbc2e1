/// The checks of every communicator on the ranks of an MPI job. Each rank prints what is wrong; none: exit code 0.
#include <iostream>

#include "chapters/10_tensor_parallel/mpi/mpi_communicator.hpp"
#include "tests/support/communicator_checks.hpp"

int main(int count, char** words) {
  kv::MpiCommunicator line(count, words);
  if (count > 1 && std::string(words[1]) == "--throw") {  // rank 1 fails in the middle of many steps
    std::vector<float> x(100);
    for (int step = 0;; ++step) {
      if (line.rank() == 1 && step == 500) line.abort("rank 1 is out of paper");
      line.all_reduce(x);
    }
  }
  for (const kv::test::CommunicatorCheck& check : kv::test::communicator_checks())
    if (const std::string wrong = check.run(line); !wrong.empty())  // it takes no part any more: nobody waits for it
      line.abort(check.name + ", rank " + std::to_string(line.rank()) + ": " + wrong);
  if (line.rank() == 0) std::cout << kv::test::communicator_checks().size() << " checks passed on " << line.ranks() << " ranks\n";
}
