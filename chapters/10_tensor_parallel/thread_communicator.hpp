#pragma once
/// @file
/// Ranks that are threads of one process, so that everybody can run this chapter.
#include <memory>

#include "chapters/10_tensor_parallel/communicator.hpp"

namespace kv {

/// Ends of one line, one for each rank, to be used in a thread of its own. What is exchanged is copied once, by the receiver.
/// @throws std::invalid_argument for 0 ranks
std::vector<std::unique_ptr<Communicator>> thread_communicators(index_t ranks);

}  // namespace kv
