/// @file
/// kvbook.
#include "chapters/program/kvbook.hpp"
#include "common/files/mapped_file.hpp"
#include "common/tensor/memory.hpp"

int main(int count, char** words) {
  kv::keep_freed_memory();
  kv::report_shortened_files();
  const auto failure = kv::run_kvbook({words + 1, words + count});
  if (!failure) return 0;
  kv::print_error(failure->message);
  return failure->exit_code;
}
