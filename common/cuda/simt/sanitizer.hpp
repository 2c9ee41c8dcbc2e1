#pragma once
/// @file
/// What the runtime tells a sanitizer, which cannot know what a fiber is or which operations order memory. Told this,
/// ThreadSanitizer finds a race between the threads of a kernel as it does between the threads of a program. The
/// runtime itself is not instrumented for it: `note_read` and `note_write` stand for what an instruction does to memory.
/// In a plain build every function here is empty.
#include <cstddef>

#if defined(SIMT_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
}
#elif defined(SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

/// Later acquires of the same address see all that this thread has done.
inline void release([[maybe_unused]] const void* address) {
#if defined(SIMT_TSAN)
  __tsan_release(const_cast<void*>(address));
#endif
}

inline void acquire([[maybe_unused]] const void* address) {
#if defined(SIMT_TSAN)
  __tsan_acquire(const_cast<void*>(address));
#endif
}

/// An instruction reads these bytes on behalf of the current thread.
inline void note_read([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_TSAN)
  __tsan_read_range(const_cast<void*>(address), bytes);
#elif defined(SIMT_ASAN)
  if (void* bad = __asan_region_is_poisoned(const_cast<void*>(address), bytes))
    [[maybe_unused]] volatile char seen = *static_cast<const volatile char*>(bad);
#endif
}

/// Nobody may touch these bytes, or everybody again.
inline void forbid([[maybe_unused]] void* address, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_ASAN)
  __asan_poison_memory_region(address, bytes);
#endif
}
inline void allow([[maybe_unused]] void* address, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_ASAN)
  __asan_unpoison_memory_region(address, bytes);
#endif
}

inline void note_write([[maybe_unused]] void* address, [[maybe_unused]] std::size_t bytes) {
#if defined(SIMT_TSAN)
  __tsan_write_range(address, bytes);
#elif defined(SIMT_ASAN)
  if (void* bad = __asan_region_is_poisoned(address, bytes)) *static_cast<volatile char*>(bad) = 0;
#endif
}

}  // namespace simt
