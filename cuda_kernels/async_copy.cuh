// async_copy.cuh: copies from global to shared memory that do not pass through registers and go on while the thread
// computes (cp.async, sm_80). On sm_75 they are ordinary copies, done at once.
//
// Contract:
//   async_copy<bytes>(shared, global)         starts a copy of 4, 8 or 16 bytes, both addresses multiples of as many.
//   async_copy_or_zero<bytes>(shared, global, inside)
//                                             writes zeros instead where `inside` is false; then `global` is not read
//                                             and may be any address.
//   async_copy_commit()                       closes a group: all copies the thread started since it closed the last
//                                             one, possibly none.
//   async_copy_wait<pending>()                waits for all groups but the `pending` that were closed last.
//   async_copy_wait_all()                     waits for everything, closed or not.
//
// A wait is for the thread's own copies: what other threads of the block copied is there after __syncthreads(), which
// comes behind the wait. Likewise the next copy into a buffer comes behind a __syncthreads() after its last use. Until
// a copy has been waited for, its destination may be neither read nor written, and its source not written.
//
// Sixteen bytes are kept out of the L1 cache, since they are in shared memory from then on; smaller copies cannot be.
//
// Reference: PTX ISA manual, "cp.async".
#pragma once

#ifdef CUDA_ON_CPU

#define CUDA_ON_CPU_ASYNC_COPY(parameters, read_bytes)                                                                \
  template <int bytes>                                                                                                \
  inline void parameters {                                                                                            \
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "a copy has 4, 8 or 16 bytes");                            \
    cuda_on_cpu::copy_async(shared, global, bytes, read_bytes, file, line);                                           \
  }
CUDA_ON_CPU_ASYNC_COPY(async_copy(void* shared, const void* global, CUDA_ON_CPU_PLACE), bytes)
CUDA_ON_CPU_ASYNC_COPY(async_copy_or_zero(void* shared, const void* global, bool inside, CUDA_ON_CPU_PLACE),
                       inside ? bytes : 0)
#undef CUDA_ON_CPU_ASYNC_COPY
inline void async_copy_commit() { cuda_on_cpu::commit_copies(); }
template <int pending>
inline void async_copy_wait() {
  cuda_on_cpu::wait_for_copies(pending);
}
inline void async_copy_wait_all() { cuda_on_cpu::wait_for_all_copies(); }

#elif __CUDA_ARCH__ >= 800

template <int bytes>
__device__ __forceinline__ void async_copy_or_zero(void* shared, const void* global, bool inside) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "a copy has 4, 8 or 16 bytes");
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const size_t from = __cvta_generic_to_global(global);
  const int read = inside ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(bytes), "r"(read)
                 : "memory");
  }
}

template <int bytes>
__device__ __forceinline__ void async_copy(void* shared, const void* global) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "a copy has 4, 8 or 16 bytes");
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const size_t from = __cvta_generic_to_global(global);
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(bytes) : "memory");
  }
}

__device__ __forceinline__ void async_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int pending>
__device__ __forceinline__ void async_copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

__device__ __forceinline__ void async_copy_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#else

template <int bytes>
struct AsyncCopyWord;
template <>
struct AsyncCopyWord<4> {
  using type = unsigned;
};
template <>
struct AsyncCopyWord<8> {
  using type = uint2;
};
template <>
struct AsyncCopyWord<16> {
  using type = uint4;
};

template <int bytes>
__device__ __forceinline__ void async_copy(void* shared, const void* global) {
  using Word = typename AsyncCopyWord<bytes>::type;
  *static_cast<Word*>(shared) = *static_cast<const Word*>(global);
}

template <int bytes>
__device__ __forceinline__ void async_copy_or_zero(void* shared, const void* global, bool inside) {
  using Word = typename AsyncCopyWord<bytes>::type;
  *static_cast<Word*>(shared) = inside ? *static_cast<const Word*>(global) : Word();
}

__device__ __forceinline__ void async_copy_commit() {}
template <int pending>
__device__ __forceinline__ void async_copy_wait() {}
__device__ __forceinline__ void async_copy_wait_all() {}

#endif
