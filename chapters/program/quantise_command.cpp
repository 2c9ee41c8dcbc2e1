#include "chapters/studies/round_weights.hpp"

#include <iostream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

void run(const Arguments& arguments) {
  apply_threads(arguments);
  arguments.text("--model");  // never the shipped model by accident
  const std::filesystem::path output = arguments.text("--output");
  if (output.empty()) throw UsageError("--output is empty; give the name of a new directory");
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const Quantised written = quantise(checkpoint, output, [](const std::string& tensor) { show_progress(tensor); });
  clear_progress();
  std::cout << output.string() << ": " << written.rounded << " matrices in 8-bit integers, " << written.copied << " tensors as they were\n"
            << grouped(written.bytes) << " bytes of weights, " << decimal(100.0 * static_cast<double>(written.bytes) / static_cast<double>(written.bytes_before), 1)
            << "% of " << grouped(written.bytes_before) << "\n";
}

}  // namespace

const Command quantise_command{"quantise",
                               "write a checkpoint with its linear weights in 8-bit integers",
                               {{"--model", "DIR", "checkpoint to read, in bf16, f16 or f32"},
                                {"--output", "DIR", "new directory; embedding, output matrix, norms, gates, kv_b_proj stay"},
                                threads_option},
                               run};

}  // namespace kv
