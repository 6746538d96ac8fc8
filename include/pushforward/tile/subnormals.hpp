// How the calling thread treats subnormal numbers, which are smaller than the least normal one (1e-38 in float32,
// 2e-308 in float64).
//
// Many processors take a hundred times as long for an operation on one. A tile on its way through a flow does without:
// results that are so small become zero, and such operands count as zero. Where rows are read and written subnormal
// numbers are kept, since a table may hold them.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace pushforward {

enum class Subnormals { kept, zero };

// Sets the mode until the end of the scope, then brings back the mode that it found. Elsewhere than on x86-64 and arm64
// it does nothing.
class SubnormalMode {
 public:
  explicit SubnormalMode(Subnormals wanted) : found_(bits()) { set(wanted == Subnormals::zero ? kBits : 0); }
  SubnormalMode(const SubnormalMode&) = delete;
  SubnormalMode& operator=(const SubnormalMode&) = delete;
  ~SubnormalMode() { set(found_); }

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Register = unsigned;
  static constexpr Register kBits = 0x8040;  // of MXCSR: flush to zero, and denormals are zero
  static Register read() { return _mm_getcsr(); }
  static void write(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__) && defined(__GNUC__)
  using Register = std::uint64_t;
  static constexpr Register kBits = 1u << 24;  // of FPCR: FZ, for operands and results
  static Register read() {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void write(Register value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
  using Register = unsigned;
  static constexpr Register kBits = 0;
  static Register read() { return 0; }
  static void write(Register) {}
#endif

  static Register bits() { return read() & kBits; }
  // The other bits, such as the record of exceptions, stay as they are. The fences keep the compiler from moving what
  // is read and written in memory to the other side.
  static void set(Register wanted) {
    const Register now = read();
    if ((now & kBits) == wanted) return;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    write((now & ~kBits) | wanted);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  Register found_;
};

}  // namespace pushforward
