/// @file
/// Every rung of the ladder that a GPU has run before, once, in order, on the problem of docs/measured/ladder_traffic.md: for a profiler to count what
/// they read, so that the CPU runtime's counts can be compared. tests/gpu/verify runs it.
#include <iostream>

#include "chapters/06_cuda_kernels/ladder/ladder.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/cuda/stream.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv::cuda;

int main() {
  try {
    const MlaDecodeOnDevice device(kv::test::traffic_problem());
    for (const Rung& rung : ladder()) {
      if (rung.untried || !why_not(rung, device_properties()).empty()) continue;
      Buffer<unsigned char> workspace(rung.workspace_bytes(device.problem(), kv::test::traffic_multiprocessors));
      rung.launch(device.problem(), {workspace.data(), kv::test::traffic_multiprocessors});
      check(cudaDeviceSynchronize(), rung.name);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "ladder_once: error: " << error.what() << "\n";
    return 1;
  }
}
