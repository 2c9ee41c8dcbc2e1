#pragma once
/// @file
/// Subnormal numbers as zeros, as matrix instructions take them.
#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace kv::simd {
namespace {

/// Subnormal operands and results are zero in this thread for as long as it lives.
class SubnormalsAreZero {
 public:
  SubnormalsAreZero() { write((before_ = read()) | bits); }
  ~SubnormalsAreZero() { write(before_); }
  SubnormalsAreZero(const SubnormalsAreZero&) = delete;
  SubnormalsAreZero& operator=(const SubnormalsAreZero&) = delete;

 private:
#if defined(__SSE__)
  static constexpr unsigned bits = 0x8040;  // flush to zero, denormals are zero
  static unsigned read() { return _mm_getcsr(); }
  static void write(unsigned mode) { _mm_setcsr(mode); }
  unsigned before_;
#elif defined(__aarch64__)
  // A result is looked at before it is rounded here, and afterwards on x86: 2^-126 may differ from zero, nothing else.
  static constexpr unsigned long bits = 1ul << 24;
  static unsigned long read() {
    unsigned long mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void write(unsigned long mode) { asm volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
  unsigned long before_;
#else
#error "no way is known to treat subnormal numbers as zeros on this processor"
#endif
};

}  // namespace
}  // namespace kv::simd
