// The threads that help with a call's items: one team for a process, shared by all its callers.
//
// A call publishes its items and starts to work through them itself. Helpers that are awake join it, each taking the
// next item that nobody has; the call is done when every item is, and waits only for helpers that have one in hand. So
// a helper that the system keeps off the cores delays nothing, which the teams of OpenMP, where all threads of a region
// have to arrive, cannot do: on cores shared with other work a step of 0.2 ms became 30 there. Several callers share
// the helpers there are. Between calls these spin for a moment, and then sleep.
//
// In the steady state nothing is allocated and no lock is taken, except where somebody sleeps.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#ifdef __unix__
#include <pthread.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "pushforward/tile.hpp"

namespace pushforward {

class Team {
 public:
  // The process's own. A process forked from one that had threads has none of them, and starts with a new team.
  static Team& of_this_process() {
#ifdef __unix__
    [[maybe_unused]] static const int registered =
        pthread_atfork(nullptr, nullptr, [] { current().store(nullptr, std::memory_order_relaxed); });
#endif
    Team* team = current().load(std::memory_order_acquire);
    if (!team) {
      // Never deleted: its threads run until the process ends.
      auto* mine = new Team;
      team = current().compare_exchange_strong(team, mine, std::memory_order_acq_rel) ? mine : (delete mine, team);
    }
    return *team;
  }

  // Calls body(item, seat) for each item < count; seat < threads is another for each thread that takes part, the
  // caller's is 0. The body must not throw.
  template <class Body>
  void run(Index count, int threads, Body& body) {
    Job* job = start_helpers(threads - 1) > 0 ? free_job() : nullptr;
    if (!job) {
      for (Index item = 0; item < count; ++item) body(item, 0);
      return;
    }
    job->body = &body;
    job->call = [](void* it, Index item, int seat) { (*static_cast<Body*>(it))(item, seat); };
    job->count = count;
    job->seats = threads;
    job->next_item.store(0, std::memory_order_relaxed);
    job->next_seat.store(1, std::memory_order_relaxed);
    job->state.store(kOpen, std::memory_order_release);
    wake();
    work(*job, 0);
    job->state.fetch_and(~kOpen, std::memory_order_relaxed);
    for (int turn = 0; job->state.load(std::memory_order_acquire) != 0; ++turn) relax(turn);
    job->taken.store(false, std::memory_order_release);
  }

 private:
  // A cache line pair each, so that neither neighbours nor the adjacent-line prefetcher share one.
  struct alignas(128) Job {
    std::atomic<bool> taken{false};       // by a caller
    std::atomic<std::uint32_t> state{0};  // kOpen while helpers may join, and how many have
    std::atomic<int> next_seat{0};
    std::atomic<Index> next_item{0};
    Index count = 0;
    int seats = 0;
    void* body = nullptr;
    void (*call)(void* body, Index item, int seat) = nullptr;
  };

  static constexpr std::uint32_t kOpen = 1u << 31;
  static constexpr int kJobs = 16;  // calls at a time that helpers may join; another one works alone
  static constexpr int kMostHelpers = 255;
  static constexpr auto kAwake = std::chrono::microseconds(100);

  Team() = default;

  static std::atomic<Team*>& current() {
    static std::atomic<Team*> team{nullptr};
    return team;
  }

  static void relax(int turn) {
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
    int have = helpers_.load(std::memory_order_acquire);
    if (have >= wanted || have == kMostHelpers) return have;
    const std::lock_guard<std::mutex> lock(mutex_);
    have = helpers_.load(std::memory_order_relaxed);
    try {
      for (; have < std::min(wanted, kMostHelpers); ++have) {
        std::thread helper(&Team::help, this);
        handles_[have] = helper.native_handle();
        helper.detach();
      }
    } catch (const std::system_error&) {
      // Fewer will do.
    }
    helpers_.store(have, std::memory_order_release);
    keep_off_this_processor();
    return have;
  }

  Job* free_job() {
    for (Job& job : jobs_)
      if (!job.taken.load(std::memory_order_relaxed) && !job.taken.exchange(true, std::memory_order_acquire))
        return &job;
    return nullptr;
  }

  void wake() {
    calls_.fetch_add(1);
    // Either a helper on its way to sleep sees the new number, or we see it asleep.
    if (sleepers_.load() == 0) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      keep_off_this_processor();
    }
    alarm_.notify_all();
  }

  // Linux likes to wake a thread on the processor of the one that wakes it, and can leave it there, waiting for the
  // caller to end, for tens of milliseconds (seen on 6.18, an idle processor beside it). Helpers may run where their
  // caller may, except where it does.
  void keep_off_this_processor() {
#ifdef __linux__
    cpu_set_t elsewhere;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof elsewhere, &elsewhere) != 0) return;
    if (CPU_COUNT(&elsewhere) > 1) CPU_CLR(here, &elsewhere);
    const int helpers = helpers_.load(std::memory_order_relaxed);
    if (helpers == placed_ && CPU_EQUAL(&elsewhere, &place_)) return;
    for (int i = 0; i < helpers; ++i) pthread_setaffinity_np(handles_[i], sizeof elsewhere, &elsewhere);
    place_ = elsewhere;
    placed_ = helpers;
#endif
  }

  static void work(Job& job, int seat) {
    for (Index item; (item = job.next_item.fetch_add(1, std::memory_order_relaxed)) < job.count;)
      job.call(job.body, item, seat);
  }

  // Works on the job if it is open and has something left.
  static bool join(Job& job) {
    std::uint32_t state = job.state.load(std::memory_order_acquire);
    do {
      if (!(state & kOpen)) return false;
    } while (!job.state.compare_exchange_weak(state, state + 1, std::memory_order_acquire));
    // From here on the caller waits for us, and the job is what it was.
    const bool left = job.next_item.load(std::memory_order_relaxed) < job.count;
    const int seat = left ? job.next_seat.fetch_add(1, std::memory_order_relaxed) : job.seats;
    const bool seated = seat < job.seats;
    if (seated) work(job, seat);
    job.state.fetch_sub(1, std::memory_order_release);
    return seated;
  }

  [[noreturn]] void help() {
    for (;;) {
      const std::uint64_t seen = calls_.load();
      bool worked = false;
      for (Job& job : jobs_) worked |= join(job);
      if (!worked) wait_for_call_after(seen);
    }
  }

  void wait_for_call_after(std::uint64_t seen) {
    const auto bed_time = std::chrono::steady_clock::now() + kAwake;
    for (int turn = 0; calls_.load(std::memory_order_acquire) == seen; ++turn) {
      relax(turn);
      if (turn % 64 == 63 && std::chrono::steady_clock::now() > bed_time) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        alarm_.wait(lock, [&] { return calls_.load() != seen; });
        sleepers_.fetch_sub(1);
        return;
      }
    }
  }

  Job jobs_[kJobs];
  alignas(128) std::atomic<std::uint64_t> calls_{0};
  alignas(128) std::atomic<int> sleepers_{0};
  std::atomic<int> helpers_{0};
  std::mutex mutex_;
  std::condition_variable alarm_;
  // Under the mutex.
  std::thread::native_handle_type handles_[kMostHelpers] = {};
#ifdef __linux__
  cpu_set_t place_ = {};  // where the first `placed_` helpers may run
  int placed_ = 0;
#endif
};

}  // namespace pushforward
