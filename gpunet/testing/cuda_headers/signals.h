// signals.h: a kernel that crashes, never ends or is interrupted ends its launch and not the process.
//
// The handlers are there while a launch runs, on a stack of their own, and what was there before comes back after it. A
// crash leaves the launch at once. A launch that has had its time, or that Ctrl-C stops, is marked as failed, which the
// scheduler sees when the running thread waits for something; a thread that never does is left behind at the next tick.
// Under AddressSanitizer, which reports crashes itself with more to say, nothing is left behind.

#pragma once

#include "threads.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

namespace cuda_on_cpu {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool SANITIZING = true;
#else
constexpr bool SANITIZING = false;
#endif
constexpr int TICK = 100000;  // microseconds of processor time
constexpr int CRASHES[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr int CRASH_KINDS = sizeof(CRASHES) / sizeof(int);

static volatile bool launching;
static pthread_t launching_thread;  // of the operating system
static sigjmp_buf way_out;
static volatile bool in_kernel;  // rather than in the scheduler, which always comes to an end
static unsigned time_limit;      // seconds; 0 is none
static double start_time;
static char handler_stack[64 * 1024];
static stack_t previous_stack;
static struct sigaction previous_crash[CRASH_KINDS], previous_tick, previous_interrupt;
static struct itimerval previous_timer;
static bool stops_at_interrupt;

static double processor_time() {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The thread whose stack was too small: the running one, or else one that has spoiled the running one's.
static const Thread* thread_without_stack(const void* address) {
  if (is_in_stacks(address) || stack_was_overrun(current->stack)) return current;
  for (int i = thread_count - 1; i >= 0; --i) {
    if (stack_was_overrun(block->threads[i].stack)) return &block->threads[i];
  }
  return nullptr;
}

static const char* crash_reason(int number, const siginfo_t* info, char* text, size_t capacity) {
  switch (number) {
    case SIGFPE:
      return "divided an integer by zero, or by -1 with a quotient that is too large";
    case SIGILL:
    case SIGTRAP:
      return "came to an instruction that stands where the compiler saw undefined behaviour";
    default:
      snprintf(text, capacity, "used an address where there is no memory (0x%llx)",
               static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(info->si_addr)));
      return text;
  }
}

static void on_crash(int number, siginfo_t* info, void*) {
  if (!pthread_equal(pthread_self(), launching_thread) || current == nullptr) {
    // Not a kernel's. The instruction runs again and meets the handler that was there before.
    for (int i = 0; i < CRASH_KINDS; ++i) {
      if (CRASHES[i] == number) sigaction(number, &previous_crash[i], nullptr);
    }
    return;
  }
  if (const Thread* thread = thread_without_stack(info->si_addr)) {
    fail_stack(*thread);
  } else {
    char text[128];
    fail("block (%u, %u, %u), thread (%u, %u, %u) %s", block->index.x, block->index.y, block->index.z,
         current->index.x, current->index.y, current->index.z, crash_reason(number, info, text, sizeof(text)));
  }
  siglongjmp(way_out, 1);
}

static void fail_for_time() {
  char place[256] = "";
  if (current->operation != nullptr) {
    snprintf(place, sizeof(place), ", the last time it waited at %s:%d in %s", current->file, current->line,
             current->operation);
  }
  fail("block (%u, %u, %u), thread (%u, %u, %u) still ran after %u seconds%s; a thread that waits for another must do "
       "so at a barrier or with __nanosleep. GPUNET_CUDA_ON_CPU_SECONDS sets the limit", block->index.x, block->index.y,
       block->index.z, current->index.x, current->index.y, current->index.z, time_limit, place);
}

static void on_tick(int number, siginfo_t*, void*) {
  if (!launching) return;
  if (!pthread_equal(pthread_self(), launching_thread)) {
    pthread_kill(launching_thread, number);
  } else if (failed) {
    if (in_kernel && !SANITIZING) siglongjmp(way_out, 1);
  } else if (time_limit != 0 && current != nullptr && processor_time() - start_time > time_limit) {
    fail_for_time();
  }
}

static void on_interrupt(int number, siginfo_t* info, void* context) {
  // Python's handler only notes the signal; the exception is raised when the launch has come back.
  if (previous_interrupt.sa_flags & SA_SIGINFO) previous_interrupt.sa_sigaction(number, info, context);
  else previous_interrupt.sa_handler(number);
  if (pthread_equal(pthread_self(), launching_thread)) fail("interrupted");
}

static void install(int number, void (*handler)(int, siginfo_t*, void*), struct sigaction* previous) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, previous);
}

static void install_handlers() {
  launching_thread = pthread_self();
  launching = true;
  in_kernel = false;
  start_time = processor_time();
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof(handler_stack);
  sigaltstack(&stack, &previous_stack);
  for (int i = 0; i < CRASH_KINDS && !SANITIZING; ++i) install(CRASHES[i], on_crash, &previous_crash[i]);
  sigaction(SIGINT, nullptr, &previous_interrupt);
  stops_at_interrupt = (previous_interrupt.sa_flags & SA_SIGINFO) != 0 ||
                       (previous_interrupt.sa_handler != SIG_DFL && previous_interrupt.sa_handler != SIG_IGN);
  if (stops_at_interrupt) install(SIGINT, on_interrupt, nullptr);
  install(SIGVTALRM, on_tick, &previous_tick);
  const struct itimerval timer = {{0, TICK}, {0, TICK}};
  setitimer(ITIMER_VIRTUAL, &timer, &previous_timer);
}

static void remove_handlers() {
  launching = false;
  setitimer(ITIMER_VIRTUAL, &previous_timer, nullptr);
  // A last tick may still be under way to another thread: where nothing else did, on_tick goes on waiting for it, which
  // then does nothing. Without it the tick would end the process.
  if ((previous_tick.sa_flags & SA_SIGINFO) != 0 || previous_tick.sa_handler != SIG_DFL) {
    sigaction(SIGVTALRM, &previous_tick, nullptr);
  }
  if (stops_at_interrupt) sigaction(SIGINT, &previous_interrupt, nullptr);
  for (int i = 0; i < CRASH_KINDS && !SANITIZING; ++i) sigaction(CRASHES[i], &previous_crash[i], nullptr);
  previous_stack.ss_flags &= SS_DISABLE;
  sigaltstack(&previous_stack, nullptr);
}

}  // namespace cuda_on_cpu
