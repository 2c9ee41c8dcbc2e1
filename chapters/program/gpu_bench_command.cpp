#include <iostream>

#include "chapters/06_cuda_kernels/bench/bench.hpp"
#include "chapters/program/session.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

using cuda::Machine;

// Times of the CPU runtime are left out: they say nothing about the kernels' speed.

JsonObject describe(const Machine& machine) {
  JsonObject object;
  object.set("name", machine.name)
      .set("is_cpu_runtime", machine.is_cpu)
      .set("capability", static_cast<index_t>(machine.capability))
      .set("multiprocessors", static_cast<index_t>(machine.multiprocessors))
      .set("driver_version", static_cast<index_t>(machine.driver_version))
      .set("runtime_version", static_cast<index_t>(machine.runtime_version))
      .set("memory_bytes", machine.memory_bytes)
      .set("l2_bytes", machine.l2_bytes);
  return object;
}

JsonObject describe(const cuda::Ceilings& ceilings, const Machine& machine) {
  JsonObject object;
  if (machine.is_cpu) return object;
  object.set("copy_gb_per_s", ceilings.copy_bytes_per_s / 1e9)
      .set("read_gb_per_s", ceilings.read_bytes_per_s / 1e9)
      .set("our_gemm_tflop_per_s", ceilings.our_flop_per_s / 1e12);
  if (ceilings.library_flop_per_s) object.set("cublaslt_tflop_per_s", *ceilings.library_flop_per_s / 1e12);
  return object;
}

JsonObject describe(JsonObject object, const cuda::KernelTime& kernel, const Machine& machine) {
  object.set("name", kernel.name);
  if (!kernel.skipped.empty()) return object.set("skipped", kernel.skipped);
  if (machine.is_cpu) return object.set("ran", true);
  return object.set("microseconds", kernel.microseconds)
      .set("gb_per_s", kernel.bytes_per_s / 1e9)
      .set("tflop_per_s", kernel.flop_per_s / 1e12)
      .set("roofline_share", kernel.roofline_share);
}

JsonObject describe(const cuda::DecodeShape& shape, const cuda::Ceilings& ceilings, const cuda::BenchSizes& sizes, const Machine& machine) {
  const cuda::LadderTimes times = cuda::measure_ladder(shape, ceilings, sizes);
  std::vector<JsonObject> rungs;
  for (const cuda::RungTime& rung : times.rungs) {
    JsonObject label = JsonObject().set("rung", static_cast<index_t>(rung.number));
    if (rung.letter) label.set("letter", std::string(1, rung.letter));
    rungs.push_back(describe(label, rung.kernel, machine));
  }
  JsonObject object;
  object.set("batch", static_cast<index_t>(shape.batch))
      .set("context", static_cast<index_t>(shape.context))
      .set("heads", static_cast<index_t>(shape.heads))
      .set("shortest", static_cast<index_t>(shape.shortest))
      .set("rungs", rungs);
  if (times.flashmla) object.set("yardstick", describe(JsonObject().set("commit", times.flashmla->commit), times.flashmla->kernel, machine));
  return object;
}

JsonObject describe(const cuda::ModelShape& shape, const cuda::ModelTime& time, const cuda::Ceilings& ceilings, const Machine& machine) {
  JsonObject object;
  object.set("model", shape.name)
      .set("batch", time.batch)
      .set("context", time.context)
      .set("attention", time.attention)
      .set("weight_bytes", time.weight_bytes)
      .set("cache_bytes", time.cache_bytes)
      .set("steps_together", time.steps_together)
      .set("touched_bytes", time.touched_bytes);
  if (machine.is_cpu) return object.set("ran", true);
  return object.set("milliseconds_per_step", time.milliseconds)
      .set("tokens_per_s", time.tokens_per_s)
      .set("floor_share", time.touched_bytes / ceilings.read_bytes_per_s * 1e3 / time.milliseconds);
}

void run(const Arguments& arguments) {
  const bool tiny = arguments.has("--tiny");
  if (!tiny && (!cuda::device_available() || cuda::device_is_cpu()))
    throw Error("gpu-bench needs a GPU: build with KV_CUDA=ON and use kvbook-gpu");
  const Machine machine = cuda::machine();
  cuda::BenchSizes sizes = tiny ? cuda::tiny_bench() : cuda::full_bench();
  sizes.untried_rungs = arguments.has("--untried");
  show_progress("gpu-bench: ceilings");
  const cuda::Ceilings ceilings = cuda::measure_ceilings(sizes);
  std::vector<JsonObject> ladder, decode;
  for (const cuda::DecodeShape& shape : tiny ? cuda::tiny_shapes() : cuda::full_shapes()) {
    show_progress("gpu-bench: ladder, batch " + std::to_string(shape.batch) + ", context " + std::to_string(shape.context));
    ladder.push_back(describe(shape, ceilings, sizes, machine));
  }
  const cuda::ModelShape model = tiny ? cuda::tiny_model() : cuda::v2_lite();
  const index_t context = tiny ? 70 : 4096;
  for (const index_t batch : tiny ? std::vector<index_t>{2} : std::vector<index_t>{1, 8, 32}) {
    show_progress("gpu-bench: decode, batch " + std::to_string(batch));
    decode.push_back(describe(model, cuda::measure_decode(model, batch, context, sizes), ceilings, machine));
  }
  const cuda::ModelShape heads = tiny ? cuda::tiny_heads() : cuda::llama_8b();
  std::vector<JsonObject> dense, uncached;
  for (const index_t batch : tiny ? std::vector<index_t>{2} : std::vector<index_t>{1, 8, 32}) {
    show_progress("gpu-bench: decode of heads, batch " + std::to_string(batch));
    dense.push_back(describe(heads, cuda::measure_decode(heads, batch, context, sizes), ceilings, machine));
  }
  for (const index_t length : tiny ? std::vector<index_t>{70} : std::vector<index_t>{16, 64, 256, 1024}) {
    show_progress("gpu-bench: with a cache and without, context " + std::to_string(length));
    uncached.push_back(JsonObject()
                           .set("cached", describe(heads, cuda::measure_decode(heads, 1, length, sizes), ceilings, machine))
                           .set("uncached", describe(heads, cuda::measure_uncached(heads, length, sizes), ceilings, machine)));
  }
  clear_progress();
  std::cout << JsonObject()
                   .set("tiny", tiny)
                   .set("device", describe(machine))
                   .set("ceilings", describe(ceilings, machine))
                   .set("ladder", ladder)
                   .set("decode", decode)
                   .set("dense", dense)
                   .set("uncached", uncached)
                   .text()
            << "\n";
}

}  // namespace

const Command gpu_bench_command{"gpu-bench",
                                "chapter 6's kernels on a GPU: ceilings, every rung, whole models",
                                {{"--tiny", "", "small sizes, on the CPU's runtime too: does it run? Tells no speed there"},
                                 {"--untried", "", "rungs that no GPU has run before too"},
                                 {"--json", "", "the only form there is"}},
                                run};

}  // namespace kv
