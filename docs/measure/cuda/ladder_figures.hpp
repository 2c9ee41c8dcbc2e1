#pragma once
/// @file
/// What a GPU measured of the ladder, drawn.
#include "common/files/json.hpp"
#include "docs/measure/plot.hpp"

namespace kv::book {

/// Microseconds of each rung, and FlashMLA's beside them.  @param report of tests/gpu/verify
Plot ladder_times(const Json& report);

/// TFLOP/s over the FLOP that a byte of cache serves: the rungs below the roof that the same run has measured.
Plot ladder_roofline(const Json& report);

}  // namespace kv::book
