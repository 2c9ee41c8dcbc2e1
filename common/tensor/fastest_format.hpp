#pragma once
/// @file
#include "common/tensor/input_format.hpp"

namespace kv {

/// The format in which the rows of a prompt pass a layer with such weights soonest on this machine, with the threads in use: all that
/// go with them are tried, a few times each. Its bits are those of the format; which one it is depends on the machine.
InputFormat fastest_input_format(DType weights);

}  // namespace kv
