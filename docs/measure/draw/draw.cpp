/// @file
/// kvbook-draw FILE.json FIGURE.svg: a plot that a script has measured, drawn like all of the book's.
///
///     {"title": "...", "x": "...", "y": "...", "logarithmic": ["y"], "footnote": "...", "curves": {"name": [[x, y], ...]}}
#include <fstream>
#include <iostream>

#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "docs/measure/plot.hpp"

namespace {

using namespace kv;

book::Plot plot(const Json& json) {
  book::Plot plot{.title = json.at("title").text(), .x_label = json.at("x").text(), .y_label = json.at("y").text(), .series = {}};
  for (const std::string& name : json.at("curves").keys()) {
    book::Series series{name, {}};
    const Json points = json.at("curves").at(name);
    for (index_t i = 0; i < points.length(); ++i) series.points.push_back({points.at(i).at(0).number(), points.at(i).at(1).number()});
    plot.series.push_back(std::move(series));
  }
  if (!json.has("logarithmic")) return plot;
  const Json axes = json.at("logarithmic");
  for (index_t i = 0; i < axes.length(); ++i) (axes.at(i).text() == "x" ? plot.x_scale : plot.y_scale) = book::Scale::logarithmic;
  return plot;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::cerr << "usage: kvbook-draw FILE.json FIGURE.svg\n";
    return 2;
  }
  try {
    const Json json = Json::read(words[1]);
    std::ofstream file(words[2]);
    if (!(file << book::svg(plot(json), json.at("footnote").text())) || !file.flush()) throw Error(std::string(words[2]) + ": cannot be written");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "kvbook-draw: error: " << error.what() << "\n";
    return 1;
  }
}
