#pragma once
/// @file
/// Errors that a user of the program can act on.
#include <stdexcept>

namespace kv {

/// Something outside the program is wrong: a file, a size, a request. The message is one line that says what, where
/// and what to do. The program prints it and exits with 1.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The command line itself is wrong. The program prints the message and exits with 2.
struct UsageError : Error {
  using Error::Error;
};

}  // namespace kv
