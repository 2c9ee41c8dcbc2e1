#include "common/cuda/device.hpp"
#include "common/cuda/hopper.hpp"
#include "common/cuda/memory.hpp"
namespace kv::cuda { __global__ void placeholder(float* x) { x[threadIdx.x] = 1; } void run_placeholder(float* x) { launch({1, 32}, placeholder, x); } }
