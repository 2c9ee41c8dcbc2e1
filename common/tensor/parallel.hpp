#pragma once
/// @file
/// Threads. Work is split over outputs, never over a sum, so the number of threads cannot change a single bit.
#include <functional>

#include "common/tensor/tensor.hpp"

namespace kv {

/// How many threads parallel_for uses, this thread included. At the start: one per core.
/// @throws std::invalid_argument for 0, std::logic_error inside parallel_for
void set_threads(index_t count);
index_t threads();

/// Calls body(first, last) on disjoint ranges that together cover 0 ... count-1, each starting at a multiple of `grain`
/// and at least that long where possible, and returns when all are done. An exception in body is rethrown here. Calls inside body run serially.
void parallel_for(index_t count, index_t grain, const std::function<void(index_t first, index_t last)>& body);

}  // namespace kv
