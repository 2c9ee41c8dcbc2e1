#pragma once
/// @file
/// What a kernel file includes. The same file is built by nvcc for the GPU and by a C++ compiler for the CPU.
#include "common/cuda/async_copy.hpp"
#include "common/cuda/bfloat16.hpp"
#include "common/cuda/dependent_launch.hpp"
#include "common/cuda/launch.hpp"
#include "common/cuda/named_barrier.hpp"
#include "common/cuda/target.hpp"
#include "common/cuda/tensor_core.hpp"
