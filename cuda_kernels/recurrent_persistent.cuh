// recurrent_persistent.cuh: a recurrent layer over whole sequences in one launch, the recurrent weights kept on chip.
//
// One step at a time, a GPU reads all weights from memory in each step, to multiply them by a few rows. Here a block
// loads its slice of them once, into registers (recurrent_product.cuh), and goes through all steps (Diamos et al. 2016,
// "Persistent RNNs: Stashing Recurrent Weights On-Chip").
//
// Forward. blockIdx.x says which hidden units a block has, `units` of them with all their gates: as columns of its
// product they are gate after gate. blockIdx.y says which sequences: every gridDim.y-th one, so that where sequences
// end early all blocks have less to do. In each step it
//   1. brings h_before of its sequences, all units of it, from global memory (in fact from the L2 cache) into shared
//      memory, a group of rows at a time, the next group on its way while one is multiplied;
//   2. multiplies: the sums of its columns for its sequences;
//   3. computes its cells: thread n has the cells n, n + 256, ... of its sequences times units; states stay in shared
//      memory, in float32, from the first step to the last; and writes h, rounded as products take it, into the other
//      half of `exchange`, for all blocks that have the same sequences;
//   4. waits until all blocks have done so (grid_barrier.cuh). One barrier a step: two halves of `exchange` are enough.
//
// Backward. The steps in the opposite order, and the same with other words: what a block owns are units of h_before, as
// columns of the transposed W_hh; what is exchanged are the gates' derivatives, dh_part, all blocks of it; one more
// product follows behind the last step, for the initial state. da replaces the gates in place; the weights' gradients
// are products over all steps, outside.
//
// Alone. Where one block can keep all units (gridDim.x is 1), rows are exchanged in shared memory, blocks do not wait
// for each other, and the launch is an ordinary one. Any other launch must be cooperative.
//
// Rows. Step t has the rows offsets[t] to offsets[t + 1] of y and the gates, of the sequences 0, 1, ... that take part
// in it; offsets may be null: then all sequences take part in all steps. A sequence that has not begun (where the last
// step comes first, short ones begin late) or has ended keeps its state.
//
// Reads of `exchange` are copies past L1 (async_copy.cuh) or, on sm_75, ordinary loads behind the barrier's fence. What
// the cells of the next step will read, which no other block writes, is fetched into L2 before the wait.
//
// Determinism: which thread adds what in which order follows from the sizes; no atomics but the barrier's.
#pragma once

#include "async_copy.cuh"
#include "grid_barrier.cuh"
#include "recurrent_product.cuh"

// `units` a block has, `rows` it has at most, multiplied `group` at a time, in `buffers` (1 or 2) of shared memory,
// where they lie `pitch` words apart; warps_across as WarpGrid has it. gpunet/ops/recurrent_persistent_plan.py chooses.
#define RECURRENT_SLICES                                                                                             \
  const long long *offsets /* or null */, int steps, int batch, int hidden, bool reverse, int units, int rows,       \
      int group, int buffers, int warps_across, int pitch

#define RECURRENT_GATHER_SLICES \
  RecurrentSlices { offsets, steps, batch, hidden, reverse, units, rows, group, buffers, warps_across, pitch }

struct RecurrentSlices {
  const long long* offsets;
  int steps, batch, hidden;
  bool reverse;
  int units, rows, group, buffers, warps_across, pitch;

  __device__ int first_unit() const { return blockIdx.x * units; }
  // Of the block's sequences, number i in the batch; and how many of the first `count` of the batch are the block's.
  __device__ int sequence(int i) const { return blockIdx.y + i * gridDim.y; }
  __device__ int own(int count) const {
    const int mine = blockIdx.y, all = gridDim.y;
    return count <= mine ? 0 : (count - mine - 1) / all + 1;
  }

  __device__ long long first_row(int t) const { return offsets != nullptr ? offsets[t] : (long long)t * batch; }
  __device__ int size(int t) const { return offsets != nullptr ? int(offsets[t + 1] - offsets[t]) : batch; }
  // The row of sequence b in step t, or -1 where it has none.
  __device__ long long row(int t, int b) const {
    return t >= 0 && t < steps && b < size(t) ? first_row(t) + b : -1;
  }
  // The number-th step in the layer's order, and against it.
  __device__ int step(int number) const { return reverse ? steps - 1 - number : number; }
  __device__ int step_back(int number) const { return reverse ? number : steps - 1 - number; }
  __device__ int step_before(int t) const { return reverse ? t + 1 : t - 1; }
};

__device__ __forceinline__ void prefetch_to_l2(const void* address) {
#ifndef CUDA_ON_CPU
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(address)));
#else
  (void)address;
#endif
}

__device__ inline unsigned* recurrent_shared_memory() {
  extern __shared__ __align__(16) unsigned recurrent_memory[];
  return recurrent_memory;
}

// What a block keeps. `depth` is that of the product: H forward, G H backward.
template <class Product, bool Alone>
struct RecurrentBlock {
  using Element = typename Product::Element;

  const RecurrentSlices& slices;
  const WarpGrid warps;
  const int depth, words;    // of an exchanged row, in elements and in words
  const int exchange_pitch;  // words from one exchanged row to the next, whole sixteen bytes
  const int padded;          // rows, in whole groups
  unsigned* const exchange;
  unsigned* tile;
  PartialRows partials;
  float *h, *c;  // [rows, units]: the states or their derivatives
  Product product;

  __device__ RecurrentBlock(const RecurrentSlices& slices, int depth, unsigned* exchange)
      : slices(slices),
        warps(slices.warps_across),
        depth(depth),
        words((depth + Product::elements_a_word - 1) / Product::elements_a_word),
        exchange_pitch((words + 3) / 4 * 4),
        padded((slices.rows + slices.group - 1) / slices.group * slices.group),
        exchange(exchange) {
    tile = recurrent_shared_memory();
    const int columns = slices.warps_across * Product::columns;
    partials = {reinterpret_cast<float*>(tile + tile_rows() * slices.pitch), padded, columns, warps.along};
    h = partials.at + warps.along * padded * columns;
    c = h + slices.rows * slices.units;
    // Behind the end of a row stand zeros, which meet the zeros among the weights.
    const int used = Alone ? words : exchange_pitch;
    for (int i = threadIdx.x / 32; i < tile_rows(); i += recurrent_warps) {
      for (int k = used + threadIdx.x % 32; k < slices.pitch; k += 32) tile[i * slices.pitch + k] = 0;
    }
  }

  __device__ int tile_rows() const { return Alone ? 2 * padded : slices.buffers * slices.group; }

  // Calls body(n, i, unit) for the thread's cells of the first `count` sequences: number i of the block's.
  template <class Body>
  __device__ __forceinline__ void for_cells(int count, const Body& body) const {
    for (int n = threadIdx.x; n < count * slices.units; n += recurrent_threads) {
      const int i = n / slices.units, unit = slices.first_unit() + n % slices.units;
      if (unit < slices.hidden) body(n, i, unit);
    }
  }

  // Element k of a sequence's row for the product that is number `turn` is `value`.
  __device__ __forceinline__ void hand_on(int turn, int i, int k, float value) {
    unsigned* row = Alone ? tile + (turn % 2 * padded + i) * slices.pitch
                          : exchange + ((long long)(turn % 2) * slices.batch + slices.sequence(i)) * exchange_pitch;
    reinterpret_cast<Element*>(row)[k] = Product::element(value);
  }

  // What was handed on can be read.
  __device__ __forceinline__ void wait(unsigned* counter) {
    if constexpr (Alone) {
      __syncthreads();
    } else {
      grid_barrier(counter);
    }
  }

  __device__ __forceinline__ void fetch(const unsigned* source, int first, int count, unsigned* target) {
    const int end = min(slices.group, count - first);
    for (int i = 0; i < end; ++i) {
      const unsigned* row = source + (long long)slices.sequence(first + i) * exchange_pitch;
      for (int k = threadIdx.x * 4; k < exchange_pitch; k += recurrent_threads * 4) {
        async_copy<16>(target + i * slices.pitch + k, row + k);
      }
    }
  }

  // The partial sums of the product that is number `turn`, for the block's first `count` sequences.
  __device__ __forceinline__ void multiply(int turn, int count) {
    if constexpr (Alone) {
      const unsigned* row = tile + turn % 2 * padded * slices.pitch;
#pragma unroll 1
      for (int first = 0; first < count; first += slices.group) {
        product.multiply(row + first * slices.pitch, slices.pitch, slices.group, words, warps, partials, first);
      }
    } else {
      const unsigned* source = exchange + (long long)(turn % 2) * slices.batch * exchange_pitch;
      const int buffer_words = slices.group * slices.pitch;
      int half = 0;
      fetch(source, 0, count, tile);
#pragma unroll 1
      for (int first = 0; first < count; first += slices.group) {
        const int next = first + slices.group;
        async_copy_wait_all();
        __syncthreads();
        // All warps are past the group before: its buffer is free.
        if (slices.buffers == 2) fetch(source, next, count, tile + (half ^ 1) * buffer_words);
        product.multiply(tile + half * buffer_words, slices.pitch, slices.group, words, warps, partials, first);
        if (slices.buffers == 2) {
          half ^= 1;
        } else if (next < count) {
          __syncthreads();
          fetch(source, next, count, tile);
        }
      }
    }
    __syncthreads();
  }
};

// Weights are those of the columns, one after the other, in words: W_hh forward, its transpose backward, in rows of
// whole sixteen bytes with zeros behind their ends, as the exchanged rows are. There are fewer than 2^31 of them.
//
// h_n and c_n may be h0 and c0. c0 and c_n are null where the cell has no c. Cell:
//   static constexpr int gates;
//   float forward(row, unit, hidden, part(gate) of h_before W_hh^T, h_before, c&): h; writes the arrays of the row
//   void prefetch(row, unit, hidden)
template <class Product, bool Alone, class Cell>
__device__ __forceinline__ void recurrent_forward(const Cell& cell, typename Product::Storage::Value* y,
                                                  const uint4* weights4, const float* h0, const float* c0, float* h_n,
                                                  float* c_n, uint4* exchange, unsigned* counter,
                                                  const RecurrentSlices& slices) {
  using Storage = typename Product::Storage;
  const int hidden = slices.hidden, units = slices.units, first_unit = slices.first_unit();
  RecurrentBlock<Product, Alone> block(slices, hidden, reinterpret_cast<unsigned*>(exchange));
  const unsigned* weights = reinterpret_cast<const unsigned*>(weights4);
  const int pitch = block.exchange_pitch;
  const int all = slices.own(slices.batch);
  block.for_cells(all, [&](int n, int i, int unit) {
    const long long index = (long long)slices.sequence(i) * hidden + unit;
    block.h[n] = h0[index];
    if (c0 != nullptr) block.c[n] = c0[index];
    // In both halves: a sequence may begin at any step.
    block.hand_on(0, i, unit, h0[index]);
    block.hand_on(1, i, unit, h0[index]);
  });
  block.product.load(
      [=](int column) {
        const int gate = column / units, unit = first_unit + column % units;
        const bool inside = gate < Cell::gates && unit < hidden;
        return WeightColumn{weights + (inside ? (gate * hidden + unit) * pitch : 0), inside ? pitch : 0};
      },
      block.warps);
  block.wait(counter);
#pragma unroll 1
  for (int number = 0; number < slices.steps; ++number) {
    const int t = slices.step(number), count = slices.own(slices.size(t));
    block.multiply(number, count);
    block.for_cells(count, [&](int n, int i, int unit) {
      const long long row = slices.first_row(t) + slices.sequence(i);
      float c = c0 != nullptr ? block.c[n] : 0.0f;
      const auto part = [&](int gate) { return block.partials.sum(i, gate * units + n % units); };
      const float h = cell.forward(row, unit, hidden, part, block.h[n], c);
      y[row * hidden + unit] = Storage::store(h);
      block.h[n] = h;
      if (c0 != nullptr) block.c[n] = c;
      block.hand_on(number + 1, i, unit, h);
    });
    if (number + 1 == slices.steps) break;
    const int next = slices.step(number + 1);
    block.for_cells(slices.own(slices.size(next)), [&](int n, int i, int unit) {
      // Eight neighbouring units lie in one sector of memory.
      if (n % units % 8 == 0) cell.prefetch(slices.first_row(next) + slices.sequence(i), unit, hidden);
    });
    block.wait(counter);
  }
  block.for_cells(all, [&](int n, int i, int unit) {
    const long long index = (long long)slices.sequence(i) * hidden + unit;
    h_n[index] = block.h[n];
    if (c_n != nullptr) c_n[index] = block.c[n];
  });
}

// One cell of a step, going back.
struct RecurrentPlace {
  long long row, row_before;  // row_before is -1 where the step before is the initial state
  long long initial;          // the element of h0 and c0
  int unit, hidden;
};

// dh and dc hold the derivatives of the last states and are replaced by those of the initial ones; dc may be null.
// Cell:
//   static constexpr int gates;
//   void backward(place, dh&, dc&, hand_on(gate, element of dh_part)): dh becomes what reaches h_before past W_hh
//   void prefetch(place)
template <class Product, bool Alone, class Cell>
__device__ __forceinline__ void recurrent_backward(const Cell& cell, const typename Product::Storage::Value* grad_y,
                                                   const uint4* weights4, float* dh, float* dc, uint4* exchange,
                                                   unsigned* counter, const RecurrentSlices& slices) {
  using Storage = typename Product::Storage;
  const int hidden = slices.hidden, units = slices.units, first_unit = slices.first_unit();
  const int depth = Cell::gates * hidden;
  RecurrentBlock<Product, Alone> block(slices, depth, reinterpret_cast<unsigned*>(exchange));
  const unsigned* weights = reinterpret_cast<const unsigned*>(weights4);
  const int pitch = block.exchange_pitch;
  const int all = slices.own(slices.batch);
  block.for_cells(all, [&](int n, int i, int unit) {
    const long long index = (long long)slices.sequence(i) * hidden + unit;
    block.h[n] = dh[index];
    if (dc != nullptr) block.c[n] = dc[index];
  });
  block.product.load(
      [=](int column) {
        const int unit = first_unit + column;
        const bool inside = column < units && unit < hidden;
        return WeightColumn{weights + (inside ? unit * pitch : 0), inside ? pitch : 0};
      },
      block.warps);
  const auto place_of = [&](int t, int i, int unit) {
    const int b = slices.sequence(i);
    return RecurrentPlace{slices.first_row(t) + b, slices.row(slices.step_before(t), b), (long long)b * hidden + unit,
                          unit, hidden};
  };
  int came = 0;  // sequences that took part in the step behind, whose derivatives have been handed on
#pragma unroll 1
  for (int number = 0; number <= slices.steps; ++number) {
    if (number > 0) block.multiply(number, came);
    const bool is_step = number < slices.steps;
    const int t = slices.step_back(number), count = is_step ? slices.own(slices.size(t)) : 0;
    block.for_cells(max(count, came), [&](int n, int i, int unit) {
      float dh_total = block.h[n];
      if (i < came) dh_total += block.partials.sum(i, n % units);
      if (i < count) {
        const RecurrentPlace place = place_of(t, i, unit);
        float dc_total = dc != nullptr ? block.c[n] : 0.0f;
        dh_total += Storage::load(grad_y[place.row * hidden + unit]);
        cell.backward(place, dh_total, dc_total, [&](int gate, float value) {
          block.hand_on(number + 1, i, gate * hidden + unit, value);
        });
        if (dc != nullptr) block.c[n] = dc_total;
      }
      block.h[n] = dh_total;
    });
    if (!is_step) break;
    came = count;
    if (number + 1 < slices.steps) {
      const int next = slices.step_back(number + 1);
      block.for_cells(slices.own(slices.size(next)), [&](int n, int i, int unit) {
        if (n % units % 8 != 0) return;
        const RecurrentPlace place = place_of(next, i, unit);
        prefetch_to_l2(grad_y + place.row * hidden + unit);
        cell.prefetch(place);
      });
    }
    block.wait(counter);
  }
  block.for_cells(all, [&](int n, int i, int unit) {
    const long long index = (long long)slices.sequence(i) * hidden + unit;
    dh[index] = block.h[n];
    if (dc != nullptr) dc[index] = block.c[n];
  });
}
