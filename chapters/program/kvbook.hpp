#pragma once
/// @file
/// The program: finds the subcommand and runs it. Each subcommand is a file of its own, NAME_command.cpp.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

/// Why a command came to nothing.
struct Failure {
  int exit_code;  ///< 2: the command line is wrong, 1: all else
  std::string message;
};

/// @param words the command line without the program's name
std::optional<Failure> run_kvbook(const std::vector<std::string>& words);

/// One line on standard error, whatever a message quotes from the command line or a file.
void print_error(std::string_view message);

}  // namespace kv
