#pragma once
/// @file
/// How threads wait for each other.
#include <chrono>

namespace kv {

/// Tells the processor that this thread waits.
inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Waits until ready(): busy at first, because the next loop of a decode step is microseconds away and waking a
/// sleeping thread takes tens of them. Then asleep in `sleep`, so that an idle program uses no processor.
template <class Ready, class Sleep>
void wait(Ready ready, Sleep sleep, std::chrono::microseconds busy = std::chrono::microseconds(50)) {
  using clock = std::chrono::steady_clock;
  const auto give_up = clock::now() + busy;
  while (clock::now() < give_up)
    for (int i = 0; i < 16; ++i) {
      if (ready()) return;
      pause();
    }
  while (!ready()) sleep();
}

}  // namespace kv
