// threads.h: what the layer knows of the threads and blocks of the running launch, and how a thread waits or fails.

#pragma once

#include "fibers.h"
#include "keywords.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

namespace cuda_on_cpu {

constexpr int MAX_THREADS = 1024;  // of a block
constexpr int MAX_COOPERATIVE_THREADS = MAX_STACKS;  // of a grid whose blocks wait for each other
constexpr int WARP = 32;
constexpr unsigned char FILL = 0xFF;

enum class State : unsigned char { ready, asleep, at_barrier, at_warp, at_grid, done };

// What a lane brings to a warp operation and takes away from it.
struct Lane {
  uint64_t value;   // brought: the operand, or where it is
  uint64_t result;  // taken away
  int argument;     // the lane to read, or whatever the operation needs
};
using Combine = void (*)(Lane* const lanes[WARP]);  // null where a lane takes no part

// A copy that has been asked for and not yet waited for.
struct PendingCopy {
  char* to;
  const char* from;
  unsigned bytes;       // written
  unsigned read_bytes;  // of which this many come from the source, and the rest is zero
  uint64_t group;
  const char* file;
  int line;
  unsigned char data[16];
};

struct PendingCopies {
  PendingCopy* items;
  int count, capacity;
  uint64_t group;  // the group of the next copy
};

struct Thread {
  Context context;
  char* stack;
  uint3 index;
  int number;  // in the block
  State state;
  int line;  // where and at what it waits
  const char* file;
  const char* operation;
  int predicate;
  unsigned mask;
  Combine combine;
  Lane* lane;
  unsigned* grid_counter;
  PendingCopies copies;
};

struct Block {
  uint3 index;
  Thread* threads;
  int alive, at_barrier, at_grid, asleep;  // numbers of threads
  unsigned char* image;                    // the block's shared memory while another block runs; null before it starts
};

static Block* block;  // the running one
static Thread* current;
static Context scheduler;
static int thread_count;     // of a block
static int barrier_count;    // threads whose predicate was true at the last barrier
static int barrier_threads;  // that were there
static bool reversed_order;
static bool cooperative;
static bool failed;
static char* message;
static size_t message_capacity;
static void (*kernel_body)(void*);
static void* kernel_arguments;

static int lane_number() { return current->number % WARP; }

static void yield(bool ends = false) {
  Thread* me = current;
  switch_context(me->context, scheduler, ends);
}

// Only the first failure counts.
[[gnu::format(printf, 1, 2)]] static void fail(const char* format, ...) {
  if (!failed) {
    va_list values;
    va_start(values, format);
    vsnprintf(message, message_capacity, format, values);
    va_end(values);
  }
  failed = true;
}

static void fail_stack(const Thread& thread) {
  fail("block (%u, %u, %u), thread (%u, %u, %u) needs more than the %zu bytes of stack it has here", block->index.x,
       block->index.y, block->index.z, thread.index.x, thread.index.y, thread.index.z, STACK_BYTES);
}

[[noreturn]] static void end_thread() {
  current->state = State::done;
  --block->alive;
  yield(true);
  abort();
}

// Ends the fiber that asks for it; the scheduler sees `failed`.
[[noreturn, gnu::format(printf, 1, 2)]] static void fail_here(const char* format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof(text), format, values);
  va_end(values);
  fail("block (%u, %u, %u), thread (%u, %u, %u): %s", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
       threadIdx.z, text);
  end_thread();
}

[[noreturn, gnu::unused]] static void fail_assertion(const char* condition, const char* file, int line) {
  fail_here("assert(%s) failed at %s:%d", condition, file, line);
}

static inline void note_wait(State state, const char* operation, const char* file, int line) {
  current->state = state;
  current->operation = operation;
  current->file = file;
  current->line = line;
}

// Waits for the block. The line is the caller's.
static void wait_for_block(const char* operation, int predicate, const char* file, int line) {
  note_wait(State::at_barrier, operation, file, line);
  current->predicate = predicate;
  ++block->at_barrier;
  yield();
}

// Waits for all blocks of a cooperative launch. The counter is what the barrier uses on a GPU.
static void wait_for_grid(unsigned* counter, const char* file, int line) {
  if (!cooperative) {
    fail_here("grid barrier at %s:%d in a launch that is not cooperative: on a GPU, blocks that do not fit on it would "
              "never start", file, line);
  }
  if (counter == nullptr || (*counter & 0x7FFFFFFFu) != 0) {
    fail_here("grid barrier at %s:%d: the counter %s", file, line,
              counter == nullptr ? "is null" : "has to be zero before its first use");
  }
  note_wait(State::at_grid, "grid barrier", file, line);
  current->grid_counter = counter;
  ++block->at_grid;
  yield();
}

// Lets the other threads go first, and in a cooperative launch the other blocks.
static void sleep(const char* file, int line) {
  note_wait(State::asleep, "__nanosleep", file, line);
  ++block->asleep;
  yield();
}

// Waits for the lanes of the mask; the last thing before they go on is combine, which sees what all of them brought.
static uint64_t wait_for_warp(const char* operation, unsigned mask, Combine combine, uint64_t value, int argument,
                              const char* file, int line) {
  if (!(mask >> lane_number() & 1u)) {
    fail_here("%s at %s:%d with mask 0x%08x, which does not name the calling lane %d", operation, file, line, mask,
              lane_number());
  }
  Lane lane{value, 0, argument};
  note_wait(State::at_warp, operation, file, line);
  current->mask = mask;
  current->combine = combine;
  current->lane = &lane;
  yield();
  return lane.result;
}

}  // namespace cuda_on_cpu

// The caller's place, as default arguments.
#define CUDA_ON_CPU_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
