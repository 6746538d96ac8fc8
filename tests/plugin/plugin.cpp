#include "pushforward/threads/parallel.hpp"

extern "C" __attribute__((visibility("default"))) int default_threads() { return pushforward::default_threads(); }

// Returns how many of 100 items were worked on.
extern "C" __attribute__((visibility("default"))) int work() {
  std::atomic<int> done{0};
  pushforward::parallel_for(100, 4, [&](pushforward::Index, int) { ++done; });
  return done;
}
