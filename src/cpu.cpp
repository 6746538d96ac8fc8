// What this processor and its operating system can run, asked by code that any of them can.
#include <pybind11/pybind11.h>

namespace {

// The x86-64 level of the System V psABI, 1 to 4; 0 on another architecture.
int x86_64_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const auto has = [](bool feature) { return feature; };
  const bool v2 = has(__builtin_cpu_supports("sse3")) && has(__builtin_cpu_supports("ssse3")) &&
                  has(__builtin_cpu_supports("sse4.1")) && has(__builtin_cpu_supports("sse4.2")) &&
                  has(__builtin_cpu_supports("popcnt"));
  const bool v3 = v2 && has(__builtin_cpu_supports("avx")) && has(__builtin_cpu_supports("avx2")) &&
                  has(__builtin_cpu_supports("bmi")) && has(__builtin_cpu_supports("bmi2")) &&
                  has(__builtin_cpu_supports("fma"));
  const bool v4 = v3 && has(__builtin_cpu_supports("avx512f")) && has(__builtin_cpu_supports("avx512bw")) &&
                  has(__builtin_cpu_supports("avx512cd")) && has(__builtin_cpu_supports("avx512dq")) &&
                  has(__builtin_cpu_supports("avx512vl"));
  return v4 ? 4 : v3 ? 3 : v2 ? 2 : 1;
#else
  return 0;
#endif
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.doc() = "Detection of the processor's instruction sets.";
  module.def("x86_64_level", &x86_64_level);
}
