#pragma once
/// @file
/// Six steps of a run as small maps of the cache, in SVG, readable on light and on dark pages.
#include "chapters/studies/step_trace.hpp"

namespace kv {

/// A strip for each trace, under each other: of six steps, first and last among them, every layer's rows side by side, as high
/// as they are wide in memory next to the widest.
/// @throws std::invalid_argument without a trace, std::out_of_range for one without a step
std::string step_strip(const std::vector<StepTrace>& traces);

}  // namespace kv
