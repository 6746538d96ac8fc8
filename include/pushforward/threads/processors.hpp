// Which processors this process may use, and how many threads it uses by default.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

namespace pushforward {

// The default number of threads, taken from OpenMP's settings: OMP_NUM_THREADS, omp_set_num_threads, the processors
// that this process may run on. Without OpenMP, OMP_NUM_THREADS as it was at the first call, or all processors.
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

#ifdef __linux__

// OpenMP's places. With OMP_PROC_BIND or OMP_PLACES, as job scripts set them, OpenMP binds the thread that loads it to
// the first place, and threads that this thread starts inherit its mask. All places together are what the process may
// use.
class Places {
 public:
  static const Places& of_this_process() { return places_; }

  // The processors that the calling thread's helpers may run on: those of the thread itself, or, if its mask is
  // OpenMP's first place, those of all places. Any other mask was set on purpose, and holds for the helpers too.
  // Returns false if the system does not tell.
  bool allowed_to_helpers(cpu_set_t& processors) const {
    if (sched_getaffinity(0, sizeof processors, &processors) != 0) return false;
    if (CPU_EQUAL(&processors, &first_)) processors = all_;
    return true;
  }

 private:
  Places() {
    CPU_ZERO(&first_);  // no thread's mask is empty
    CPU_ZERO(&all_);
#ifdef _OPENMP
    for (int i = 0; i < omp_get_num_places(); ++i) {
      std::vector<int> numbers(static_cast<std::size_t>(omp_get_place_num_procs(i)));
      omp_get_place_proc_ids(i, numbers.data());
      for (const int number : numbers) {
        if (number < 0 || number >= CPU_SETSIZE) continue;
        CPU_SET(static_cast<unsigned>(number), &all_);
        if (i == 0) CPU_SET(static_cast<unsigned>(number), &first_);
      }
    }
#endif
  }

  static const Places places_;

  cpu_set_t first_;
  cpu_set_t all_;
};

// Read when the program is loaded: a fork while another thread reads them at its first call would leave the child
// waiting for that thread.
inline const Places Places::places_;

#endif

// How many processors the calling thread and its helpers may use.
inline int processors() {
#ifdef __linux__
  cpu_set_t allowed;
  if (Places::of_this_process().allowed_to_helpers(allowed)) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace pushforward
