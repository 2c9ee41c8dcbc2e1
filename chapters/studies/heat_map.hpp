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
  std::vector<std::string> column_names = {};  ///< without them columns are numbered from 0
};

/// @throws std::invalid_argument unless there is a name for every row (and column, if for any), and rows are equally long
std::string svg(const HeatMap& map);
/// @throws Error when the file cannot be written
void write_svg(const std::string& file, const HeatMap& map);

}  // namespace kv
