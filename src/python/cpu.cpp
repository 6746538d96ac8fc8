// What this processor and its operating system can run, asked by code that any of them can.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <cstdint>
#include <initializer_list>
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif

namespace {

struct Registers {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero for a leaf that the processor does not have.
Registers cpuid(std::uint32_t leaf) {
  Registers r;
#ifdef _MSC_VER
  int values[4];
  __cpuid(values, static_cast<int>(leaf & 0x80000000));
  if (static_cast<std::uint32_t>(values[0]) < leaf) return r;
  __cpuidex(values, static_cast<int>(leaf), 0);
  r.eax = static_cast<std::uint32_t>(values[0]);
  r.ebx = static_cast<std::uint32_t>(values[1]);
  r.ecx = static_cast<std::uint32_t>(values[2]);
  r.edx = static_cast<std::uint32_t>(values[3]);
#else
  __get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// Which registers the operating system keeps for each thread. Only where cpuid says OSXSAVE.
std::uint64_t kept_registers() {
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  std::uint32_t low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
#endif
}

// The level of the System V psABI (section 3.1.1, table 3.1), 1 to 4: each bit below is one of its features.
int x86_64_level() {
  const Registers basic = cpuid(1), extended = cpuid(7), amd = cpuid(0x80000001);
  const auto has = [](std::uint32_t word, std::initializer_list<int> bits) {
    for (const int bit : bits)
      if (!(word >> bit & 1)) return false;
    return true;
  };
  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF-SAHF
  if (!has(basic.ecx, {0, 9, 13, 19, 20, 23}) || !has(amd.ecx, {0})) return 1;
  // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; the system keeps SSE's and AVX's registers
  if (!has(basic.ecx, {12, 22, 27, 28, 29}) || !has(extended.ebx, {3, 5, 8}) || !has(amd.ecx, {5}) ||
      (kept_registers() & 0x06) != 0x06)
    return 2;
  // AVX512F, DQ, CD, BW, VL; and AVX-512's registers
  if (!has(extended.ebx, {16, 17, 28, 30, 31}) || (kept_registers() & 0xe6) != 0xe6) return 3;
  return 4;
}

}  // namespace

#else

namespace {

int x86_64_level() { return 0; }  // another architecture

}  // namespace

#endif

namespace {

PyObject* level(PyObject*, PyObject*) { return PyLong_FromLong(x86_64_level()); }

PyMethodDef functions[] = {
    {"x86_64_level", level, METH_NOARGS,
     "x86_64_level() -> int\n\nThe level of the x86-64 psABI that can run here, 1 to 4; 0 elsewhere."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_cpu",
                          "Detection of the processor's instruction sets.",
                          0,
                          functions,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__cpu() { return PyModule_Create(&definition); }
