// What a saved flow costs once it is warm, counted rather than timed: its allocations, its locks, and, under
// callgrind, its instructions. test_steady_state.py runs it.
//
//   steady_state compiler                     the compiler's family and major version
//   steady_state allocations FILE...          prints what is allocated in the steady state and returns 1
//   steady_state first-allocations FILE...    the same of the first calls, with memory and helpers enough
//   steady_state calls FILE ROWS NAME...      makes the calls, each warm and between two calls of `mark`
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "pushforward/pushforward.hpp"

// Of the whole process. The GNU C library calls the definitions of the program, and keeps its own under other names.
static std::atomic<long> allocations{0};
static std::atomic<long> locks{0};

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  ++allocations;
  return __libc_realloc(old, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** result, std::size_t alignment, std::size_t size) {
  *result = memalign(alignment, size);
  return *result ? 0 : ENOMEM;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto lock = reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  ++locks;
  return lock(mutex);
}
}

namespace {

using namespace pushforward;

// A flow with all the memory that a caller brings to its calls, for up to `most` rows drawn from it.
class Caller {
 public:
  Caller(const char* path, Index most)
      : flow_(Flow<float>::load(path)),
        condition_(size(most * flow_.context()), 0.5f),
        x_(size(most * flow_.dim())),
        moved_(x_),
        values_(size(most)),
        gradient_(size(flow_.parameter_count())),
        mean_(gradient_),
        square_(gradient_) {
    flow_.sample({1}, most, x_.data(), nullptr, conditions(), 1);
  }

  void log_prob(Index rows, int threads) { flow_.log_prob(x_.data(), rows, values_.data(), conditions(), threads); }
  void inverse(Index rows, int threads) {
    flow_.inverse(x_.data(), rows, moved_.data(), values_.data(), conditions(), threads);
  }
  void forward(Index rows, int threads) {
    flow_.forward(x_.data(), rows, moved_.data(), values_.data(), conditions(), threads);
  }
  void sample(Index rows, int threads) {
    flow_.sample({2}, rows, moved_.data(), values_.data(), conditions(), threads);
  }
  void loss_and_grad(Index rows, int threads) {
    flow_.loss_and_grad(x_.data(), rows, gradient_.data(), conditions(), threads);
    norm(flow_.parameter_count(), gradient_.data(), threads);
  }
  // A minibatch of a fit: loss, gradient and its norm, and Adam.
  void step(Index rows, int threads) {
    const Table table{x_.data(), false, rows, flow_.dim(), flow_.dim(), 1, nullptr};
    const Table context{conditions(), false, rows, flow_.context(), flow_.context(), 1, nullptr};
    double length = 0;
    Seeds seeds;
    seeds.normalizer = -static_cast<double>(rows);
    Gradients<float> gradients;
    gradients.parameters = gradient_.data();
    gradients.norm = &length;
    engine::vjp(flow_.stack(), Direction::inverse, table, &context, seeds, gradients, threads);
    adam_step({1e-4, 0.9, 0.999, 1e-8, 0.01, 5.0}, ++steps_, flow_.parameter_count(), flow_.parameters(),
              gradient_.data(), length, mean_.data(), square_.data(), {}, threads);
  }

 private:
  static std::size_t size(Index count) { return static_cast<std::size_t>(count); }
  const float* conditions() const { return flow_.context() > 0 ? condition_.data() : nullptr; }

  Flow<float> flow_;
  std::vector<float> condition_, x_, moved_;
  std::vector<double> values_;
  std::vector<float> gradient_, mean_, square_;
  Index steps_ = 0;
};

struct Call {
  const char* name;
  void (Caller::*call)(Index rows, int threads);
};

constexpr Call kCalls[] = {{"log_prob", &Caller::log_prob},
                           {"inverse", &Caller::inverse},
                           {"forward", &Caller::forward},
                           {"sample", &Caller::sample},
                           {"loss_and_grad", &Caller::loss_and_grad},
                           {"step", &Caller::step}};

// What cannot be seen would not be missed.
bool all_is_counted() {
  const auto seen = [](std::atomic<long>& counter, auto&& act) {
    const long before = counter;
    act();
    return counter > before;
  };
  std::mutex mutex;
  void* volatile memory = nullptr;
  const bool counted = seen(allocations, [&] { memory = std::malloc(8); }) &&
                       seen(allocations, [&] { memory = std::realloc(memory, 16); }) &&
                       seen(allocations, [&] { memory = ::operator new(8); }) &&
                       seen(allocations, [&] { memory = ::operator new(256, std::align_val_t(128)); }) &&
                       seen(locks, [&] { const std::lock_guard<std::mutex> lock(mutex); });
  return counted;
}

// No call but the first of its kind allocates, whatever its rows. Nor does it take a lock with one thread; with more it
// may, where somebody sleeps.
int count_allocations(char** first, char** last) {
  constexpr Index kMost = 5000;
  if (!all_is_counted()) {
    std::printf("the counters do not see what the program itself allocates and locks\n");
    return 1;
  }
  int failures = 0;
  // One thread comes first: there are no helpers yet, who could take a lock.
  for (const int threads : {1, 3})
    for (char** path = first; path < last; ++path) {
      const std::string flow = std::filesystem::path(*path).stem();
      Caller caller(*path, kMost);
      for (const auto& [name, call] : kCalls) {
        (caller.*call)(kMost, threads);
        for (const Index rows : {Index(1), Index(64), Index(256), kMost}) {
          const long allocated = allocations, locked = locks;
          for (int turn = 0; turn < 3; ++turn) (caller.*call)(rows, threads);
          const long more = allocations - allocated, taken = threads == 1 ? locks - locked : 0;
          if (more == 0 && taken == 0) continue;
          ++failures;
          std::printf("%s: %s of %td rows, %d threads: 3 calls made %ld allocations and took %ld locks\n", flow.c_str(),
                      name, rows, threads, more, taken);
        }
      }
    }
  return failures == 0 ? 0 : 1;
}

// Where the caller has memory enough, and helpers, not even the first calls of a flow allocate, whichever helpers come.
int count_first_allocations(char** first, char** last) {
  constexpr Index kMost = 5000;
  constexpr int kThreads = 4;
  std::vector<Caller> callers;
  for (char** path = first; path < last; ++path) callers.emplace_back(*path, kMost);
  std::atomic<int> here{0};
  parallel_for(kThreads, kThreads, [&](Index, int) {
    for (++here; here < kThreads;) std::this_thread::yield();
  });
  Arena::of_this_thread().reserve(std::size_t(64) << 20);
  int failures = 0;
  for (std::size_t i = 0; i < callers.size(); ++i)
    for (const auto& [name, call] : kCalls) {
      const long allocated = allocations;
      for (int turn = 0; turn < 3; ++turn) (callers[i].*call)(kMost, kThreads);
      const long more = allocations - allocated;
      if (more == 0) continue;
      ++failures;
      std::printf("%s: the first 3 calls of %s made %ld allocations\n", first[i], name, more);
    }
  return failures == 0 ? 0 : 1;
}

}  // namespace

// Callgrind counts from one call of this to the next.
extern "C" [[gnu::noinline]] void mark() { asm volatile(""); }

int main(int count, char** words) {
  const std::string command = count > 1 ? words[1] : "";
  if (command == "compiler") {
    std::printf("%s\n", PUSHFORWARD_COMPILER);
  } else if (command == "allocations") {
    return count_allocations(words + 2, words + count);
  } else if (command == "first-allocations") {
    return count_first_allocations(words + 2, words + count);
  } else if (command == "calls" && count > 3) {
    const Index rows = std::atol(words[3]);
    Caller caller(words[2], rows);
    for (int i = 4; i < count; ++i)
      for (const auto& [name, call] : kCalls) {
        if (std::string(name) != words[i]) continue;
        (caller.*call)(rows, 1);
        mark();
        (caller.*call)(rows, 1);
        mark();
      }
  } else {
    std::printf(
        "usage: steady_state compiler | allocations FILE... | first-allocations FILE... | calls FILE ROWS NAME...\n");
    return 2;
  }
  return 0;
}
