// async_copy.h: cp.async. A copy is delivered by the wait that covers its group, and no earlier.
//
// From the moment it is asked for until then, its destination holds 0xFF (NaN, -1), because a GPU may write there at
// any time in between: so a missing wait, a wait for too few groups, and a copy into a buffer that others still read
// all show. The source is read twice, when the copy is asked for and when it is delivered, and must not have changed.

#pragma once

#include "shared_memory.h"
#include "threads.h"

namespace cuda_on_cpu {

static void copy_async(void* to, const void* from, unsigned bytes, unsigned read_bytes, const char* file, int line) {
  char* destination = static_cast<char*>(to);
  const char* source = static_cast<const char*>(from);
  if (shared_memory.start != nullptr && !is_shared(to, bytes)) {
    fail_here("asynchronous copy at %s:%d: the destination is not shared memory", file, line);
  }
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0) {
    fail_here("asynchronous copy of %u bytes at %s:%d: the destination is not aligned", bytes, file, line);
  }
  if (read_bytes > bytes) {
    fail_here("asynchronous copy of %u bytes at %s:%d: %u are to be read", bytes, file, line, read_bytes);
  }
  if (read_bytes != 0) {
    if (shared_memory.start != nullptr && is_shared(from, read_bytes)) {
      fail_here("asynchronous copy at %s:%d: the source is shared memory", file, line);
    }
    if (reinterpret_cast<uintptr_t>(from) % bytes != 0) {
      fail_here("asynchronous copy of %u bytes at %s:%d: the source is not aligned", bytes, file, line);
    }
  }
  PendingCopies& copies = current->copies;
  if (copies.count == copies.capacity) {
    copies.capacity = copies.capacity == 0 ? 16 : 2 * copies.capacity;
    copies.items = static_cast<PendingCopy*>(realloc(copies.items, copies.capacity * sizeof(PendingCopy)));
    if (copies.items == nullptr) abort();
  }
  PendingCopy& copy = copies.items[copies.count++];
  copy = {destination, source, bytes, read_bytes, copies.group, file, line, {}};
  memcpy(copy.data, source, read_bytes);
  memset(destination, FILL, bytes);
}

static void commit_copies() { ++current->copies.group; }

// Delivers the copies of all groups before this one.
static void deliver_copies(uint64_t end_group) {
  static const unsigned char unwritten[16] = {FILL, FILL, FILL, FILL, FILL, FILL, FILL, FILL,
                                              FILL, FILL, FILL, FILL, FILL, FILL, FILL, FILL};
  PendingCopies& copies = current->copies;
  int delivered = 0;
  for (; delivered < copies.count && copies.items[delivered].group < end_group; ++delivered) {
    const PendingCopy& copy = copies.items[delivered];
    if (memcmp(copy.to, unwritten, copy.bytes) != 0) {
      fail_here("the destination of the asynchronous copy at %s:%d was written to before the copy was waited for",
                copy.file, copy.line);
    }
    if (memcmp(copy.from, copy.data, copy.read_bytes) != 0) {
      fail_here("the source of the asynchronous copy at %s:%d changed before the copy was waited for", copy.file,
                copy.line);
    }
    memcpy(copy.to, copy.data, copy.bytes);
  }
  copies.count -= delivered;
  memmove(copies.items, copies.items + delivered, copies.count * sizeof(PendingCopy));
}

// All groups but the last `pending` that were committed.
static void wait_for_copies(unsigned pending) {
  const uint64_t committed = current->copies.group;
  if (committed > pending) deliver_copies(committed - pending);
}

static void wait_for_all_copies() {
  commit_copies();
  wait_for_copies(0);
}

static void require_no_copies() {
  if (current->copies.count == 0) return;
  fail_here("returned without waiting for the asynchronous copy at %s:%d", current->copies.items[0].file,
            current->copies.items[0].line);
}

}  // namespace cuda_on_cpu
