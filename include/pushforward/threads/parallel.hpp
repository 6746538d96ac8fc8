// Loops over independent items, shared out among threads. This is the only way to threads in the core, and the threads
// behind it are chosen when it is compiled: its own pool (pool.hpp), or, with PUSHFORWARD_THREADS_OPENMP, OpenMP's
// `parallel for`. The results of every loop are the same to the last bit.
#pragma once

#include <algorithm>

#include "pushforward/threads/processors.hpp"
#include "pushforward/threads/watch.hpp"
#include "pushforward/tile/subnormals.hpp"
#include "pushforward/tile/tile.hpp"

#ifdef PUSHFORWARD_THREADS_OPENMP
#ifndef _OPENMP
#error "PUSHFORWARD_THREADS_OPENMP needs a compiler with OpenMP, and its flag (-fopenmp)"
#endif
#include <exception>
#else
#include "pushforward/threads/pool.hpp"
#endif

namespace pushforward {

#ifdef PUSHFORWARD_THREADS_OPENMP
inline constexpr const char* kThreads = "openmp";
#else
inline constexpr const char* kThreads = "pool";
#endif

// Calls body(item, thread) for each item < count; thread < threads differs between threads that work at the same time.
// If a body throws, items that nobody has begun are left out, and the first exception is thrown here once the others
// are done. Each thread works with subnormal numbers kept, whatever the mode of the caller, so that results do not
// depend on who does an item.
template <class Body>
void parallel_for(Index count, int threads, Body&& body) {
  const int team = static_cast<int>(std::min<Index>(threads, count));
  if (team <= 1) {
    const SubnormalMode mode(Subnormals::kept);
    for (Index item = 0; item < count; ++item) {
      Watch::look_now();
      body(item, 0);
    }
    return;
  }
#ifdef PUSHFORWARD_THREADS_OPENMP
  std::exception_ptr error;
  bool failed = false;
#pragma omp parallel num_threads(team) shared(error, failed)
  {
    const SubnormalMode mode(Subnormals::kept);
#pragma omp for schedule(dynamic, 1)
    for (Index item = 0; item < count; ++item) {
      bool leave;
#pragma omp atomic read
      leave = failed;
      if (leave) continue;
      try {
        Watch::look_now();
        body(item, omp_get_thread_num());
      } catch (...) {
#pragma omp critical(pushforward_error)
        if (!error) error = std::current_exception();
#pragma omp atomic write
        failed = true;
      }
    }
  }
  if (error) std::rethrow_exception(error);
#else
  ThreadPool::of_this_process().run(count, team, body);
#endif
}

// Calls body(piece, first, size) for each piece of `count` entries.
template <class Body>
void parallel_pieces(Index count, Index piece_size, int threads, Body&& body) {
  parallel_for((count + piece_size - 1) / piece_size, threads, [&](Index piece, int) {
    const Index first = piece * piece_size;
    body(piece, first, std::min(piece_size, count - first));
  });
}

}  // namespace pushforward
