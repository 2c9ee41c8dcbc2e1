#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"

#include <stdexcept>
#include <string>

namespace kv::cuda {
namespace {

void require_between(const char* what, int found, int low, int high) {
  if (found < low || found > high)
    throw std::invalid_argument("mla_decode: " + std::string(what) + " is " + std::to_string(found) + ", expected " +
                                std::to_string(low) + " ... " + std::to_string(high));
}

}  // namespace

void require_size(const char* what, std::size_t found, std::size_t expected) {
  if (found != expected)
    throw std::invalid_argument("mla_decode: " + std::string(what) + " has " + std::to_string(found) +
                                " elements, expected " + std::to_string(expected));
}

void require_fit(const MlaDecode& problem) {
  require_between("batch", problem.batch, 0, most_sequences);
  require_between("heads", problem.heads, 1, 1024);
  require_between("pages", problem.pages, 0, (1 << 30) / page_tokens);  // so that a row's number is an int
  require_between("table_width", problem.table_width, 0, (1 << 30) / page_tokens);
}

void require_fit(const MlaDecode& problem, std::span<const int> lengths, std::span<const int> block_table) {
  require_fit(problem);
  require_size("lengths (B)", lengths.size(), problem.batch);
  require_size("block_table (B,table_width)", block_table.size(), std::size_t(problem.batch) * problem.table_width);
  const auto name = [](const char* what, int b) { return "mla_decode: " + std::string(what) + std::to_string(b); };
  for (int b = 0; b < problem.batch; ++b) {
    if (lengths[b] < 0 || lengths[b] > problem.table_width * page_tokens)
      throw std::out_of_range(name("length of sequence ", b) + " is " + std::to_string(lengths[b]) +
                              ", its row of the table holds " + std::to_string(problem.table_width * page_tokens));
    for (int i = 0; i < pages_of(lengths[b]); ++i)
      if (const int page = block_table[std::size_t(b) * problem.table_width + i]; page < 0 || page >= problem.pages)
        throw std::out_of_range(name("block_table of sequence ", b) + " names page " + std::to_string(page) +
                                ", the cache has " + std::to_string(problem.pages));
  }
}

}  // namespace kv::cuda
