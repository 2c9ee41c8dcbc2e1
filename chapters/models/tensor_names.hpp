#pragma once
/// @file
/// Tensors of a checkpoint by name, with the shapes that its config.json promises.
#include <string>

#include "common/tensor/tensor.hpp"

namespace kv {

struct MatrixName {
  std::string name;
  index_t rows, columns;
};

struct SwiGluNames {
  MatrixName gate, up, down;  // (F,M) (F,M) (M,F)
};

}  // namespace kv
