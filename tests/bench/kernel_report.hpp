#pragma once
/// @file
/// The results of kernel_bench as files: JSON with everything, and the tables of the book's page on speed.
#include <filesystem>
#include <string>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv::bench {

/// Medians of one kernel. Its share is that of the limit measured beside it.
struct KernelResult {
  std::string name;
  double seconds, operations, bytes, share;
  std::vector<double> seconds_of_rounds;  ///< in order, so that what stood side by side can be compared
};

/// The machine, at the median of all measurements.
struct MachineLimits {
  std::string instruction_set;
  double flop_per_s, bytes_per_s;
};

/// {"instruction_set": ..., "kernels": [...]}
std::string json(const MachineLimits& limits, const std::vector<KernelResult>& results);

/// Writes kernels.json, kernels_linear.md, kernels_attention.md and kernels_order.md.
/// @param commit as git calls it  @throws Error
void write_book(const std::filesystem::path& folder, const std::string& commit, const MachineLimits& limits,
                const std::vector<KernelResult>& results);

}  // namespace kv::bench
