// Threads over independent items, and the memory they work in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "pushforward/threads/team.hpp"

namespace pushforward {

// What OpenMP's settings say (OMP_NUM_THREADS, omp_set_num_threads, the processors that this process may run on): the
// threads themselves are our own. Without OpenMP, OMP_NUM_THREADS as it was at the first call, or all processors.
inline int default_threads() {
#ifdef _OPENMP
  return std::max(1, omp_get_max_threads());
#else
  static const int threads = [] {
    const char* wanted = std::getenv("OMP_NUM_THREADS");
    const int number = wanted ? std::atoi(wanted) : 0;
    return std::max(1, number > 0 ? number : static_cast<int>(std::thread::hardware_concurrency()));
  }();
  return threads;
#endif
}

// Calls body(item, thread) for each item < count, thread < threads. The body must not throw.
template <class Body>
void parallel_for(Index count, int threads, Body&& body) {
  if (const int team = static_cast<int>(std::min<Index>(threads, count)); team > 1) {
    Team::of_this_process().run(count, team, body);
    return;
  }
  for (Index item = 0; item < count; ++item) body(item, 0);
}

// Calls body(piece, first, size) for each piece of `count` entries.
template <class Body>
void parallel_pieces(Index count, Index piece_size, int threads, Body&& body) {
  parallel_for((count + piece_size - 1) / piece_size, threads, [&](Index piece, int) {
    const Index first = piece * piece_size;
    body(piece, first, std::min(piece_size, count - first));
  });
}

// Memory for one call, kept by the calling thread for its next: in the steady state nothing is allocated.
class Arena {
 public:
  // Start addresses are multiples of this: two cache lines, so that neighbours do not share a prefetched pair.
  static constexpr std::size_t kAlignment = 128;

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { release(); }

  static Arena& of_this_thread() {
    thread_local Arena arena;
    return arena;
  }

  // Memory of that many bytes, not initialised, valid until the next call.
  std::byte* reserve(std::size_t bytes) {
    if (bytes > size_) {
      release();
      data_ = static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kAlignment)));
      size_ = bytes;
    }
    return data_;
  }

 private:
  void release() {
    ::operator delete(data_, std::align_val_t(kAlignment));
    data_ = nullptr;
    size_ = 0;
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

constexpr std::size_t aligned_size(std::size_t bytes) {
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

}  // namespace pushforward
