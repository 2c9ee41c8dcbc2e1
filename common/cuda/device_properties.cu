#include "common/cuda/device_properties.hpp"

#include "common/cuda/launch.hpp"

namespace kv::cuda {
namespace {

DeviceProperties ask() {
  int device = 0;
  cudaDeviceProp found;
  DeviceProperties properties;
  check(cudaGetDevice(&device), "device_properties");
  check(cudaGetDeviceProperties(&found, device), "device_properties");
  check(cudaDriverGetVersion(&properties.driver_version), "device_properties");
  check(cudaRuntimeGetVersion(&properties.runtime_version), "device_properties");
  properties.name = found.name;
  properties.capability = found.major * 10 + found.minor;
  properties.multiprocessors = found.multiProcessorCount;
  properties.memory_bytes = found.totalGlobalMem;
  properties.shared_bytes_per_block = found.sharedMemPerBlockOptin;
  properties.l2_bytes = static_cast<std::size_t>(found.l2CacheSize);
  return properties;
}

}  // namespace

bool device_available() {
  int count = 0;
  const bool available = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  cudaGetLastError();  // "no device" is an answer here, not an error
  return available;
}

bool device_is_cpu() { return !device_available() ? false : device_properties().runtime_version == 0; }

const DeviceProperties& device_properties() {
  static const DeviceProperties properties = ask();
  return properties;
}

}  // namespace kv::cuda
