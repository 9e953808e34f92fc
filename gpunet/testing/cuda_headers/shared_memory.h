// shared_memory.h: __shared__ memory is the library's thread_local storage; here it is found, filled, checked and
// swapped between blocks.

#pragma once

#include "threads.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

namespace cuda_on_cpu {

constexpr unsigned MAX_DYNAMIC_BYTES = 227 * 1024;  // what a block can have on the largest GPUs
constexpr unsigned GUARD_BYTES = 1024;

// The file's `extern __shared__` arrays, one after the other, then null. Defined behind the kernels, with the arrays.
static char* dynamic_shared_memory(int number);

struct Range {
  char* start;
  size_t bytes;
};

static Range shared_memory;        // all of it, static and dynamic
static Range shared_ranges[16];    // what a block can use: without what is left of the dynamic arrays
static int shared_range_count;
static size_t shared_image_bytes;  // the sum of the ranges
static unsigned dynamic_bytes;

#if defined(__linux__)
static int find_thread_local(struct dl_phdr_info* info, size_t, void* own_base) {
  if (reinterpret_cast<void*>(info->dlpi_addr) != own_base) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data != nullptr) {
      shared_memory = {static_cast<char*>(info->dlpi_tls_data), info->dlpi_phdr[i].p_memsz};
    }
  }
  return 1;
}
#endif

// Finds the storage of the calling OS thread; each launch may come from another.
static void find_shared_memory() {
  shared_memory = {nullptr, 0};
#if defined(__linux__)
  static thread_local volatile char touched;  // the storage is set up when it is first used
  touched = 0;
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(find_shared_memory), &self) != 0) {
    dl_iterate_phdr(find_thread_local, self.dli_fbase);
  }
#endif
  shared_range_count = 0;
  shared_image_bytes = 0;
  if (shared_memory.start == nullptr) return;
  memset(shared_memory.start, FILL, shared_memory.bytes);
  char* position = shared_memory.start;
  char* const end = shared_memory.start + shared_memory.bytes;
  const int last = sizeof(shared_ranges) / sizeof(Range) - 1;
  while (shared_range_count < last) {
    char* next = nullptr;  // the dynamic array that comes next in memory
    for (int number = 0; dynamic_shared_memory(number) != nullptr; ++number) {
      char* start = dynamic_shared_memory(number);
      if (start >= position && (next == nullptr || start < next)) next = start;
    }
    if (next == nullptr) break;
    char* used = next + dynamic_bytes + GUARD_BYTES;
    shared_ranges[shared_range_count++] = {position, static_cast<size_t>(used - position)};
    position = next + MAX_DYNAMIC_BYTES + GUARD_BYTES;
  }
  if (position < end) shared_ranges[shared_range_count++] = {position, static_cast<size_t>(end - position)};
  for (int i = 0; i < shared_range_count; ++i) shared_image_bytes += shared_ranges[i].bytes;
}

static bool is_shared(const void* address, size_t bytes) {
  const char* start = static_cast<const char*>(address);
  return start >= shared_memory.start && start + bytes <= shared_memory.start + shared_memory.bytes;
}

static void fill_shared_memory() {
  for (int i = 0; i < shared_range_count; ++i) memset(shared_ranges[i].start, FILL, shared_ranges[i].bytes);
}

static void save_shared_memory(unsigned char* image) {
  for (int i = 0; i < shared_range_count; ++i) {
    memcpy(image, shared_ranges[i].start, shared_ranges[i].bytes);
    image += shared_ranges[i].bytes;
  }
}

static void load_shared_memory(const unsigned char* image) {
  for (int i = 0; i < shared_range_count; ++i) {
    memcpy(shared_ranges[i].start, image, shared_ranges[i].bytes);
    image += shared_ranges[i].bytes;
  }
}

// Looks behind the dynamic arrays of the block that has ended.
static void check_shared_memory() {
  for (int number = 0; !failed; ++number) {
    const char* memory = dynamic_shared_memory(number);
    if (memory == nullptr) return;
    for (unsigned byte = dynamic_bytes; byte < dynamic_bytes + GUARD_BYTES; byte += sizeof(uint64_t)) {
      uint64_t word;
      memcpy(&word, memory + byte, sizeof(word));
      if (word == ~uint64_t(0)) continue;
      unsigned first = byte;
      while (static_cast<unsigned char>(memory[first]) == FILL) ++first;
      return fail("block (%u, %u, %u) wrote past its %u bytes of dynamic shared memory, first to byte %u",
                  blockIdx.x, blockIdx.y, blockIdx.z, dynamic_bytes, first);
    }
  }
}

}  // namespace cuda_on_cpu
