/// @file
/// What each rung of the ladder promises about memory, counted. Built in the "traffic" mode only.
#include <algorithm>

#include "common/cuda/simt/traffic.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;
using namespace kv::cuda;

namespace {

constexpr long row_bytes = latent_width * sizeof(bf16), value_bytes = value_width * sizeof(bf16);
const std::vector<int> lengths{65, 3};
constexpr long tokens = 65 + 3, rows_of_pages = (2 + 1) * page_tokens;

struct Measured {
  simt::Traffic traffic;
  simt::Access latents, queries;
};

Measured measure(const Rung& rung, int heads) {
  const MlaDecodeOnDevice device(test::make({heads, lengths, 1}));
  Buffer<unsigned char> workspace(rung.workspace_bytes(device.problem(), 2));
  Measured m{simt::measure_traffic([&] { rung.launch(device.problem(), {workspace.data(), 2}); }), {}, {}};
  m.latents = m.traffic.loads_of(device.problem().latents), m.queries = m.traffic.loads_of(device.problem().queries);
  return m;
}

/// Rungs first ... last, and the steps between them.
std::vector<Rung> rungs(int first, int last) {
  std::vector<Rung> result;
  for (const Rung& rung : ladder())
    if (rung.number >= first && rung.number <= last) result.push_back(rung);
  return result;
}

/// How often a rung from 4 on reads each row.
long reads(const Rung& rung, int heads) {
  const std::string label = rung.label();
  const int tile = rung.number < 7 || label == "7" || label == "7b" || label == "11" ? 16 : 64;
  return label == "10" ? 1 : (heads + tile - 1) / tile * (label == "7c" ? 2 : 1);
}

}  // namespace

TEST_CASE("rungs 1 and 2 read each row twice for each head", "[traffic]") {
  for (const Rung& rung : rungs(1, 2)) {
    INFO(rung.name);
    CHECK(measure(rung, 3).latents.bytes == 3 * tokens * (row_bytes + value_bytes));
  }
}

TEST_CASE("rung 3 reads each row once for each head", "[traffic]") {
  CHECK(measure(find_rung("3"), 3).latents.bytes == 3 * tokens * row_bytes);
}

TEST_CASE("rungs 4 and up read each row once for 16 heads; two blocks with half of the columns each, twice", "[traffic]") {
  for (const Rung& rung : rungs(4, 11)) {
    INFO(rung.name);
    const simt::Access latents = measure(rung, 16).latents;
    CHECK(latents.bytes == reads(rung, 16) * latents.unique_bytes);
    CHECK(latents.unique_bytes == (rung.number < 7 ? tokens : rows_of_pages) * row_bytes);  // TMA brings whole pages
  }
}

TEST_CASE("a tile of heads reads each row once: 16 heads in rungs 4 to 7b, 64 from rung 7c to 10, and two tiles together on rung 10", "[traffic]") {
  for (const Rung& rung : rungs(4, 11)) {
    INFO(rung.name);
    const simt::Access latents = measure(rung, 65).latents;
    CHECK(latents.bytes == reads(rung, 65) * latents.unique_bytes);
  }
}

TEST_CASE("rung 1 wastes most of what it reads, the others nothing", "[traffic]") {
  CHECK(measure(find_rung("1"), 2).latents.used() < 0.2);
  for (const Rung& rung : rungs(2, 11)) {
    INFO(rung.name);
    const Measured m = measure(rung, 2);
    CHECK(m.latents.used() == 1.0);
    CHECK(m.queries.used() >= 1.0);
  }
}

TEST_CASE("on the rungs of the tensor cores no access of shared memory meets a bank conflict", "[traffic]") {
  for (const Rung& rung : rungs(6, 11))
    for (const simt::LineTraffic& line : measure(rung, 16).traffic.lines) {
      if (!line.shared) continue;
      INFO(rung.name << ", " << line.file << ":" << line.line);
      const double least = std::max(double(line.access.requests), double(line.access.bytes) / 128);  // wavefronts
      CHECK(double(line.access.wavefronts) <= least);
    }
}
