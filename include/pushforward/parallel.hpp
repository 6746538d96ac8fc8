// Threads over independent items, and the memory they work in.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(_OPENMP) && defined(__unix__)
#include <pthread.h>
#endif

#include "pushforward/tile.hpp"

namespace pushforward {

inline int default_threads() {
#ifdef _OPENMP
  return std::max(1, omp_get_max_threads());
#else
  return 1;
#endif
}

namespace detail {

// A process forked after OpenMP started its threads has none of them, and libgomp would wait for them for ever. Such a
// child computes on the thread it has.
class ForkGuard {
 public:
  static bool may_start_threads() {
#if defined(_OPENMP) && defined(__unix__)
    static const bool registered = [] { return pthread_atfork(nullptr, nullptr, in_child) == 0; }();
    if (lost_threads().load(std::memory_order_relaxed)) return false;
    started().store(true, std::memory_order_relaxed);
    return registered;
#else
    return true;
#endif
  }

 private:
  static std::atomic<bool>& started() {
    static std::atomic<bool> flag{false};
    return flag;
  }
  static std::atomic<bool>& lost_threads() {
    static std::atomic<bool> flag{false};
    return flag;
  }
  static void in_child() {
    if (started().load()) lost_threads().store(true);
  }
};

}  // namespace detail

// Calls body(item, thread) for each item < count, thread < threads. The body must not throw.
template <class Body>
void parallel_for(Index count, [[maybe_unused]] int threads, Body&& body) {
#ifdef _OPENMP
  const int team = static_cast<int>(std::min<Index>(threads, count));
  if (team > 1 && detail::ForkGuard::may_start_threads()) {
#pragma omp parallel for num_threads(team) schedule(dynamic, 1)
    for (Index item = 0; item < count; ++item) body(item, omp_get_thread_num());
    return;
  }
#endif
  for (Index item = 0; item < count; ++item) body(item, 0);
}

// Calls body(piece, first, size) for each piece of `count` entries.
template <class Body>
void parallel_pieces(Index count, Index piece_size, int threads, Body&& body) {
  const Index pieces = (count + piece_size - 1) / piece_size;
  // Fewer pieces than threads would make a smaller team, for which libgomp ends threads, to start them again for the
  // next call's.
  parallel_for(pieces, pieces < threads ? 1 : threads, [&](Index piece, int) {
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
