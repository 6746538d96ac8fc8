// Its own thread pool, shared by all callers of a process: a call never waits for a thread that the system has not
// scheduled.
//
// A call publishes its items and begins to work through them. Helpers that are awake join it, and each takes the next
// item that nobody has. The call is done when every item is, and waits only for helpers that are working on one. So a
// helper that the system keeps off the processors delays nothing. At the end of an OpenMP region every thread has to
// arrive; where processors are shared with other programs, one late thread delays the call.
//
// Helpers are numbered from 1. A call on n threads asks the first n - 1 of them; the others sleep on. Between calls
// helpers spin for a moment, then sleep.
//
// In the steady state nothing is allocated, and no lock is taken unless a helper sleeps. The threads run until the
// process ends: a shared library that has started them must stay loaded (the CMake targets link it so).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#ifndef _WIN32
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "pushforward/threads/processors.hpp"
#include "pushforward/threads/watch.hpp"
#include "pushforward/tile/subnormals.hpp"
#include "pushforward/tile/tile.hpp"

namespace pushforward {

class ThreadPool {
 public:
  static ThreadPool& of_this_process() {
    ThreadPool* pool = current_.load(std::memory_order_acquire);
    if (!pool) {
      // Never deleted: its threads run until the process ends.
      auto* mine = new ThreadPool;
      pool = current_.compare_exchange_strong(pool, mine, std::memory_order_acq_rel) ? mine : (delete mine, pool);
    }
    return *pool;
  }

  // Calls body(item, number) for each item < count. number < threads is that of the helper; the caller's is 0. If a
  // body throws, items that nobody has begun are left out, and the first exception is thrown here.
  template <class Body>
  void run(Index count, int threads, Body& body) {
    threads = std::min(threads, kMostHelpers + 1);
    Job* job = start_helpers(threads - 1) > 0 ? free_job() : nullptr;
    const SubnormalMode mode(Subnormals::kept);
    if (!job) {
      for (Index item = 0; item < count; ++item) {
        Watch::look_now();
        body(item, 0);
      }
      return;
    }
    job->body = &body;
    job->call = [](void* it, Index item, int number) { (*static_cast<Body*>(it))(item, number); };
    job->count = count;
    job->next_item.store(0, std::memory_order_relaxed);
    job->state.store(static_cast<std::uint32_t>(threads) * kThread, std::memory_order_release);
    wake(threads);
    work(*job, 0);
    job->state.fetch_and(kThread - 1, std::memory_order_relaxed);
    for (unsigned turn = 0; job->state.load(std::memory_order_acquire) != 0; ++turn) relax(turn);
    const std::exception_ptr error = std::exchange(job->error, nullptr);
    job->failed.store(false, std::memory_order_relaxed);
    job->taken.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
  }

 private:
  // A cache line pair each, so that neither neighbours nor the adjacent-line prefetcher share one.
  struct alignas(128) Job {
    std::atomic<bool> taken{false};       // by a caller
    std::atomic<std::uint32_t> state{0};  // kThread times the threads, while helpers may join, plus the helpers in it
    std::atomic<Index> next_item{0};
    Index count = 0;
    void* body = nullptr;
    void (*call)(void* body, Index item, int number) = nullptr;
    std::atomic<bool> failed{false};
    std::exception_ptr error;  // the first that a body threw
  };

  struct Helper {
    std::condition_variable called;
#ifdef __linux__
    std::thread::native_handle_type handle;
    cpu_set_t processors;  // where it may run
#endif
  };

  using Clock = std::chrono::steady_clock;

  static constexpr std::uint32_t kThread = 1u << 16;
  static constexpr int kJobs = 16;  // calls at a time that helpers may join; further ones work alone
  static constexpr int kMostHelpers = 255;
  static constexpr auto kSpin = std::chrono::microseconds(100);

  ThreadPool() = default;

  static void relax(unsigned turn) {
    // A thread that waits for a processor may need this one.
    if (turn % 64 == 63) {
      std::this_thread::yield();
      return;
    }
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    asm volatile("yield");
#endif
  }

  // Starts helpers until there are `wanted`, or as many as the system allows; returns their number.
  int start_helpers(int wanted) {
    int have = helper_count_.load(std::memory_order_acquire);
    if (have >= wanted) return have;
    const std::lock_guard<std::mutex> lock(mutex_);
    have = helper_count_.load(std::memory_order_relaxed);
    try {
      for (; have < wanted; ++have) {
        std::thread thread(&ThreadPool::help, this, have + 1);
#ifdef __linux__
        helpers_[have].handle = thread.native_handle();
        CPU_ZERO(&helpers_[have].processors);
#endif
        thread.detach();
      }
    } catch (const std::exception&) {
      // The call works with fewer.
    }
    helper_count_.store(have, std::memory_order_release);
    keep_off_this_processor(have);
    return have;
  }

  Job* free_job() {
    for (Job& job : jobs_)
      if (!job.taken.load(std::memory_order_relaxed) && !job.taken.exchange(true, std::memory_order_acquire))
        return &job;
    return nullptr;
  }

  void wake(int threads) {
    calls_.fetch_add(1);
    // Either a helper about to sleep sees the new number of calls, or this thread sees that it sleeps.
    if (sleepers_.load() == 0) return;
    const int asked = std::min(threads - 1, helper_count_.load(std::memory_order_relaxed));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      keep_off_this_processor(asked);
    }
    for (int i = 0; i < asked; ++i) helpers_[i].called.notify_one();
  }

  // Linux may wake a thread on the processor of the thread that wakes it, and leave it waiting there for tens of
  // milliseconds with another processor idle (seen on 6.18). The first `count` helpers may run where their caller's
  // helpers may, except on the caller's own processor.
  void keep_off_this_processor([[maybe_unused]] int count) {
#ifdef __linux__
    cpu_set_t elsewhere;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || !Places::of_this_process().allowed_to_helpers(elsewhere)) return;
    if (CPU_COUNT(&elsewhere) > 1) CPU_CLR(here, &elsewhere);
    for (Helper* helper = helpers_; helper != helpers_ + count; ++helper) {
      if (CPU_EQUAL(&elsewhere, &helper->processors)) continue;
      pthread_setaffinity_np(helper->handle, sizeof elsewhere, &elsewhere);
      helper->processors = elsewhere;
    }
#endif
  }

  static void work(Job& job, int number) {
    try {
      for (Index item; (item = job.next_item.fetch_add(1, std::memory_order_relaxed)) < job.count;) {
        Watch::look_now();
        job.call(job.body, item, number);
      }
    } catch (...) {
      if (!job.failed.exchange(true, std::memory_order_relaxed)) job.error = std::current_exception();
      job.next_item.store(job.count, std::memory_order_relaxed);
    }
  }

  // Works on the job if it asks for this helper and has items left.
  static bool join(Job& job, int number) {
    std::uint32_t state = job.state.load(std::memory_order_acquire);
    do {
      if (static_cast<std::uint32_t>(number) >= state / kThread) return false;
    } while (!job.state.compare_exchange_weak(state, state + 1, std::memory_order_acquire));
    // From here on the caller waits for this helper, so the job does not change.
    const bool left = job.next_item.load(std::memory_order_relaxed) < job.count;
    if (left) work(job, number);
    job.state.fetch_sub(1, std::memory_order_release);
    return left;
  }

  [[noreturn]] void help(int number) {
    const SubnormalMode mode(Subnormals::kept);  // a thread begins in the mode of the one that starts it
    auto deadline = Clock::now() + kSpin;
    for (;;) {
      const std::uint64_t seen = calls_.load();
      bool worked = false;
      for (Job& job : jobs_) worked |= join(job, number);
      if (worked || !spin(seen, number, deadline)) deadline = Clock::now() + kSpin;
    }
  }

  // Waits for a call. Returns false if none came before the deadline: then this helper slept until one asked for it.
  bool spin(std::uint64_t seen, int number, Clock::time_point deadline) {
    for (unsigned turn = 0; calls_.load(std::memory_order_acquire) == seen; ++turn) {
      relax(turn);
      if (turn % 64 == 63 && Clock::now() > deadline) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        helpers_[number - 1].called.wait(lock, [&] { return calls_.load() != seen; });
        sleepers_.fetch_sub(1);
        return false;
      }
    }
    return true;
  }

  static inline std::atomic<ThreadPool*> current_{nullptr};
#ifndef _WIN32
  // A forked process has none of its parent's threads, and starts with a new pool. This is registered when the program
  // is loaded: later, another thread could fork in the middle of it and leave the child waiting.
  static inline const int at_fork_ =
      pthread_atfork(nullptr, nullptr, [] { current_.store(nullptr, std::memory_order_relaxed); });
#endif

  Job jobs_[kJobs];
  alignas(128) std::atomic<std::uint64_t> calls_{0};
  alignas(128) std::atomic<int> sleepers_{0};
  std::atomic<int> helper_count_{0};
  std::mutex mutex_;
  Helper helpers_[kMostHelpers];  // helper number n is helpers_[n - 1]
};

}  // namespace pushforward
