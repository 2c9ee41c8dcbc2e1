#pragma once
/// @file
/// Line plots as SVG, readable on light and on dark pages.
#include <string>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv::book {

/// One point of a curve.
struct Point {
  double x, y;
};

/// One curve. A stage has a colour of its own, by its name; marks are given in order.
struct Series {
  std::string name;
  std::vector<Point> points;
};

/// How an axis is divided.
enum class Scale { linear, logarithmic };

/// A plot of curves over one x axis that starts at 0, or at a power of ten.
struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  Scale x_scale = Scale::linear;
  Scale y_scale = Scale::linear;
};

/// @param footnote stands small below the plot  @throws std::invalid_argument for a value that is not positive on a logarithmic axis
std::string svg(const Plot& plot, const std::string& footnote);

}  // namespace kv::book
