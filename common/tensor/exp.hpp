#pragma once
/// @file
#include <span>

namespace kv {

/// x[i] = e^x[i], at most 1.03 ulp off, the same bits wherever an element stands.
/// Results below the smallest normal number (x < -87.3365) are 0, so there are no denormals; infinity above 88.7228.
void exp(std::span<float> x);

}  // namespace kv
