// error_word.cuh: how a kernel reports a value that it cannot use, such as a label that is no class.
//
// A kernel cannot raise an error. It leaves the bad element out (does not read or write where it would lead) and sets
// the bit of the broken rule in a word in device memory, which the host reads at the next point where it waits anyway;
// there the error is raised. Each rule has one bit; their texts are in gpunet/backend/error_word.py, in this order.
//
// On the host: launch(kernel, grid, block, (..., error_word(array))), for a parameter `int* error_word`.
#pragma once

constexpr int ERROR_TARGET = 1 << 0;
constexpr int ERROR_INDEX = 1 << 1;
constexpr int ERROR_EMBEDDING = 1 << 2;
constexpr int ERROR_DIVISOR = 1 << 3;
constexpr int ERROR_PROBABILITY = 1 << 4;
constexpr int ERROR_TARGET_PROBABILITY = 1 << 5;
constexpr int ERROR_VARIANCE = 1 << 6;
constexpr int ERROR_POSITION = 1 << 7;
constexpr int ERROR_DEVIATION = 1 << 8;
constexpr int ERROR_LOG_PROBABILITY = 1 << 9;

// An integer or: the word does not depend on the order of the threads.
__device__ inline void report_error(int* error_word, int bit) { atomicOr(error_word, bit); }
