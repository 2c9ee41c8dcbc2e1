#pragma once
/// @file
/// What rendering a template may cost. A template comes with a checkpoint from a stranger: loops
/// over loops or a text doubled forty times must end with one line, soon and in little memory.
#include <cstddef>
#include <string>
#include <string_view>

#include "common/files/error.hpp"

namespace kv::jinja {

/// Counts steps. Evaluating an expression is one; what is made costs by its size, before it is
/// made.
class Meter {
 public:
  /// @throws Error when the steps are used up
  void step(std::size_t steps = 1) {
    if (steps > left_)
      throw Error("the chat template asks for more work or memory than any conversation needs");
    left_ -= steps;
  }
  void bytes(std::size_t count) { step(1 + count / 16); }
  void elements(std::size_t count) { step(count < left_ ? 1 + 4 * count : count); }

 private:
  std::size_t left_ = 16'000'000;  // about a second; all texts together 256 MB, all lists 100 MB
};

/// A text in the making.
class Writer {
 public:
  explicit Writer(Meter& meter) : meter_(meter) {}
  void add(std::string_view text) {
    meter_.bytes(text.size());
    text_ += text;
  }
  std::string take() { return std::move(text_); }

 private:
  Meter& meter_;
  std::string text_;
};

}  // namespace kv::jinja
