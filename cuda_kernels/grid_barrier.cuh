// grid_barrier.cuh: all blocks of a grid wait for each other, inside a kernel.
//
// Contract: every block of the grid calls grid_barrier(counter) equally often, with all its threads. Only in a kernel
// launched with launch(..., cooperative=True), which makes sure that all blocks are on the GPU at once; in any other
// launch blocks may wait for ever for blocks that have no room to start.
//
//   counter  one word of global memory, zero before its first use. Afterwards it needs no care: each barrier leaves all
//            its bits but the highest at zero, whatever the grid, so that it serves later barriers, launches and replays
//            of a captured step. Two launches that may run at the same time need one each.
//
// What a thread wrote before the barrier, to global memory, every thread reads after it - by an ordinary load. Not by
// __ldg, nor through a pointer that is const and __restrict__: such loads may come from a cache that nobody refreshes.
//
// How: each block adds 1 to the counter, the first block what is missing to 2^31: after the last one the highest bit has
// changed and the others are zero. A block waits until it sees the bit change. It cannot miss a change, for the next one
// needs the block itself.
#pragma once

#ifdef CUDA_ON_CPU

inline void grid_barrier(unsigned* counter, CUDA_ON_CPU_PLACE) { cuda_on_cpu::wait_for_grid(counter, file, line); }

#else

__device__ inline void grid_barrier(unsigned* counter) {
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    const bool first = blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0;
    // The block's writes, which the barrier above ordered before this thread, become visible to the whole GPU.
    __threadfence();
    const unsigned before = atomicAdd(counter, first ? 0x80000000u - (blocks - 1) : 1u);
    unsigned now;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(__cvta_generic_to_global(counter)) : "memory");
    } while (((before ^ now) & 0x80000000u) == 0);
    __threadfence();
  }
  __syncthreads();
}

#endif
