// assert.h: a kernel's assert() ends the thread with a fault. It stands in for the C++ compiler's header, and like it may
// be included again, after NDEBUG has been defined or not.

#include "threads.h"

#undef assert
#ifdef NDEBUG
#define assert(...) static_cast<void>(0)
#else
#define assert(...) \
  (static_cast<bool>(__VA_ARGS__) ? static_cast<void>(0) : cuda_on_cpu::fail_assertion(#__VA_ARGS__, __FILE__, __LINE__))
#endif
