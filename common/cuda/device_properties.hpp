#pragma once
/// @file
/// What the machine has.
#include <cstddef>
#include <string>

namespace kv::cuda {

struct DeviceProperties {
  std::string name;
  int capability;               ///< 10 major + minor: 80, 90, 120
  int multiprocessors;
  std::size_t memory_bytes, shared_bytes_per_block, l2_bytes;
  int driver_version, runtime_version;  ///< 1000 major + 10 minor; 0 on the CPU

  bool has_tma() const { return capability >= 90; }
  bool has_wgmma() const { return capability == 90; }
};

/// Is there a device to launch kernels on? The CPU runtime is one.
bool device_available();
/// Is it the CPU runtime?
bool device_is_cpu();
/// Of the current device. @throws CudaError where there is none
const DeviceProperties& device_properties();

}  // namespace kv::cuda
