#pragma once
/// @file
/// A matrix of numbers as coloured cells, in SVG, readable on light and on dark pages.
#include <string>
#include <vector>

namespace kv {

/// Rows of equal length. A cell's colour goes from pale (least) to strong (most); its number stands in its tooltip.
struct HeatMap {
  std::string title, column_label;
  std::vector<std::string> row_names;
  std::vector<std::vector<double>> cells;
  double least, most;  ///< of the colours; values outside take the colour of the end
  std::string unit;    ///< of the numbers
};

/// @throws std::invalid_argument unless there is a name for every row, and rows are equally long
std::string svg(const HeatMap& map);

}  // namespace kv
