// cuda_on_cpu.h: enough of CUDA C++ to run a kernel file on a CPU. It is force-included before the unchanged .cu.
//
// Every CUDA thread of a block is a fiber with a stack of its own. The fibers take turns on one OS thread: a warp's
// fibers run, each until it reaches a barrier or a warp operation, in order of the thread number or, on request, in
// reversed order, until the whole warp waits for the block; then the next warp does. Blocks run one after the other in
// the same order. So a run is repeatable, and a kernel in which one thread reads what another has not yet written gives
// different results in the two orders.
//
//   __shared__        thread_local storage; filled with 0xFF (NaN, -1) before each block, so that a read of what the
//                     block has not written shows. Dynamic shared memory is followed by a guard.
//   local variables   filled with the compiler's pattern (-ftrivial-auto-var-init: a huge negative number with g++). A
//                     scalar that only one branch sets may still have that value in the others; with the sanitizers,
//                     which are built with less optimization, it has not.
//   __syncthreads     waits for all threads of the block that have not returned; all must be at the same line.
//   __shfl_*, votes   wait for all lanes named in the mask that have not returned; all must be at the same line.
//                     Reading a lane that takes no part gives 0xFF bytes.
//   mma.sync          tensor_cores.h: the warp's fragments are put together, multiplied and handed back.
//   cp.async          async_copy.h: delivered by the wait that covers it; until then the destination holds 0xFF.
//   atomics           plain operations, since nothing runs at the same time.
//   grid barrier      a cooperative launch has the threads of all blocks at once. A block runs until all its threads
//                     wait at the grid barrier; then its shared memory is put aside for the next block's.
//
// A barrier that can never be passed is reported with the line each thread waits at, a crash and a thread that never ends
// with the thread. What this cannot show: a missing
// atomic or fence, and races inside one stretch between barriers whose outcome is the same in both orders. Not there:
// clusters, TMA, wgmma and mbarrier of sm_90.

#pragma once

#define CUDA_ON_CPU 1

#include "assert.h"
#include "async_copy.h"
#include "fibers.h"
#include "intrinsics.h"
#include "keywords.h"
#include "scheduler.h"
#include "shared_memory.h"
#include "signals.h"
#include "small_floats.h"
#include "tensor_cores.h"
#include "threads.h"
#include "warp.h"

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
