#pragma once
/// @file
/// What this machine can do at most, measured in the same run as what is compared with it.
#include <cstddef>
#include <cstdint>

namespace kv::bench {

/// Runs `rounds` rounds of independent f32 FMAs in registers with the widest vectors of the processor.
/// @return floating-point operations done (2 for each FMA)
double multiply_add_registers(std::size_t rounds);

/// Reads all bytes once.  @return their sum, so that the reads are not optimised away
std::uint64_t read_all(const void* data, std::size_t bytes);

/// y = W x with the sum over k cut into 8 registers of partial sums: what a kernel may do that owes nobody an order.
/// @param weights (outputs,inputs), row-major, f32 or bf16; inputs a multiple of 128
void multiply_unordered(const float* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y);
void multiply_unordered(const std::uint16_t* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y);

}  // namespace kv::bench
