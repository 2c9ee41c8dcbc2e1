#pragma once
/// @file
/// Six steps of a run as small maps of the cache or of the experts, in SVG, readable on light and on dark pages.
#include "chapters/studies/step_trace.hpp"

namespace kv {

/// A strip for each trace, under each other: of six steps, first and last among them, every layer's rows side by side, as high
/// as they are wide in memory next to the widest.
/// @throws std::invalid_argument without a trace, std::out_of_range for one without a step
std::string step_strip(const std::vector<StepTrace>& traces);

/// The same steps, in place of rows the experts of each mixture layer: which of them the newest token goes to, and to which the
/// newest tokens of earlier steps went.
/// @param experts of a layer  @throws std::invalid_argument for a model without a mixture, std::out_of_range without a step
std::string expert_strip(const StepTrace& trace, index_t experts);

}  // namespace kv
