// cuda_on_cpu.h: enough of CUDA C++ to run a kernel file on a CPU. It is force-included before the unchanged .cu.
//
// Every CUDA thread of a block is a fiber with a stack of its own. The fibers of a block take turns on one OS thread: a
// fiber runs until it reaches a barrier or a warp operation, then the next one does, in order of the thread number or,
// on request, in reversed order. Blocks run one after the other in the same order. So a run is repeatable, and a
// kernel in which one thread reads what another has not yet written gives different results in the two orders.
//
//   __shared__        thread_local storage; filled with 0xFF (NaN, -1) before each block, so that a read of what the
//                     block has not written shows. Dynamic shared memory is followed by a guard.
//   __syncthreads     waits for all threads of the block that have not returned; all must be at the same line.
//   __shfl_*, votes   wait for all lanes named in the mask that have not returned. Reading a lane that takes no part
//                     gives 0xFF bytes.
//   atomics           plain operations, since nothing runs at the same time.
//
// A barrier that can never be passed is reported with the line each thread waits at. What this cannot show: a missing
// atomic or fence, and races inside one stretch between barriers whose outcome is the same in both orders.

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <bit>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define CUDA_ON_CPU_UCONTEXT
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
#include <ucontext.h>
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Keywords. thread_local implies static inside a function, and `extern thread_local` is allowed, as `extern __shared__`
// has to be.

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ thread_local
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__

// ---------------------------------------------------------------------------------------------------------------------
// Vector types, with CUDA's alignment.

#define CUDA_ON_CPU_VECTOR(scalar, name, align2, align4)                                             \
  struct name##1 { scalar x; };                                                                      \
  struct alignas(align2) name##2 { scalar x, y; };                                                   \
  struct name##3 { scalar x, y, z; };                                                                \
  struct alignas(align4) name##4 { scalar x, y, z, w; };                                             \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }                               \
  inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; }                  \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
CUDA_ON_CPU_VECTOR(signed char, char, 2, 4)
CUDA_ON_CPU_VECTOR(unsigned char, uchar, 2, 4)
CUDA_ON_CPU_VECTOR(short, short, 4, 8)
CUDA_ON_CPU_VECTOR(unsigned short, ushort, 4, 8)
CUDA_ON_CPU_VECTOR(int, int, 8, 16)
CUDA_ON_CPU_VECTOR(unsigned int, uint, 8, 16)
CUDA_ON_CPU_VECTOR(long long, longlong, 16, 16)
CUDA_ON_CPU_VECTOR(unsigned long long, ulonglong, 16, 16)
CUDA_ON_CPU_VECTOR(float, float, 8, 16)
CUDA_ON_CPU_VECTOR(double, double, 16, 16)
#undef CUDA_ON_CPU_VECTOR

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

// ---------------------------------------------------------------------------------------------------------------------
// The runtime.

namespace cuda_on_cpu {

constexpr int MAX_THREADS = 1024;
constexpr int WARP = 32;
constexpr unsigned MAX_DYNAMIC_BYTES = 227 * 1024;  // what a block can have on the largest GPUs
constexpr unsigned GUARD_BYTES = 1024;
constexpr unsigned char FILL = 0xFF;
constexpr uint64_t CANARY = 0x6B63617473646E65;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK_BYTES = 256 * 1024;
#else
constexpr size_t STACK_BYTES = 64 * 1024;
#endif
constexpr size_t SLACK_BYTES = 64 * 1024;  // below a stack, so that an overrun is found before it does harm

enum class State { ready, at_barrier, at_warp, done };

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

// What a lane brings to a warp operation and takes away from it.
struct Lane {
  uint64_t value;   // brought
  uint64_t result;  // taken away
  int argument;     // the lane to read, or whatever the operation needs
};
using Combine = void (*)(Lane* const lanes[WARP]);  // null where a lane takes no part

struct Thread {
  Context context;
  char* stack;
  uint3 index;
  State state;
  const char* operation;  // where and at what it waits
  const char* file;
  int line;
  int predicate;
  unsigned mask;
  Combine combine;
  Lane* lane;
};

static Thread threads[MAX_THREADS];
static Thread* current;
static Context scheduler;
static int thread_count;
static int barrier_count;  // threads whose predicate was true at the last barrier
static int barrier_threads;
static bool reversed_order;
static bool failed;
static char* message;
static size_t message_capacity;
static void (*kernel_body)(void*);
static void* kernel_arguments;

#ifndef CUDA_ON_CPU_UCONTEXT
extern "C" __attribute__((visibility("hidden"))) void cuda_on_cpu_switch(void** save, void* load);
// Saves what a called function must preserve on the stack, changes stacks, and restores it from there.
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
    ret
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
    ret
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

static void yield(bool ends = false) {
  Thread* me = current;
  switch_context(me->context, scheduler, ends);
}

[[noreturn]] static void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  // The first fiber to start tells us where the scheduler's own stack lies.
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack_bottom, &scheduler.stack_size);
#endif
  kernel_body(kernel_arguments);
  current->state = State::done;
  yield(true);
  abort();
}

static void fail(const char* format, auto... values) {
  if (!failed) snprintf(message, message_capacity, format, values...);
  failed = true;
}

// Ends the fiber that asks for it; the scheduler sees `failed`.
[[noreturn]] static void fail_here(const char* text) {
  fail("block (%u, %u, %u), thread (%u, %u, %u): %s", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
       threadIdx.z, text);
  current->state = State::done;
  yield(true);
  abort();
}

static bool start_thread(int number, uint3 index) {
  Thread& thread = threads[number];
  if (thread.stack == nullptr) {
    void* memory =
        mmap(nullptr, SLACK_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    thread.stack = static_cast<char*>(memory) + SLACK_BYTES;
  }
#if defined(__SANITIZE_ADDRESS__)
  // The frames of the fiber that ended here never returned, so their red zones are still marked.
  __asan_unpoison_memory_region(thread.stack, STACK_BYTES);
  thread.context.fake_stack = nullptr;
  thread.context.stack_bottom = thread.stack;
  thread.context.stack_size = STACK_BYTES;
#endif
  memcpy(thread.stack, &CANARY, sizeof(CANARY));
  thread.index = index;
  thread.state = State::ready;
#ifdef CUDA_ON_CPU_UCONTEXT
  getcontext(&thread.context.machine);
  thread.context.machine.uc_stack.ss_sp = thread.stack;
  thread.context.machine.uc_stack.ss_size = STACK_BYTES;
  thread.context.machine.uc_link = nullptr;
  makecontext(&thread.context.machine, fiber_main, 0);
#else
  void** frame = reinterpret_cast<void**>(thread.stack + STACK_BYTES) - FRAME_WORDS;
  memset(frame, 0, FRAME_WORDS * sizeof(void*));
  frame[RETURN_ADDRESS_WORD] = reinterpret_cast<void*>(fiber_main);
  thread.context.stack_pointer = frame;
#endif
  return true;
}

// Lets the block pass its barrier if all threads that have not returned are there.
static bool release_barrier() {
  int waiting = 0, alive = 0, predicates = 0;
  const Thread* first = nullptr;
  for (int i = 0; i < thread_count; ++i) {
    const Thread& thread = threads[i];
    if (thread.state == State::done) continue;
    ++alive;
    if (thread.state != State::at_barrier) continue;
    ++waiting;
    predicates += thread.predicate != 0;
    if (first == nullptr) first = &thread;
    if (thread.line != first->line || strcmp(thread.file, first->file) != 0) {
      fail("block (%u, %u, %u): threads meet at different barriers: thread (%u, %u, %u) at %s:%d, thread (%u, %u, %u) "
           "at %s:%d", blockIdx.x, blockIdx.y, blockIdx.z, first->index.x, first->index.y, first->index.z, first->file,
           first->line, thread.index.x, thread.index.y, thread.index.z, thread.file, thread.line);
      return false;
    }
  }
  if (waiting == 0 || waiting < alive) return false;
  barrier_count = predicates;
  barrier_threads = alive;
  for (int i = 0; i < thread_count; ++i) {
    if (threads[i].state == State::at_barrier) threads[i].state = State::ready;
  }
  return true;
}

// Performs the warp operations for which all lanes named in the mask that have not returned are there.
static bool release_warps() {
  bool progress = false;
  for (int base = 0; base < thread_count; base += WARP) {
    const int size = thread_count - base < WARP ? thread_count - base : WARP;
    for (int lane = 0; lane < size; ++lane) {
      const Thread& leader = threads[base + lane];
      if (leader.state != State::at_warp) continue;
      Lane* lanes[WARP] = {};
      bool complete = true;
      for (int other = 0; other < size; ++other) {
        const Thread& thread = threads[base + other];
        if (!(leader.mask >> other & 1u) || thread.state == State::done) continue;
        if (thread.state == State::at_warp && thread.mask == leader.mask && thread.combine == leader.combine) {
          lanes[other] = thread.lane;
        } else {
          complete = false;
        }
      }
      if (!complete) continue;
      leader.combine(lanes);
      for (int other = 0; other < size; ++other) {
        if (lanes[other] != nullptr) threads[base + other].state = State::ready;
      }
      progress = true;
    }
  }
  return progress;
}

static void report_deadlock() {
  int length = snprintf(message, message_capacity, "block (%u, %u, %u): no thread can go on:", blockIdx.x, blockIdx.y,
                        blockIdx.z);
  const Thread* shown = nullptr;
  int lines = 0;
  for (int i = 0; i < thread_count && lines < 8; ++i) {
    const Thread& thread = threads[i];
    if (thread.state == State::done) continue;
    if (shown != nullptr && shown->line == thread.line && shown->mask == thread.mask) continue;
    shown = &thread;
    ++lines;
    if (length < 0 || static_cast<size_t>(length) >= message_capacity) break;
    length += snprintf(message + length, message_capacity - length, "%s thread (%u, %u, %u) waits at %s:%d in %s",
                       lines > 1 ? ";" : "", thread.index.x, thread.index.y, thread.index.z, thread.file, thread.line,
                       thread.operation);
    if (thread.state == State::at_warp && static_cast<size_t>(length) < message_capacity) {
      length += snprintf(message + length, message_capacity - length, " for the lanes of mask 0x%08x", thread.mask);
    }
  }
  failed = true;
}

static void run_block() {
  thread_count = 0;
  for (unsigned z = 0; z < blockDim.z; ++z) {
    for (unsigned y = 0; y < blockDim.y; ++y) {
      for (unsigned x = 0; x < blockDim.x; ++x) {
        if (!start_thread(thread_count, {x, y, z})) return fail("no memory for the stacks of the block's threads");
        ++thread_count;
      }
    }
  }
  for (;;) {
    bool ran = false, alive = false;
    for (int i = 0; i < thread_count; ++i) {
      Thread& thread = threads[reversed_order ? thread_count - 1 - i : i];
      if (thread.state == State::ready) {
        ran = true;
        current = &thread;
        threadIdx = thread.index;
        switch_context(scheduler, thread.context, false);
        if (memcmp(thread.stack, &CANARY, sizeof(CANARY)) != 0) {
          fail("thread (%u, %u, %u) needs more than the %zu bytes of stack it has here", thread.index.x, thread.index.y,
               thread.index.z, STACK_BYTES);
        }
        if (failed) return;
      }
      alive = alive || thread.state != State::done;
    }
    if (!alive) break;
    const bool released = release_warps() | release_barrier();
    if (failed) return;
    if (!ran && !released) return report_deadlock();
  }
}

#if defined(__linux__)
static int fill_thread_local(struct dl_phdr_info* info, size_t, void* own_base) {
  if (reinterpret_cast<void*>(info->dlpi_addr) != own_base) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data != nullptr) {
      memset(info->dlpi_tls_data, FILL, info->dlpi_phdr[i].p_memsz);
    }
  }
  return 1;
}
#endif

// All of this library's thread_local storage is __shared__ memory: the runtime's own state is in plain statics.
static void fill_shared_memory() {
#if defined(__linux__)
  static thread_local volatile char touched;  // the storage is set up when it is first used
  touched = 0;
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(fill_shared_memory), &self) != 0) {
    dl_iterate_phdr(fill_thread_local, self.dli_fbase);
  }
#endif
}

// The file's `extern __shared__` arrays, one after the other, then null. Defined behind the kernels, with the arrays.
static char* dynamic_shared_memory(int number);

static void run_grid(const unsigned* shape) {
  gridDim = dim3(shape[0], shape[1], shape[2]);
  blockDim = dim3(shape[3], shape[4], shape[5]);
  const unsigned dynamic_bytes = shape[6];
  reversed_order = shape[7] != 0;
  if (uint64_t(blockDim.x) * blockDim.y * blockDim.z > uint64_t(MAX_THREADS)) {
    return fail("a block has at most %d threads", MAX_THREADS);
  }
  if (dynamic_bytes > MAX_DYNAMIC_BYTES) {
    return fail("a block has at most %u bytes of dynamic shared memory", MAX_DYNAMIC_BYTES);
  }
  const uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  for (uint64_t i = 0; i < blocks && !failed; ++i) {
    const uint64_t block = reversed_order ? blocks - 1 - i : i;
    blockIdx = {unsigned(block % gridDim.x), unsigned(block / gridDim.x % gridDim.y),
                unsigned(block / gridDim.x / gridDim.y)};
    fill_shared_memory();
    run_block();
    for (int number = 0; !failed; ++number) {
      const char* memory = dynamic_shared_memory(number);
      if (memory == nullptr) break;
      for (unsigned byte = dynamic_bytes; byte < dynamic_bytes + GUARD_BYTES; ++byte) {
        if (static_cast<unsigned char>(memory[byte]) != FILL) {
          fail("block (%u, %u, %u) wrote %u bytes past its %u bytes of dynamic shared memory", blockIdx.x, blockIdx.y,
               blockIdx.z, byte - dynamic_bytes, dynamic_bytes);
          break;
        }
      }
    }
  }
}

template <typename... Parameters>
struct Kernel {
  template <size_t... I>
  static void call(void (*function)(Parameters...), void** values, std::index_sequence<I...>) {
    function(*static_cast<std::remove_const_t<Parameters>*>(values[I])...);
  }
};

template <typename... Parameters>
static int launch(void (*function)(Parameters...), const unsigned* shape, void** values, char* text, size_t capacity) {
  struct Call {
    void (*function)(Parameters...);
    void** values;
  } call{function, values};
  failed = false;
  message = text;
  message_capacity = capacity;
  kernel_arguments = &call;
  kernel_body = [](void* pointer) {
    const Call& call = *static_cast<Call*>(pointer);
    Kernel<Parameters...>::call(call.function, call.values, std::index_sequence_for<Parameters...>{});
  };
  run_grid(shape);
  return failed ? 1 : 0;
}

template <typename... Parameters>
static int parameter_sizes(void (*)(Parameters...), unsigned* sizes) {
  int count = 0;
  ((sizes[count++] = sizeof(Parameters)), ...);
  return count;
}

// Waits for the block. The line is the caller's.
static void wait_for_block(const char* operation, int predicate, const char* file, int line) {
  Thread* me = current;
  me->state = State::at_barrier;
  me->operation = operation;
  me->predicate = predicate;
  me->file = file;
  me->line = line;
  me->mask = 0;
  yield();
}

// Waits for the lanes of the mask; the last thing before they go on is combine, which sees what all of them brought.
static uint64_t wait_for_warp(const char* operation, unsigned mask, Combine combine, uint64_t value, int argument,
                              const char* file, int line) {
  Thread* me = current;
  const int lane_number = static_cast<int>(me - threads) % WARP;
  if (!(mask >> lane_number & 1u)) {
    static char text[256];
    snprintf(text, sizeof(text), "%s at %s:%d with mask 0x%08x, which does not name the calling lane %d", operation,
             file, line, mask, lane_number);
    fail_here(text);
  }
  Lane lane{value, 0, argument};
  me->state = State::at_warp;
  me->operation = operation;
  me->file = file;
  me->line = line;
  me->mask = mask;
  me->combine = combine;
  me->lane = &lane;
  yield();
  return lane.result;
}

inline void combine_nothing(Lane* const*) {}

inline void combine_read(Lane* const lanes[WARP]) {
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] == nullptr) continue;
    const Lane* source = lanes[lanes[i]->argument];
    lanes[i]->result = source != nullptr ? source->value : ~uint64_t(0);
  }
}

inline void combine_ballot(Lane* const lanes[WARP]) {
  uint64_t ballot = 0;
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] != nullptr && lanes[i]->value != 0) ballot |= uint64_t(1) << i;
  }
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] != nullptr) lanes[i]->result = ballot;
  }
}

inline void combine_all(Lane* const lanes[WARP]) {
  bool all = true;
  for (int i = 0; i < WARP; ++i) all = all && (lanes[i] == nullptr || lanes[i]->value != 0);
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] != nullptr) lanes[i]->result = all;
  }
}

static int lane_number() { return static_cast<int>(current - threads) % WARP; }

template <typename T>
static T read_lane(const char* operation, unsigned mask, T value, int source, const char* file, int line) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t), "a shuffle moves up to eight bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = wait_for_warp(operation, mask, combine_read, bits, source, file, line);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_on_cpu

// ---------------------------------------------------------------------------------------------------------------------
// Barriers, fences, shuffles, votes. The default arguments are the caller's place.

#define CUDA_ON_CPU_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_ON_CPU_PLACE) { cuda_on_cpu::wait_for_block("__syncthreads", 0, file, line); }
inline int __syncthreads_count(int predicate, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_block("__syncthreads_count", predicate, file, line);
  return cuda_on_cpu::barrier_count;
}
inline int __syncthreads_and(int predicate, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_block("__syncthreads_and", predicate, file, line);
  return cuda_on_cpu::barrier_count == cuda_on_cpu::barrier_threads;
}
inline int __syncthreads_or(int predicate, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_block("__syncthreads_or", predicate, file, line);
  return cuda_on_cpu::barrier_count != 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_warp("__syncwarp", mask, cuda_on_cpu::combine_nothing, 0, 0, file, line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int first = cuda_on_cpu::lane_number() & ~(width - 1);
  return cuda_on_cpu::read_lane("__shfl_sync", mask, value, first | (source & (width - 1)), file, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int lane = cuda_on_cpu::lane_number(), first = lane & ~(width - 1);
  const int source = lane - static_cast<int>(delta);
  return cuda_on_cpu::read_lane("__shfl_up_sync", mask, value, source < first ? lane : source, file, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int lane = cuda_on_cpu::lane_number(), last = lane | (width - 1);
  const int source = lane + static_cast<int>(delta);
  return cuda_on_cpu::read_lane("__shfl_down_sync", mask, value, source > last ? lane : source, file, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int lane = cuda_on_cpu::lane_number(), last = lane | (width - 1);
  const int source = lane ^ lane_mask;
  return cuda_on_cpu::read_lane("__shfl_xor_sync", mask, value, source > last ? lane : source, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return static_cast<unsigned>(cuda_on_cpu::wait_for_warp("__ballot_sync", mask, cuda_on_cpu::combine_ballot,
                                                          predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_warp("__any_sync", mask, cuda_on_cpu::combine_ballot, predicate != 0, 0, file,
                                    line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_warp("__all_sync", mask, cuda_on_cpu::combine_all, predicate != 0, 0, file,
                                    line) != 0;
}

[[noreturn]] inline void __trap() { cuda_on_cpu::fail_here("__trap() was called"); }

// ---------------------------------------------------------------------------------------------------------------------
// Atomics: each returns the value it found.

#define CUDA_ON_CPU_ATOMIC(name, expression)                    \
  template <typename T>                                         \
  T name(T* address, std::type_identity_t<T> value) {                 \
    const T old = *address;                                     \
    *address = static_cast<T>(expression);                      \
    return old;                                                 \
  }
CUDA_ON_CPU_ATOMIC(atomicAdd, old + value)
CUDA_ON_CPU_ATOMIC(atomicSub, old - value)
CUDA_ON_CPU_ATOMIC(atomicExch, value)
CUDA_ON_CPU_ATOMIC(atomicMin, value < old ? value : old)
CUDA_ON_CPU_ATOMIC(atomicMax, old < value ? value : old)
CUDA_ON_CPU_ATOMIC(atomicAnd, old & value)
CUDA_ON_CPU_ATOMIC(atomicOr, old | value)
CUDA_ON_CPU_ATOMIC(atomicXor, old ^ value)
CUDA_ON_CPU_ATOMIC(atomicInc, old >= value ? T(0) : old + 1)
CUDA_ON_CPU_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef CUDA_ON_CPU_ATOMIC

template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

// ---------------------------------------------------------------------------------------------------------------------
// Arithmetic that C++ has under another name or not at all.

// Of a NaN and a number, CUDA's min and max return the number.
template <typename A, typename B>
std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return static_cast<T>(fmin(T(a), T(b)));
  return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B>
std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return static_cast<T>(fmax(T(a), T(b)));
  return T(a) < T(b) ? T(b) : T(a);
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(uint64_t(x) * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
template <typename T>
T __ldg(const T* address) { return *address; }

// ---------------------------------------------------------------------------------------------------------------------
// What the wrapper behind the kernel file consists of.

#define CUDA_ON_CPU_KERNEL(name)                                                                               \
  extern "C" __attribute__((visibility("default"))) int cuda_on_cpu_launch_##name(                             \
      const unsigned* shape, void** values, char* text, size_t capacity) {                                     \
    return cuda_on_cpu::launch(name, shape, values, text, capacity);                                           \
  }                                                                                                            \
  extern "C" __attribute__((visibility("default"))) int cuda_on_cpu_sizes_##name(unsigned* sizes) {            \
    return cuda_on_cpu::parameter_sizes(name, sizes);                                                          \
  }

// Marks bytes around an array as out of bounds for AddressSanitizer, or lifts the mark.
extern "C" __attribute__((visibility("default"))) inline __attribute__((used)) void cuda_on_cpu_forbid(
    void* address, size_t bytes, size_t forbidden) {
#if defined(__SANITIZE_ADDRESS__)
  if (forbidden != 0) {
    __asan_poison_memory_region(address, bytes);
  } else {
    __asan_unpoison_memory_region(address, bytes);
  }
#else
  (void)address, (void)bytes, (void)forbidden;
#endif
}
