#pragma once
/// @file
/// Whether a sanitizer watches this test. It keeps freed memory for a while and makes the program slow, so a test says nothing then
/// about how much a program holds, how long it takes, or which block comes back.

namespace kv::test {

#if defined(__SANITIZE_ADDRESS__) || defined(KV_SANITIZED)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

}  // namespace kv::test
