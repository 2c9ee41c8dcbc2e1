#pragma once
#include "common/tensor/input_format.hpp"

namespace kv::test {

/// Inputs of layers are in this format for as long as it lives.
class Inputs {
 public:
  explicit Inputs(InputFormat format) : before_(input_format()) { use_input_format(format); }
  ~Inputs() { use_input_format(before_); }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

 private:
  InputFormat before_;
};

}  // namespace kv::test
