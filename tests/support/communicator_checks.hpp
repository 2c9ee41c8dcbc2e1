#pragma once
/// @file
/// What a communicator must do, whatever its ranks are. Each check is run by every rank at the same time.
#include <functional>
#include <string>
#include <vector>

#include "chapters/10_tensor_parallel/communicator.hpp"

namespace kv::test {

struct CommunicatorCheck {
  std::string name;
  /// Empty when all is well, or what is wrong on this rank.
  std::function<std::string(Communicator&)> run;
};

const std::vector<CommunicatorCheck>& communicator_checks();

}  // namespace kv::test
