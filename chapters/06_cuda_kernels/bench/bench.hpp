#pragma once
/// @file
/// What a device can do, and what the kernels make of it: measurements for `kvbook gpu-bench`. Nothing here needs CUDA to
/// be included. Times are from CUDA events around replayed graphs, those of whole models from the host's clock; medians;
/// random data; buffers that together are larger than the L2 cache are used in turn, so that nothing is found there from
/// the time before.
#include <optional>
#include <string>
#include <vector>

#include "common/model/attention.hpp"

namespace kv::cuda {

/// How large the measurements are.
struct BenchSizes {
  std::size_t copy_bytes;     ///< read, and as many written
  int matrix_size;            ///< of three square matrices
  int rounds;                 ///< whose median is taken
  index_t decode_steps;       ///< of a whole model
  bool untried_rungs = false; ///< time those too that no GPU has run
};
BenchSizes full_bench();
/// For a test of the program itself: numbers of no meaning.
BenchSizes tiny_bench();

/// The machine, by its own account.
struct Machine {
  std::string name;
  bool is_cpu;  ///< the CPU runtime: what it measures is not a speed
  int capability, multiprocessors, driver_version, runtime_version;
  std::size_t memory_bytes, l2_bytes;
};
Machine machine();

/// Programs that do nothing else.
struct Ceilings {
  double copy_bytes_per_s;                    ///< a copy kernel, bytes read and written
  double read_bytes_per_s;                    ///< a kernel that only reads, as decode does nearly: the higher limit
  std::optional<double> library_flop_per_s;   ///< cuBLASLt, bf16 with f32 sums; none on the CPU runtime
  double our_flop_per_s;                      ///< linear() on a prompt: each product counted once, computed twice
  double matrix_flop_per_s() const { return library_flop_per_s.value_or(our_flop_per_s); }
};
Ceilings measure_ceilings(const BenchSizes& sizes);

/// One kernel on one problem.
struct KernelTime {
  std::string name;
  std::string skipped = "";    ///< why; empty when it ran
  double microseconds = 0.0;
  double bytes_per_s = 0.0, flop_per_s = 0.0;
  double roofline_share = 0.0; ///< the time that the ceilings allow, over the time measured
};
struct RungTime {
  int number;
  char letter;                 ///< 0: none
  KernelTime kernel;
};
/// A kernel that is not the book's.
struct Yardstick {
  std::string commit;          ///< of its sources; empty where it is not known
  KernelTime kernel;
};
struct LadderTimes {
  std::vector<RungTime> rungs;
  std::optional<Yardstick> flashmla;  ///< none where the program is built without it
};

/// A decode step of absorbed MLA: pages in random order, sequences of lengths from `shortest`, in equal steps, to `context`.
struct DecodeShape {
  int batch, context, heads, shortest = context;
  std::vector<int> lengths() const;
};
std::vector<DecodeShape> full_shapes();
std::vector<DecodeShape> tiny_shapes();
/// All on the same buffers, each compared with the last rung that a GPU has run. @throws Error where results differ
LadderTimes measure_ladder(const DecodeShape& shape, const Ceilings& ceilings, const BenchSizes& sizes);

/// Decode with a whole model of random weights, made on the device: from the host, token ids in and out. Latents are kept, or
/// with key_value_heads the rows of that many heads, in bf16 and plain_width wide.
struct ModelShape {
  std::string name;
  index_t layers, dense_layers, width, heads, rank, rope_width, plain_width, value_width;
  index_t feed_forward_width, experts, chosen, expert_width, shared_experts, vocabulary;
  index_t key_value_heads = 0;
};
ModelShape v2_lite();
ModelShape llama_8b();
ModelShape tiny_model();
ModelShape tiny_heads();

struct ModelTime {
  index_t batch, context;
  std::string attention;     ///< whose kernel
  std::size_t weight_bytes, cache_bytes;
  index_t steps_together;    ///< that the host starts at once; only then it reads tokens
  double touched_bytes;      ///< that a step must read: the cache, and weights; of experts those that are chosen when all are
                             ///< equally likely
  double milliseconds;       ///< of a step
  double tokens_per_s;
};
ModelTime measure_decode(const ModelShape& shape, index_t batch, index_t context, const BenchSizes& sizes);
/// One sequence, whose whole text is fed again for every token: nothing is kept.  REQUIRES: shape.key_value_heads > 0
ModelTime measure_uncached(const ModelShape& shape, index_t context, const BenchSizes& sizes);

}  // namespace kv::cuda
