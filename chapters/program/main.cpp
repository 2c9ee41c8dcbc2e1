/// @file
/// kvbook.
#include "chapters/program/kvbook.hpp"
#include "common/tensor/memory.hpp"

int main(int count, char** words) {
  kv::keep_freed_memory();
  const auto failure = kv::run_kvbook({words + 1, words + count});
  if (!failure) return 0;
  kv::print_error(failure->message);
  return failure->exit_code;
}
