// The threads that help with a call's items: one team for a process, shared by all its callers.
//
// A call publishes its items and starts to work through them itself. Helpers that are awake join it, each taking the
// next item that nobody has; the call is done when every item is, and waits only for helpers that have one in hand. So
// a helper that the system keeps off the cores delays nothing, which the teams of OpenMP, where all threads of a region
// have to arrive, cannot do: on cores shared with other work a step of 0.2 ms became 30 there. Several callers share
// the helpers there are. Between calls these spin for a moment, and then sleep.
//
// Helpers are numbered, and a call on n threads asks the first n - 1 of them. The others, which an earlier call wanted,
// sleep on.
//
// In the steady state nothing is allocated and no lock is taken, except where somebody sleeps. The threads end with the
// process: a shared library that has started them must stay loaded (our CMake targets link it so).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "pushforward/tile/tile.hpp"

namespace pushforward {

class Team {
 public:
  static Team& of_this_process() {
    Team* team = current_.load(std::memory_order_acquire);
    if (!team) {
      // Never deleted: its threads run until the process ends.
      auto* mine = new Team;
      team = current_.compare_exchange_strong(team, mine, std::memory_order_acq_rel) ? mine : (delete mine, team);
    }
    return *team;
  }

  // Calls body(item, seat) for each item < count; seat < threads is another for each thread that takes part, the
  // caller's is 0. The body must not throw.
  template <class Body>
  void run(Index count, int threads, Body& body) {
    threads = std::min(threads, kMostHelpers + 1);
    Job* job = start_helpers(threads - 1) > 0 ? free_job() : nullptr;
    if (!job) {
      for (Index item = 0; item < count; ++item) body(item, 0);
      return;
    }
    job->body = &body;
    job->call = [](void* it, Index item, int seat) { (*static_cast<Body*>(it))(item, seat); };
    job->count = count;
    job->next_item.store(0, std::memory_order_relaxed);
    job->state.store(static_cast<std::uint32_t>(threads) * kSeat, std::memory_order_release);
    wake(threads);
    work(*job, 0);
    job->state.fetch_and(kSeat - 1, std::memory_order_relaxed);
    for (unsigned turn = 0; job->state.load(std::memory_order_acquire) != 0; ++turn) relax(turn);
    job->taken.store(false, std::memory_order_release);
  }

 private:
  // A cache line pair each, so that neither neighbours nor the adjacent-line prefetcher share one.
  struct alignas(128) Job {
    std::atomic<bool> taken{false};       // by a caller
    std::atomic<std::uint32_t> state{0};  // kSeat times the threads asked for, while helpers may join, plus those in it
    std::atomic<Index> next_item{0};
    Index count = 0;
    void* body = nullptr;
    void (*call)(void* body, Index item, int seat) = nullptr;
  };

  struct Helper {
    std::condition_variable alarm;
#ifdef __linux__
    std::thread::native_handle_type handle;
    cpu_set_t place;  // where it may run
#endif
  };

  using Clock = std::chrono::steady_clock;

  static constexpr std::uint32_t kSeat = 1u << 16;
  static constexpr int kJobs = 16;  // calls at a time that helpers may join; another one works alone
  static constexpr int kMostHelpers = 255;
  static constexpr auto kAwake = std::chrono::microseconds(100);

  Team() = default;

  static void relax(unsigned turn) {
    // A helper whose core is given to somebody else needs ours to come to an end.
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

  // Sees to it that there are that many helpers, if the system lets us; returns how many there are.
  int start_helpers(int wanted) {
    int have = helper_count_.load(std::memory_order_acquire);
    if (have >= wanted) return have;
    const std::lock_guard<std::mutex> lock(mutex_);
    have = helper_count_.load(std::memory_order_relaxed);
    try {
      for (; have < wanted; ++have) {
        std::thread thread(&Team::help, this, have + 1);
#ifdef __linux__
        helpers_[have].handle = thread.native_handle();
        CPU_ZERO(&helpers_[have].place);
#endif
        thread.detach();
      }
    } catch (const std::exception&) {
      // Fewer will do.
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
    // Either a helper on its way to sleep sees the new number, or we see it asleep.
    if (sleepers_.load() == 0) return;
    const int asked = std::min(threads - 1, helper_count_.load(std::memory_order_relaxed));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      keep_off_this_processor(asked);
    }
    for (int i = 0; i < asked; ++i) helpers_[i].alarm.notify_one();
  }

  // Linux likes to wake a thread on the processor of the one that wakes it, and can leave it there, waiting for the
  // caller to end, for tens of milliseconds (seen on 6.18, an idle processor beside it). The first `count` helpers may
  // run where their caller may, except where it does.
  void keep_off_this_processor([[maybe_unused]] int count) {
#ifdef __linux__
    cpu_set_t elsewhere;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof elsewhere, &elsewhere) != 0) return;
    if (CPU_COUNT(&elsewhere) > 1) CPU_CLR(here, &elsewhere);
    for (Helper* helper = helpers_; helper != helpers_ + count; ++helper) {
      if (CPU_EQUAL(&elsewhere, &helper->place)) continue;
      pthread_setaffinity_np(helper->handle, sizeof elsewhere, &elsewhere);
      helper->place = elsewhere;
    }
#endif
  }

  static void work(Job& job, int seat) {
    for (Index item; (item = job.next_item.fetch_add(1, std::memory_order_relaxed)) < job.count;)
      job.call(job.body, item, seat);
  }

  // Works on the job if it asks for this helper and has something left.
  static bool join(Job& job, int seat) {
    std::uint32_t state = job.state.load(std::memory_order_acquire);
    do {
      if (static_cast<std::uint32_t>(seat) >= state / kSeat) return false;
    } while (!job.state.compare_exchange_weak(state, state + 1, std::memory_order_acquire));
    // From here on the caller waits for us, and the job is what it was.
    const bool left = job.next_item.load(std::memory_order_relaxed) < job.count;
    if (left) work(job, seat);
    job.state.fetch_sub(1, std::memory_order_release);
    return left;
  }

  [[noreturn]] void help(int seat) {
    auto bed_time = Clock::now() + kAwake;
    for (;;) {
      const std::uint64_t seen = calls_.load();
      bool worked = false;
      for (Job& job : jobs_) worked |= join(job, seat);
      if (worked || !call_after(seen, seat, bed_time)) bed_time = Clock::now() + kAwake;
    }
  }

  // Waits for a call. Returns false if that took until the bed time: then we slept until one asked for us.
  bool call_after(std::uint64_t seen, int seat, Clock::time_point bed_time) {
    for (unsigned turn = 0; calls_.load(std::memory_order_acquire) == seen; ++turn) {
      relax(turn);
      if (turn % 64 == 63 && Clock::now() > bed_time) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        helpers_[seat - 1].alarm.wait(lock, [&] { return calls_.load() != seen; });
        sleepers_.fetch_sub(1);
        return false;
      }
    }
    return true;
  }

  static inline std::atomic<Team*> current_{nullptr};
#ifndef _WIN32
  // A process forked from one that had threads has none of them, and starts with a new team. Registered when the
  // program is loaded: another thread could fork in the midst of a later moment, and leave the child waiting for it.
  static inline const int at_fork_ =
      pthread_atfork(nullptr, nullptr, [] { current_.store(nullptr, std::memory_order_relaxed); });
#endif

  Job jobs_[kJobs];
  alignas(128) std::atomic<std::uint64_t> calls_{0};
  alignas(128) std::atomic<int> sleepers_{0};
  std::atomic<int> helper_count_{0};
  std::mutex mutex_;
  Helper helpers_[kMostHelpers];  // by their seats, from 1 on
};

}  // namespace pushforward
