#pragma once
/// @file
/// Runs a program as a user would, and keeps all that it says.
#include <string>
#include <string_view>
#include <vector>

namespace kv::test {

/// What a finished program has left behind.
struct Finished {
  int exit_code;  ///< 128 + the signal when one ended it
  std::string out, err;
  double cpu_seconds = 0;      ///< user and system, of all its threads
  std::size_t peak_bytes = 0;  ///< of memory that was resident, and no less than the test's own when it started the program
};

/// Runs to the end.
/// @param words the program's path and its arguments  @param input what it reads from standard input
/// @param out_file where standard output goes instead of Finished::out, "/dev/full" say
Finished run_program(const std::vector<std::string>& words, std::string_view input = "", const std::string& out_file = "");

}  // namespace kv::test
