/// @file
/// Every rung as part of a CUDA graph: recorded once, replayed when the sequences have grown.
#include "common/cuda/stream.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;
using namespace kv::cuda;

TEST_CASE("a recorded rung follows lengths that change", "[ladder]") {
  constexpr int multiprocessors = 2;
  for (const Rung& rung : ladder()) {
    INFO(rung.name);
    if (const std::string reason = why_not(rung, device_properties()); !reason.empty()) {
      WARN("skipped: " << reason);
      continue;
    }
    MlaDecodeOnHost host = test::make({2, {150, 0, 66}, 1});
    MlaDecodeOnDevice device(host);
    Buffer<unsigned char> workspace(rung.workspace_bytes(device.problem(), multiprocessors));
    Stream stream;
    host.lengths = {20, 0, 3};
    device.set_lengths(host.lengths);
    Graph graph(stream, [&] { rung.launch(device.problem(), {workspace.data(), multiprocessors, stream.get()}); });
    for (const std::vector<int>& lengths : {std::vector<int>{20, 0, 3}, {64, 0, 63}, {65, 0, 64}, {150, 0, 66}, {0, 0, 64}}) {
      host.lengths = lengths;
      device.set_lengths(lengths);
      device.poison();
      graph.replay(stream);
      stream.synchronize();
      CHECK(test::same_bits(device.results(), decode(rung, host, multiprocessors)));
    }
  }
}
