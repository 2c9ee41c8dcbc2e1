#include "chapters/studies/heat_map.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "chapters/studies/stage_colours.hpp"
#include "common/files/replace_file.hpp"

namespace kv {
namespace {

constexpr int name_width = 150, top = 40, bottom = 56, row_height = 22, map_width = 560;

std::string format(const char* pattern, auto... values) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, pattern, values...);
  return buffer;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') result += "&lt;";
    else if (c == '&') result += "&amp;";
    else result += c;
  }
  return result;
}

/// From pale yellow over green to dark blue: lightness falls all the way, so it reads without colours too.
std::string colour(double share) {
  constexpr double stops[4][3] = {{255, 250, 205}, {127, 205, 150}, {44, 127, 184}, {37, 37, 120}};
  const double position = 3.0 * std::clamp(share, 0.0, 1.0);
  const int low = std::min(2, static_cast<int>(position));
  const auto mix = [&](int channel) {
    return static_cast<int>(std::lround(stops[low][channel] + (position - low) * (stops[low + 1][channel] - stops[low][channel])));
  };
  return format("#%02x%02x%02x", mix(0), mix(1), mix(2));
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor) + escaped(text) + "</text>\n";
}

/// Rows of a stage have its colour at their left. On a dark page the least is dark.
std::string style(const std::vector<std::string>& row_names) {
  std::string light, dark;
  for (std::size_t r = 0; r < row_names.size(); ++r)
    if (const PageColour* const colour = stage_colour(row_names[r])) {
      light += ".r" + std::to_string(r) + "{fill:" + std::string(colour->light) + "}";
      dark += ".r" + std::to_string(r) + "{fill:" + std::string(colour->dark) + "}";
    }
  return "<style>:root{color-scheme:light dark;fill:#57606a}" + light + "@media(prefers-color-scheme:dark){:root{fill:#9da7b1}rect[fill]{filter:invert(1) hue-rotate(180deg)}" + dark +
         "}</style>\n";
}

/// What the colours mean.
std::string legend(const HeatMap& map, double y) {
  std::string result;
  for (int i = 0; i < 40; ++i)
    result += format("<rect x=\"%d\" y=\"%.1f\" width=\"5\" height=\"10\" fill=\"%s\"/>\n", name_width + 5 * i, y, colour((i + 0.5) / 40).c_str());
  result += text_at(name_width - 6, y + 9, "end", format("%.3g", map.least));
  return result + text_at(name_width + 206, y + 9, "start", format("%.3g ", map.most) + map.unit);
}

void require_matrix(const HeatMap& map) {
  const bool equal = !map.cells.empty() && std::ranges::all_of(map.cells, [&](const auto& row) { return row.size() == map.cells[0].size(); });
  const bool named = equal && map.cells.size() == map.row_names.size() &&
                     (map.column_names.empty() || map.cells[0].size() == map.column_names.size());
  if (!named || map.cells[0].empty())
    throw std::invalid_argument("heat map '" + map.title + "': needs rows of equal length, and a name for each");
}

std::string column_name(const HeatMap& map, int column) {
  return map.column_names.empty() ? std::to_string(column) : map.column_names[static_cast<std::size_t>(column)];
}

}  // namespace

std::string svg(const HeatMap& map) {
  require_matrix(map);
  const int columns = static_cast<int>(map.cells[0].size()), height = top + row_height * static_cast<int>(map.cells.size()) + bottom;
  const double cell = static_cast<double>(map_width) / columns, range = map.most > map.least ? map.most - map.least : 1.0;
  const double gap = cell < 8.0 ? 0.0 : 1.0;  // between narrow cells it would thin their colours
  std::string result = format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
                              "font-size=\"11\" role=\"img\">\n", name_width + map_width + 10, height);
  result += "<title>" + escaped(map.title) + "</title>\n" + style(map.row_names);
  result += text_at(name_width, 14, "start", map.title);
  for (int c = 0; c < columns; c += std::max(1, columns / 16)) result += text_at(name_width + (c + 0.5) * cell, top - 6, "middle", column_name(map, c));
  for (int r = 0; r < static_cast<int>(map.cells.size()); ++r) {
    const double y = top + r * row_height;
    result += text_at(name_width - 10, y + 15, "end", map.row_names[r]);
    if (stage_colour(map.row_names[r]))
      result += format("<rect x=\"%d\" y=\"%.1f\" width=\"4\" height=\"%d\" class=\"r%d\"/>\n", name_width - 6, y,
                       row_height - 1, r);
    for (int c = 0; c < columns; ++c) {
      const double value = map.cells[r][c];
      result += format("<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>", name_width + c * cell, y,
                       cell - gap, row_height - 1, colour((value - map.least) / range).c_str()) +
                escaped(map.row_names[r] + ", " + column_name(map, c)) + format(": %.4g</title></rect>\n", value);
    }
  }
  result += text_at(name_width + map_width, height - bottom + 14, "end", map.column_label);
  return result + legend(map, height - 24) + "</svg>\n";
}

void write_svg(const std::string& path, const HeatMap& map) {
  replace_file(path, {svg(map)});
}

}  // namespace kv
