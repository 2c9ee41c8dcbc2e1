#include "common/cuda/simt/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/cuda/simt/sanitizer.hpp"
#if defined(SIMT_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

/// Saves the registers that a function must preserve on the running stack, its pointer in *save, and goes on where
/// the stack `load` was left.
extern "C" void simt_switch_stack(void** save, void* load);

#if defined(__x86_64__)
// System V ABI, "Registers": rbx, rbp, r12 to r15 belong to the caller.
asm(R"(.text
.p2align 4
.globl simt_switch_stack
.type simt_switch_stack,@function
simt_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
.size simt_switch_stack,.-simt_switch_stack
)");

namespace {
constexpr std::size_t saved_registers = 6;

/// A stack that looks as if `entry` had been interrupted before its first instruction.
void* new_stack(char* top, void (*entry)()) {
  auto** stack = reinterpret_cast<void**>(reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{15});
  *--stack = nullptr;  // no caller; keeps the alignment that a call would leave
  *--stack = reinterpret_cast<void*>(entry);
  for (std::size_t i = 0; i < saved_registers; ++i) *--stack = nullptr;
  return stack;
}
}  // namespace

#elif defined(__aarch64__)
// AAPCS64, "Registers": x19 to x30 and d8 to d15 belong to the caller.
asm(R"(.text
.p2align 4
.globl simt_switch_stack
.type simt_switch_stack,%function
simt_switch_stack:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size simt_switch_stack,.-simt_switch_stack
)");

namespace {
constexpr std::size_t saved_bytes = 160, return_address = 11;

/// A stack that looks as if `entry` had been interrupted before its first instruction.
void* new_stack(char* top, void (*entry)()) {
  auto** stack = reinterpret_cast<void**>((reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{15}) - saved_bytes);
  std::memset(stack, 0, saved_bytes);
  stack[return_address] = reinterpret_cast<void*>(entry);
  return stack;
}
}  // namespace

#else
#error "simt: add a context switch for this processor"
#endif

namespace simt {
namespace {

constexpr std::size_t stack_bytes = 256 * 1024, guard_bytes = 4096;
[[maybe_unused]] constexpr unsigned without_order = 1;  // __tsan_switch_to_fiber: a switch orders no memory

void switch_context(Context& from, const Context& to, [[maybe_unused]] bool last = false) {
#if defined(SIMT_TSAN)
  __tsan_switch_to_fiber(to.tsan_fiber, without_order);
#elif defined(SIMT_ASAN)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.asan_stack, to.stack, to.stack_bytes);
#endif
  simt_switch_stack(&from.stack_pointer, to.stack_pointer);
}

/// The first thing to do after a switch to `self`; `other` learns where its stack is.
void arrive([[maybe_unused]] Context& self, [[maybe_unused]] Context& other) {
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(self.asan_stack, &other.stack, &other.stack_bytes);
#endif
}

}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("simt: no memory for a thread's stack");
    std::abort();
  }
  mprotect(memory, guard_bytes, PROT_NONE);  // an overflow is a fault, not a neighbour's variable
  self_.stack = static_cast<char*>(memory) + guard_bytes;
  self_.stack_bytes = stack_bytes;
#if defined(SIMT_TSAN)
  self_.tsan_fiber = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(SIMT_TSAN)
  __tsan_destroy_fiber(self_.tsan_fiber);
#endif
  munmap(const_cast<char*>(static_cast<const char*>(self_.stack)) - guard_bytes, guard_bytes + stack_bytes);
}

void Fiber::prepare(void (*entry)(), std::size_t stack_offset) {
  char* top = const_cast<char*>(static_cast<const char*>(self_.stack)) + stack_bytes - stack_offset;
  self_.stack_pointer = new_stack(top, entry);
  self_.asan_stack = nullptr;
}

void Fiber::resume() {
#if defined(SIMT_TSAN)
  home_.tsan_fiber = __tsan_get_current_fiber();
#endif
  switch_context(home_, self_);
  Context ignored;
  arrive(home_, ignored);
}

void Fiber::begin() { arrive(self_, home_); }

void Fiber::suspend() {
  switch_context(self_, home_);
  arrive(self_, home_);
}

void Fiber::finish() {
  switch_context(self_, home_, true);
  __builtin_unreachable();
}

}  // namespace simt
