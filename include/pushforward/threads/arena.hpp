// Memory for one call, kept by the calling thread for its next: in the steady state nothing is allocated.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace pushforward {

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

  void swap(Arena& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
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

// Until the end of its scope the calling thread has other memory: calls that are made in the middle of another one
// leave the memory of that one alone.
class ArenaAside {
 public:
  ArenaAside() { Arena::of_this_thread().swap(other_); }
  ArenaAside(const ArenaAside&) = delete;
  ArenaAside& operator=(const ArenaAside&) = delete;
  ~ArenaAside() { Arena::of_this_thread().swap(other_); }

 private:
  Arena other_;
};

constexpr std::size_t aligned_size(std::size_t bytes) {
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

}  // namespace pushforward
