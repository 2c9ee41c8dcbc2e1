#include "chapters/studies/step_strip.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "common/text/table.hpp"

namespace kv {
namespace {

constexpr int cell = 6, tallest = 11, steps_in_row = 3, gap = 24, left = 8, caption = 32;

std::string format(const char* pattern, auto... values) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, pattern, values...);
  return buffer;
}

constexpr const char* style =
    "<style>:root{color-scheme:light dark;--ink:#24292f;--w:#d9730d;--c:#1d6fb8;--k:#9fb3c8;--m:#c2410c;--u:#8c959f}"
    "@media(prefers-color-scheme:dark){:root{--ink:#d0d7de;--w:#f3b95f;--c:#6cb6ff;--k:#7189a3;--m:#f59f6c;--u:#7d8590}}"
    "text{fill:var(--ink);font:12px Helvetica,Arial,sans-serif}.w{stroke:var(--w)}.c{stroke:var(--c)}.k{stroke:var(--k)}"
    ".m{stroke:var(--m);opacity:.45}.u{stroke:var(--u);opacity:.3}path{stroke-dasharray:5 1}</style>\n";

/// Cells of one kind that stand side by side, as one dashed line as wide as a cell is high.
std::string cells(char letter, double height, int x, double y, std::size_t count) {
  return format("<path class=\"%c\" stroke-width=\"%.1f\" d=\"M%d %.1fh%d\"/>\n", letter == '-' ? 'u' : letter, height, x, y + height / 2,
                cell * static_cast<int>(count) - 1);
}

std::string layer(const std::string& rows, double height, int x, double y) {
  std::string result;
  for (std::size_t first = 0, end; first < rows.size(); first = end) {
    end = std::min(rows.find_first_not_of(rows[first], first), rows.size());
    if (rows[first] != '.') result += cells(rows[first], height, x + cell * static_cast<int>(first), y, end - first);
  }
  return result;
}

std::string words(const Step& step) {
  const auto count = [&](char letter) {
    index_t sum = 0;
    for (const LayerStep& layer : step.layers) sum += layer.count(letter);
    return sum;
  };
  if (count('m') > 0) return grouped(count('m')) + " rows made, none kept";
  return grouped(count('w')) + " rows written" + (count('c') > 0 ? ", " + grouped(count('c')) + " copied" : "");
}

/// One step as it is drawn: cells of each layer by their letters, and words beneath.
struct Map {
  std::vector<std::string> layers;
  std::string words;
};
struct Strip {
  std::string_view name;
  double height;          ///< of a cell
  std::vector<Map> maps;  ///< of all steps
};

/// What each letter stands for.
using Meanings = std::vector<std::pair<char, std::string>>;

/// Of the letters that are drawn.
std::string legend(int y, const Meanings& meanings, const std::vector<Strip>& strips) {
  std::set<char> drawn;
  for (const Strip& strip : strips)
    for (const Map& map : strip.maps)
      for (const std::string& layer : map.layers) drawn.insert(layer.begin(), layer.end());
  std::string result;
  int x = left;
  for (const auto& [letter, text] : meanings) {
    if (!drawn.contains(letter)) continue;
    result += cells(letter, 9, x, y, 2) + format("<text x=\"%d\" y=\"%d\">%s</text>\n", x + 16, y + 9, text.c_str());
    x += 36 + 7 * static_cast<int>(text.size());
  }
  return result;
}

std::string svg(const std::string& title, const std::vector<Strip>& strips, const Meanings& meanings) {
  std::string body;
  int y = 20, width = 620;
  for (const auto& [name, row_height, maps] : strips) {
    body += format("<text x=\"%d\" y=\"%d\" font-weight=\"bold\">", left, y) + std::string(name) + "</text>\n";
    const int map = static_cast<int>(std::ceil((row_height + 1) * static_cast<double>(maps.front().layers.size())));
    std::size_t most = 30;
    for (const Map& each : maps) most = std::max(most, each.layers.front().size());
    const int height = map + caption, column = cell * static_cast<int>(most) + gap;
    int number = 0;
    const index_t last = maps.size() - 1;
    for (const index_t i : std::set<index_t>{0, last / 5, 2 * last / 5, 3 * last / 5, 4 * last / 5, last}) {
      const int x = left + number % steps_in_row * column, top = y + 10 + number / steps_in_row * height;
      for (index_t l = 0; l < maps[i].layers.size(); ++l)
        body += layer(maps[i].layers[l], row_height, x, top + (row_height + 1) * static_cast<double>(l));
      body += format("<text x=\"%d\" y=\"%d\">", x, top + height - 18) + (i == 0 ? "prompt" : "step " + std::to_string(i)) + ": " +
              maps[i].words + "</text>\n";
      ++number;
    }
    width = std::max(width, 2 * left + steps_in_row * column);
    y += 26 + (number + steps_in_row - 1) / steps_in_row * height;
  }
  return format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", width, y + 16,
                width, y + 16) +
         "<title>" + title + "</title>\n" + style + body + legend(y, meanings, strips) + "</svg>\n";
}

}  // namespace

std::string step_strip(const std::vector<StepTrace>& traces) {
  if (traces.empty()) throw std::invalid_argument("a strip needs a trace");
  const auto row_bytes = [](const StepTrace& trace) { return static_cast<double>(trace.steps.at(0).layers.at(0).row_bytes); };
  const double most = row_bytes(*std::ranges::max_element(traces, {}, row_bytes));
  std::vector<Strip> strips;
  std::string title = "Rows of the cache in six steps, a line for each layer:";
  for (const StepTrace& trace : traces) {
    title += (strips.empty() ? " " : ", ") + std::string(trace.stage.name);
    strips.push_back({trace.stage.name, tallest * row_bytes(trace) / most, {}});
    for (const Step& step : trace.steps) {
      Map map{{}, words(step)};
      for (const LayerStep& layer : step.layers) map.layers.push_back(layer.rows);
      strips.back().maps.push_back(std::move(map));
    }
  }
  return svg(title, strips, {{'w', "written now"}, {'c', "copied elsewhere"}, {'k', "not moved"}, {'-', "memory without a row"},
                             {'m', "made and forgotten"}});
}

std::string expert_strip(const StepTrace& trace, index_t experts) {
  Strip strip{"experts", tallest, {}};
  std::vector<std::string> seen(trace.steps.at(0).layers.size(), std::string(experts, '-'));
  for (const Step& step : trace.steps) {
    index_t asked = 0, fresh = 0;
    std::vector<std::string> layers;
    for (index_t l = 0; l < seen.size(); ++l) {
      if (step.layers[l].experts.empty()) continue;  // a dense layer
      layers.push_back(seen[l]);
      for (const auto& [expert, weight] : step.layers[l].experts) {
        ++asked;
        fresh += seen[l].at(expert) == '-';
        layers.back()[expert] = 'w';
        seen[l][expert] = 'k';
      }
    }
    strip.maps.push_back({layers, std::to_string(asked) + " asked, " + std::to_string(fresh) + " of them new"});
  }
  if (strip.maps.front().layers.empty()) throw std::invalid_argument("a strip of experts needs a mixture of them");
  return svg("Experts of the newest token in six steps, a line for each layer", {strip},
             {{'w', "asked now"}, {'k', "asked by a step before"}, {'-', "not yet asked"}});
}

}  // namespace kv
