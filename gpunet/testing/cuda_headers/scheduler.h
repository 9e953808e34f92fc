// scheduler.h: runs the threads of a block in turns, the blocks of a grid one after the other, and a cooperative grid's
// blocks from one grid barrier to the next.

#pragma once

#include "async_copy.h"
#include "shared_memory.h"
#include "signals.h"
#include "threads.h"
#include "warp.h"

#include <type_traits>
#include <utility>

namespace cuda_on_cpu {

constexpr int MAX_NAPS = 1 << 20;  // rounds in which all threads do nothing but sleep

static Thread* threads;  // of the launch
static int thread_capacity;
static Block* cooperative_blocks;  // of a cooperative launch, and their shared memory
static unsigned char* cooperative_images;

[[noreturn]] static void fiber_main() {
  note_first_switch(scheduler);
  kernel_body(kernel_arguments);
  require_no_copies();
  end_thread();
}

static bool start_thread(Thread& thread, int stack, int number, uint3 index) {
  thread.stack = stack_of(stack);
  if (thread.stack == nullptr) return false;
  prepare_context(thread.context, thread.stack, fiber_main);
  thread.index = index;
  thread.number = number;
  thread.state = State::ready;
  thread.operation = nullptr;
  thread.mask = 0;
  thread.copies.count = 0;
  thread.copies.group = 0;
  return true;
}

// Makes the threads of a block; the first has this number among those of the launch.
static bool start_block(Block& started, uint3 index, int first) {
  started = {index, threads + first, thread_count, 0, 0, 0, started.image};
  int number = 0;
  for (unsigned z = 0; z < blockDim.z; ++z) {
    for (unsigned y = 0; y < blockDim.y; ++y) {
      for (unsigned x = 0; x < blockDim.x; ++x, ++number) {
        if (!start_thread(threads[first + number], first + number, number, {x, y, z})) {
          fail("no memory for the stacks of %d threads", thread_count);
          return false;
        }
      }
    }
  }
  return true;
}

static void report_deadlock(const char* what) {
  if (failed) return;
  int length = snprintf(message, message_capacity, "block (%u, %u, %u): %s:", blockIdx.x, blockIdx.y, blockIdx.z, what);
  const Thread* shown = nullptr;
  int lines = 0;
  for (int i = 0; i < thread_count && lines < 8; ++i) {
    const Thread& thread = block->threads[i];
    if (thread.state == State::done) continue;
    const unsigned mask = thread.state == State::at_warp ? thread.mask : 0;
    if (shown != nullptr && shown->line == thread.line && shown->state == thread.state &&
        (mask == 0 || shown->mask == mask)) {
      continue;
    }
    shown = &thread;
    ++lines;
    if (length < 0 || static_cast<size_t>(length) >= message_capacity) break;
    length += snprintf(message + length, message_capacity - length, "%s thread (%u, %u, %u) waits at %s:%d in %s",
                       lines > 1 ? ";" : "", thread.index.x, thread.index.y, thread.index.z, thread.file, thread.line,
                       thread.operation);
    if (mask != 0 && static_cast<size_t>(length) < message_capacity) {
      length += snprintf(message + length, message_capacity - length, " for the lanes of mask 0x%08x", mask);
    }
  }
  failed = true;
}

// True if all of the block's threads that have not returned wait at one line; otherwise that is a fault.
static bool meet_at_one_line(State state, const char* what) {
  const Thread* first = nullptr;
  for (int i = 0; i < thread_count; ++i) {
    const Thread& thread = block->threads[i];
    if (thread.state != state) continue;
    if (first == nullptr) first = &thread;
    if (thread.line != first->line || (thread.file != first->file && strcmp(thread.file, first->file) != 0)) {
      fail("block (%u, %u, %u): threads meet at different %s: thread (%u, %u, %u) at %s:%d, thread (%u, %u, %u) at "
           "%s:%d", blockIdx.x, blockIdx.y, blockIdx.z, what, first->index.x, first->index.y, first->index.z,
           first->file, first->line, thread.index.x, thread.index.y, thread.index.z, thread.file, thread.line);
      return false;
    }
  }
  return true;
}

// Lets the block pass its barrier if all threads that have not returned are there.
static bool release_barrier() {
  if (block->at_barrier == 0 || block->at_barrier < block->alive) return false;
  if (!meet_at_one_line(State::at_barrier, "barriers")) return false;
  barrier_count = 0;
  barrier_threads = block->alive;
  for (int i = 0; i < thread_count; ++i) {
    Thread& thread = block->threads[i];
    if (thread.state != State::at_barrier) continue;
    barrier_count += thread.predicate != 0;
    thread.state = State::ready;
  }
  block->at_barrier = 0;
  return true;
}

// True if the lanes perform one operation at one line. Only __syncwarp may stand at several.
static bool meet_at_one_operation(const Thread& leader, const Thread* warp, Lane* const lanes[WARP]) {
  if (leader.combine == combine_nothing) return true;
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] == nullptr || (warp[i].line == leader.line && warp[i].file == leader.file)) continue;
    if (warp[i].line == leader.line && strcmp(warp[i].file, leader.file) == 0) continue;
    fail("block (%u, %u, %u): the lanes of mask 0x%08x meet at different operations: thread (%u, %u, %u) at %s:%d in "
         "%s, thread (%u, %u, %u) at %s:%d in %s", block->index.x, block->index.y, block->index.z, leader.mask,
         leader.index.x, leader.index.y, leader.index.z, leader.file, leader.line, leader.operation, warp[i].index.x,
         warp[i].index.y, warp[i].index.z, warp[i].file, warp[i].line, warp[i].operation);
    return false;
  }
  return true;
}

// Performs the warp operations for which all lanes named in the mask that have not returned are there.
static bool release_warp(Thread* warp, int size) {
  bool progress = false;
  for (int lane = 0; lane < size; ++lane) {
    const Thread& leader = warp[lane];
    if (leader.state != State::at_warp) continue;
    Lane* lanes[WARP] = {};
    bool complete = true;
    for (int other = 0; other < size; ++other) {
      const Thread& thread = warp[other];
      if (!(leader.mask >> other & 1u) || thread.state == State::done) continue;
      if (thread.state == State::at_warp && thread.mask == leader.mask && thread.combine == leader.combine) {
        lanes[other] = thread.lane;
      } else {
        complete = false;
      }
    }
    if (!complete) continue;
    if (!meet_at_one_operation(leader, warp, lanes)) return false;
    current = &warp[lane];
    leader.combine(lanes);
    for (int other = 0; other < size; ++other) {
      if (lanes[other] != nullptr) warp[other].state = State::ready;
    }
    progress = true;
  }
  return progress;
}

// Runs a warp until all its threads have returned or wait for something outside it.
static void run_warp(Thread* warp, int size) {
  do {
    for (int i = 0; i < size; ++i) {
      Thread& thread = warp[reversed_order ? size - 1 - i : i];
      if (thread.state != State::ready) continue;
      current = &thread;
      threadIdx = thread.index;
      in_kernel = true;
      switch_context(scheduler, thread.context, false);
      in_kernel = false;
      // What lies below a stack is nobody's, so that it is soon enough to look when the thread ends.
      if (thread.state == State::done && stack_was_overrun(thread.stack)) fail_stack(thread);
      if (failed) return;
    }
  } while (release_warp(warp, size) && !failed);
}

static void wake(Block& sleeping) {
  for (int i = 0; i < thread_count; ++i) {
    if (sleeping.threads[i].state == State::asleep) sleeping.threads[i].state = State::ready;
  }
  sleeping.asleep = 0;
}

// Runs the block until all its threads have returned or wait for other blocks.
static void run_block() {
  const int warps = (thread_count + WARP - 1) / WARP;
  int naps = 0;
  for (;;) {
    for (int i = 0; i < warps && !failed; ++i) {
      const int first = (reversed_order ? warps - 1 - i : i) * WARP;
      run_warp(block->threads + first, thread_count - first < WARP ? thread_count - first : WARP);
    }
    if (failed || block->alive == 0) return;
    if (release_barrier()) continue;
    if (failed || cooperative) return;
    if (block->asleep == 0) return report_deadlock("no thread can go on");
    if (++naps > MAX_NAPS) return report_deadlock("threads wait for something that does not happen");
    wake(*block);
  }
}

static uint3 block_index(uint64_t number) {
  return {unsigned(number % gridDim.x), unsigned(number / gridDim.x % gridDim.y),
          unsigned(number / gridDim.x / gridDim.y)};
}

static void run_independent() {
  Block only{};
  block = &only;
  const uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  for (uint64_t i = 0; i < blocks && !failed; ++i) {
    blockIdx = block_index(reversed_order ? blocks - 1 - i : i);
    fill_shared_memory();
    if (!start_block(only, blockIdx, 0)) return;
    run_block();
    check_shared_memory();
  }
}

// Lets all blocks pass the grid barrier, if all are there; otherwise nothing can go on, and it says why.
static bool release_grid(Block* blocks, int count) {
  const Block* waiting = nullptr;
  for (int i = 0; i < count; ++i) {
    if (blocks[i].at_grid != 0) waiting = &blocks[i];
  }
  const Thread* at = nullptr;
  for (int i = 0; waiting != nullptr && i < thread_count && at == nullptr; ++i) {
    if (waiting->threads[i].state == State::at_grid) at = &waiting->threads[i];
  }
  for (int i = 0; i < count; ++i) {
    block = &blocks[i];
    blockIdx = block->index;
    if (block->alive != block->at_grid) {
      report_deadlock(at != nullptr ? "some threads are not at the grid barrier that others wait at"
                                    : "no thread can go on");
      return false;
    }
    if (block->alive == 0 || block->threads[0].state == State::done) {
      fail("block (%u, %u, %u): %s without reaching the grid barrier at %s:%d, where block (%u, %u, %u) waits",
           blockIdx.x, blockIdx.y, blockIdx.z, block->alive == 0 ? "returned" : "thread (0, 0, 0) returned", at->file,
           at->line, waiting->index.x, waiting->index.y, waiting->index.z);
      return false;
    }
    if (!meet_at_one_line(State::at_grid, "grid barriers")) return false;
    for (int thread = 0; thread < thread_count; ++thread) {
      if (block->threads[thread].state == State::at_grid && block->threads[thread].grid_counter != at->grid_counter) {
        fail("block (%u, %u, %u) waits with another counter than block (%u, %u, %u) at the grid barrier at %s:%d",
             blockIdx.x, blockIdx.y, blockIdx.z, waiting->index.x, waiting->index.y, waiting->index.z, at->file,
             at->line);
        return false;
      }
    }
  }
  *at->grid_counter ^= 0x80000000u;  // what the barrier of a GPU leaves there
  for (int i = 0; i < count; ++i) {
    for (int thread = 0; thread < thread_count; ++thread) {
      State& state = blocks[i].threads[thread].state;
      if (state == State::at_grid) state = State::ready;
    }
    blocks[i].at_grid = 0;
  }
  return true;
}

// Rounds over all blocks, from one grid barrier to the next.
static void run_cooperative(Block* blocks, int count, unsigned char* images) {
  int naps = 0;
  for (bool first_round = true;; first_round = false) {
    bool alive = false, asleep = false;
    for (int i = 0; i < count && !failed; ++i) {
      const int number = reversed_order ? count - 1 - i : i;
      block = &blocks[number];
      if (first_round) {
        fill_shared_memory();
        if (!start_block(*block, block_index(number), number * thread_count)) return;
        block->image = images + number * shared_image_bytes;
      } else if (block->alive == 0) {
        continue;
      } else if (count > 1) {
        load_shared_memory(block->image);
      }
      blockIdx = block->index;
      run_block();
      if (block->alive == 0) check_shared_memory();
      else if (count > 1) save_shared_memory(block->image);
      alive = alive || block->alive != 0;
      asleep = asleep || block->asleep != 0;
    }
    if (failed || !alive) return;
    if (!asleep) {
      if (!release_grid(blocks, count)) return;
      naps = 0;
      continue;
    }
    if (++naps > MAX_NAPS) {
      block = blocks;
      return report_deadlock("threads wait for something that does not happen");
    }
    for (int i = 0; i < count; ++i) wake(blocks[i]);
  }
}

static bool have_threads(int count) {
  if (count <= thread_capacity) return true;
  void* memory = realloc(static_cast<void*>(threads), count * sizeof(Thread));
  if (memory == nullptr) {
    fail("no memory for %d threads", count);
    return false;
  }
  threads = static_cast<Thread*>(memory);
  memset(static_cast<void*>(threads + thread_capacity), 0, (count - thread_capacity) * sizeof(Thread));
  thread_capacity = count;
  return true;
}

// shape: grid, block, bytes of dynamic shared memory, reversed order or not, cooperative or not, seconds it may take.
static void run_grid(const unsigned* shape) {
  gridDim = dim3(shape[0], shape[1], shape[2]);
  blockDim = dim3(shape[3], shape[4], shape[5]);
  dynamic_bytes = shape[6];
  reversed_order = shape[7] != 0;
  cooperative = shape[8] != 0;
  const uint64_t size = uint64_t(blockDim.x) * blockDim.y * blockDim.z;
  if (size > uint64_t(MAX_THREADS)) return fail("a block has at most %d threads", MAX_THREADS);
  if (dynamic_bytes > MAX_DYNAMIC_BYTES) {
    return fail("a block has at most %u bytes of dynamic shared memory", MAX_DYNAMIC_BYTES);
  }
  thread_count = static_cast<int>(size);
  find_shared_memory();
  if (!cooperative) {
    if (have_threads(MAX_THREADS)) run_independent();
    return;
  }
  const uint64_t count = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  if (count * size > uint64_t(MAX_COOPERATIVE_THREADS)) {
    return fail("%llu blocks of %d threads: a cooperative launch has at most %d threads here",
                static_cast<unsigned long long>(count), thread_count, MAX_COOPERATIVE_THREADS);
  }
  if (count > 1 && shared_memory.start == nullptr) {
    return fail("a cooperative launch of several blocks needs Linux: shared memory was not found");
  }
  if (!have_threads(static_cast<int>(count * size))) return;
  cooperative_blocks = static_cast<Block*>(calloc(count, sizeof(Block)));
  cooperative_images = static_cast<unsigned char*>(malloc(count * shared_image_bytes + 1));
  if (cooperative_blocks == nullptr || cooperative_images == nullptr) {
    return fail("no memory for the shared memory of %d blocks", static_cast<int>(count));
  }
  run_cooperative(cooperative_blocks, static_cast<int>(count), cooperative_images);
}

// Runs the grid and clears up, whichever way it ended.
static void run_and_release(const unsigned* shape) {
  current = nullptr;
  time_limit = shape[9];
  install_handlers();
  if (sigsetjmp(way_out, 1) == 0) run_grid(shape);
  remove_handlers();
  free(cooperative_images);
  free(cooperative_blocks);
  cooperative_images = nullptr;
  cooperative_blocks = nullptr;
  release_stacks();
}

template <typename... Parameters, size_t... I>
static void call_kernel(void (*function)(Parameters...), void** values, std::index_sequence<I...>) {
  function(*static_cast<std::remove_const_t<Parameters>*>(values[I])...);
}

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
    call_kernel(call.function, call.values, std::index_sequence_for<Parameters...>{});
  };
  run_and_release(shape);
  return failed ? 1 : 0;
}

template <typename... Parameters>
static int parameter_sizes(void (*)(Parameters...), unsigned* sizes) {
  int count = 0;
  ((sizes[count++] = sizeof(Parameters)), ...);
  return count;
}

}  // namespace cuda_on_cpu
