#include "docs/measure/plot.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "chapters/studies/stage_colours.hpp"

namespace kv::book {
namespace {

constexpr double width = 760, height = 430;                              // of the whole picture
constexpr double left = 80, right = 740, top = 52, bottom = 350;         // of the plot's frame
constexpr const char* style = R"(
  text { fill: var(--ink); font: 13px Helvetica, Arial, sans-serif; }
  .title { font-size: 15px; font-weight: bold; }
  .small { font-size: 11px; }
  .grid { stroke: var(--grid); }
  .curve { fill: none; stroke-width: 2; }
)";

/// "--c0: #c2410c; --c1: ...", a colour for each curve: a stage's own, another one for what is no stage.
std::string curve_colours(const std::vector<Series>& all, std::string_view PageColour::* page) {
  std::string result;
  index_t others = 0;
  for (index_t i = 0; i < all.size(); ++i) {
    const PageColour* const stage = stage_colour(all[i].name);
    const PageColour colour = stage ? *stage : other_colour(others++);
    result += " --c" + std::to_string(i) + ": " + std::string(colour.*page) + ";";
  }
  return result;
}

std::string colours(const std::vector<Series>& all) {
  return "\n  :root { color-scheme: light dark; --ink: #24292f; --grid: #d8dee4;" +
         curve_colours(all, &PageColour::light) + " }\n  @media (prefers-color-scheme: dark) {\n    :root { --ink: #d0d7de; --grid: #3d444d;" +
         curve_colours(all, &PageColour::dark) + " }\n  }";
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return result;
}

/// "0.05", "200", "1.5M"
std::string tick_text(double value) {
  constexpr struct { double size; const char* suffix; } units[] = {{1e9, "G"}, {1e6, "M"}, {1e4, "k"}};
  char text[32];
  for (const auto& unit : units)
    if (std::abs(value) >= unit.size) {
      std::snprintf(text, sizeof text, "%g%s", unit.size == 1e4 ? value / 1e3 : value / unit.size, unit.suffix);
      return text;
    }
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

/// The largest of 1, 2, 5 times a power of ten that divides `range` into at least four.
double tick_step(double range) {
  const double power = std::pow(10.0, std::floor(std::log10(range / 4)));
  for (const double factor : {5.0, 2.0})
    if (range / (factor * power) >= 4) return factor * power;
  return power;
}

/// Maps values to places on the picture.
struct Axis {
  double low, high;    // values at both ends
  double start, end;   // places of both ends
  Scale scale = Scale::linear;

  double place(double value) const {
    const auto warp = [&](double v) { return scale == Scale::linear ? v : std::log10(v); };
    return start + (warp(value) - warp(low)) / (warp(high) - warp(low)) * (end - start);
  }
  std::vector<double> ticks() const {
    std::vector<double> result;
    if (scale == Scale::linear) {
      const double step = tick_step(high - low);
      for (index_t i = 0; low + step * static_cast<double>(i) <= high * 1.0001; ++i)
        result.push_back(std::round((low + step * static_cast<double>(i)) / step) * step);  // so that 0 is 0
    } else {
      // powers of ten, and where they are fewer than three, twice and five times them
      for (const bool all : {false, true}) {
        result.clear();
        for (double power = std::pow(10, std::floor(std::log10(low) + 1e-9)); power <= high * 1.0001; power *= 10)
          for (const double factor : {1.0, 2.0, 5.0})
            if ((all || factor == 1.0) && factor * power >= low * 0.9999 && factor * power <= high * 1.0001) result.push_back(factor * power);
        if (result.size() >= 3) break;
      }
    }
    return result;
  }
};

/// The smallest and the largest of all values.
std::pair<double, double> range(const Plot& plot, double Point::* value) {
  double low = INFINITY, high = 0;
  for (const Series& series : plot.series)
    for (const Point& point : series.points) {
      low = std::min(low, point.*value);
      high = std::max(high, point.*value);
    }
  return {low, high};
}

double power_below(double value) { return std::pow(10, std::floor(std::log10(value))); }

/// 1, 2 or 5 times a power of ten: the largest that is not above a value.
double round_down(double value) {
  const double power = power_below(value);
  return 5 * power <= value * 1.0001 ? 5 * power : 2 * power <= value * 1.0001 ? 2 * power : power;
}

/// The smallest that is not below it.
double round_up(double value) {
  const double power = power_below(value);
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= value * 0.9999) return factor * power;
  return 10 * power;
}

Axis logarithmic(const Plot& plot, std::pair<double, double> range, double start, double end) {
  if (!(range.first > 0)) throw std::invalid_argument("plot '" + plot.title + "': a logarithmic axis needs positive values");
  return {round_down(range.first), round_up(range.second), start, end, Scale::logarithmic};
}

Axis x_axis(const Plot& plot) {
  const auto all = range(plot, &Point::x);
  return plot.x_scale == Scale::linear ? Axis{0, all.second, left, right} : logarithmic(plot, all, left, right);
}

Axis y_axis(const Plot& plot) {
  const auto [low, high] = range(plot, &Point::y);
  if (plot.y_scale == Scale::linear && low < 0) {
    const double step = tick_step(high - low);
    return {std::floor(low / step) * step, std::ceil(high / step) * step, bottom, top};
  }
  if (plot.y_scale == Scale::linear) return {0, high > 0 ? high * 1.05 : 1, bottom, top};
  return logarithmic(plot, {low, high}, bottom, top);
}

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string text_at(double x, double y, const char* anchor, const char* css_class, const std::string& text) {
  return format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, css_class) + escaped(text) +
         "</text>\n";
}

std::string grid(const Axis& x, const Axis& y) {
  std::string result;
  for (const double value : y.ticks()) {
    result += format("<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", left, y.place(value), right,
                     y.place(value));
    result += text_at(left - 8, y.place(value) + 4, "end", "", tick_text(value));
  }
  for (const double value : x.ticks()) {
    result += format("<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x.place(value), top,
                     x.place(value), bottom);
    result += text_at(x.place(value), bottom + 18, "middle", "", tick_text(value));
  }
  return result;
}

/// A mark that differs in shape too, for readers who cannot tell the colours apart.
std::string mark(index_t number, double x, double y) {
  const std::string fill = " style=\"fill:var(--c" + std::to_string(number) + ")\"/>\n";
  switch (number % 4) {
    case 0: return format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"", x, y) + fill;
    case 1: return format("<rect x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\"", x - 3.5, y - 3.5) + fill;
    case 2: return format("<path d=\"M%.1f,%.1f l4.5,8 h-9z\"", x, y - 5) + fill;
    default: return format("<path d=\"M%.1f,%.1f l4.5,4.5 -4.5,4.5 -4.5,-4.5z\"", x, y - 4.5) + fill;
  }
}

std::string curve(index_t number, const Series& series, const Axis& x, const Axis& y) {
  std::string points, marks;
  for (const Point& point : series.points) {
    points += format("%.1f,%.1f ", x.place(point.x), y.place(point.y));
    marks += mark(number, x.place(point.x), y.place(point.y));
  }
  return "<polyline class=\"curve\" style=\"stroke:var(--c" + std::to_string(number) + ")\" points=\"" + points +
         "\"/>\n" + marks;
}

std::string legend(const std::vector<Series>& all) {
  std::string result;
  double x = left;
  for (index_t i = 0; i < all.size(); ++i) {
    result += mark(i, x + 5, top - 14) + text_at(x + 16, top - 10, "start", "", all[i].name);
    const auto capitals = std::ranges::count_if(all[i].name, [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); });
    x += 28 + 6.2 * static_cast<double>(all[i].name.size()) + 2.2 * static_cast<double>(capitals);
  }
  return result;
}

}  // namespace

std::string svg(const Plot& plot, const std::string& footnote) {
  const Axis x = x_axis(plot), y = y_axis(plot);
  std::string text = format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\">\n",
                            width, height, width, height);
  text += "<title>" + escaped(plot.title) + "</title>\n<style>" + colours(plot.series) + style + "</style>\n";
  text += text_at(left, 20, "start", "title", plot.title) + legend(plot.series) + grid(x, y);
  for (index_t i = 0; i < plot.series.size(); ++i) text += curve(i, plot.series[i], x, y);
  text += text_at((left + right) / 2, bottom + 40, "middle", "", plot.x_label);
  text += format("<g transform=\"translate(20,%.1f) rotate(-90)\">", (top + bottom) / 2) +
          text_at(0, 0, "middle", "", plot.y_label) + "</g>\n";
  text += text_at(left, height - 14, "start", "small", footnote);
  return text + "</svg>\n";
}

}  // namespace kv::book
