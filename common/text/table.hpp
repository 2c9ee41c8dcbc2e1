#pragma once
/// @file
/// A table of text for people: columns as wide as their widest cell, numbers to the right, words to the left.
#include <string>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// Rows of cells. The first row is the head.
class Table {
 public:
  explicit Table(std::vector<std::string> head) : rows_{std::move(head)} {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// A column is numbers when every cell below its head begins with a digit.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "12.3", with `digits` after the point.
std::string decimal(double value, int digits);
/// "1,234,567"
std::string grouped(std::size_t value);

}  // namespace kv
