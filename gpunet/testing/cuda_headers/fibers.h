// fibers.h: a CUDA thread is a fiber: a stack of its own, and a switch to it and away from it.

#pragma once

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define CUDA_ON_CPU_UCONTEXT
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
#include <ucontext.h>
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_cpu {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK_BYTES = 256 * 1024;
#else
constexpr size_t STACK_BYTES = 64 * 1024;
#endif
constexpr size_t SLACK_BYTES = 64 * 1024;  // below a stack, so that an overrun is found before it does harm
constexpr uint64_t CANARY = 0x6B63617473646E65;

struct Context {
#ifdef CUDA_ON_CPU_UCONTEXT
  ucontext_t machine;
#else
  void* stack_pointer;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack;
  const void* stack_bottom;
  size_t stack_size;
#endif
};

#ifndef CUDA_ON_CPU_UCONTEXT
extern "C" __attribute__((visibility("hidden"))) void cuda_on_cpu_switch(void** save, void* load);
// Saves what a called function must preserve on the stack, changes stacks, and restores it from there. A jump instead of
// a return: the processor would expect the return to go where the other fiber was called from.
#if defined(__x86_64__)
asm(R"(
    .text
    .globl cuda_on_cpu_switch
    .hidden cuda_on_cpu_switch
    .type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
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
    jmpq *%rcx
    .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");
constexpr int SAVED_WORDS = 6;         // below the return address
constexpr int RETURN_ADDRESS_WORD = 6;
constexpr int FRAME_WORDS = 8;         // and a word that aligns the stack as a call would
#else
asm(R"(
    .text
    .globl cuda_on_cpu_switch
    .hidden cuda_on_cpu_switch
    .type cuda_on_cpu_switch, %function
cuda_on_cpu_switch:
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
    br x30
    .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");
constexpr int RETURN_ADDRESS_WORD = 11;
constexpr int FRAME_WORDS = 20;
#endif
#endif
static void switch_context(Context& from, Context& to, bool from_ends) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack, to.stack_bottom, to.stack_size);
#endif
  (void)from_ends;
#ifdef CUDA_ON_CPU_UCONTEXT
  swapcontext(&from.machine, &to.machine);
#else
  cuda_on_cpu_switch(&from.stack_pointer, to.stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// A fiber calls this first: it tells the sanitizer where the stack lies that it was switched to from.
static void note_first_switch(Context& from) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &from.stack_bottom, &from.stack_size);
#else
  (void)from;
#endif
}

// Sets a context up so that the switch to it calls `entry`, which must not return, on the given stack.
static void prepare_context(Context& context, char* stack, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  // The frames of the fiber that ended here never returned, so their red zones are still marked.
  __asan_unpoison_memory_region(stack, STACK_BYTES);
  context.fake_stack = nullptr;
  context.stack_bottom = stack;
  context.stack_size = STACK_BYTES;
#endif
  memcpy(stack, &CANARY, sizeof(CANARY));
#ifdef CUDA_ON_CPU_UCONTEXT
  getcontext(&context.machine);
  context.machine.uc_stack.ss_sp = stack;
  context.machine.uc_stack.ss_size = STACK_BYTES;
  context.machine.uc_link = nullptr;
  makecontext(&context.machine, entry, 0);
#else
  void** frame = reinterpret_cast<void**>(stack + STACK_BYTES) - FRAME_WORDS;
  memset(frame, 0, FRAME_WORDS * sizeof(void*));
  frame[RETURN_ADDRESS_WORD] = reinterpret_cast<void*>(entry);
  context.stack_pointer = frame;
#endif
}

static bool stack_was_overrun(const char* stack) { return memcmp(stack, &CANARY, sizeof(CANARY)) != 0; }

// The stack of the fiber with this number; null if there is no memory. They are made by the thousand, and take up
// memory only where they are used.
constexpr int STACKS_AT_ONCE = 1024;
constexpr int MAX_STACKS = 64 * STACKS_AT_ONCE;
// Not a power of two, or the stacks of a block would compete for the same few lines of the processor's caches.
constexpr size_t STACK_STRIDE = SLACK_BYTES + STACK_BYTES + 4096 + 320;
static char* stack_chunks[MAX_STACKS / STACKS_AT_ONCE];

// Below the lowest stack of each warp lies a page that cannot be touched. Not below every stack: a process can have some
// 65000 pieces of memory with different rights, and each page would make two.
constexpr int STACKS_PER_GUARD = 32;

static void guard_stacks(char* chunk) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < STACKS_AT_ONCE; i += STACKS_PER_GUARD) {
    char* slack = chunk + i * STACK_STRIDE;
    char* guard = slack + (page - reinterpret_cast<uintptr_t>(slack) % page) % page;
    if (guard + page <= slack + SLACK_BYTES) mprotect(guard, page, PROT_NONE);  // without it, there is the canary
  }
}

static char* stack_of(int number) {
  char*& chunk = stack_chunks[number / STACKS_AT_ONCE];
  if (chunk == nullptr) {
    void* memory = mmap(nullptr, STACKS_AT_ONCE * STACK_STRIDE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    chunk = static_cast<char*>(memory);
    guard_stacks(chunk);
  }
  return chunk + number % STACKS_AT_ONCE * STACK_STRIDE + SLACK_BYTES;
}

// True for an address among the stacks; if it cannot be touched, it is a guard's.
static bool is_in_stacks(const void* address) {
  for (const char* chunk : stack_chunks) {
    if (chunk != nullptr && address >= chunk && address < chunk + STACKS_AT_ONCE * STACK_STRIDE) return true;
  }
  return false;
}

// Gives back the memory of all stacks but those of a few large blocks.
static void release_stacks() {
  constexpr int kept = 8;
  for (int i = kept; i < MAX_STACKS / STACKS_AT_ONCE; ++i) {
    if (stack_chunks[i] == nullptr) continue;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_chunks[i], STACKS_AT_ONCE * STACK_STRIDE);
#endif
    munmap(stack_chunks[i], STACKS_AT_ONCE * STACK_STRIDE);
    stack_chunks[i] = nullptr;
  }
}

}  // namespace cuda_on_cpu
