#pragma once
/// @file
/// The double-precision build: included before everything else, it makes every `float` of the book's own code a double.
/// What differs between the forms of a function must then shrink by nine orders of magnitude, or it was no rounding.
/// Headers of others come first, so that they keep their floats.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <numbers>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#if __has_include(<xtensor/containers/xtensor.hpp>)
#include <xtensor/containers/xtensor.hpp>
#else
#include <xtensor/xtensor.hpp>
#endif

#include "tests/support/catch.hpp"

#define float double
