// One register of numbers, and the functions of it that the hot kernels are made of. A kernel written with Vec keeps
// its values in registers. Expressions of Eigen's arrays, which the other code uses, go through memory.
//
// This is the only file that uses Eigen's packet layer. The result in a lane depends on that lane alone, so that a
// row's bits depend neither on the other rows nor on its place among them. Products and sums are fused only where fma()
// is called.
#pragma once

#include <array>
#include <type_traits>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

namespace packets = Eigen::internal;

template <class Scalar>
struct Vec {
  using Packet = typename packets::packet_traits<Scalar>::type;
  static constexpr int kWidth = packets::packet_traits<Scalar>::size;

  Packet packet;

  Vec() = default;
  Vec(Packet p) : packet(p) {}
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T> && !std::is_same_v<T, Packet>>>
  Vec(T value) : packet(packets::pset1<Packet>(static_cast<Scalar>(value))) {}

  static EIGEN_ALWAYS_INLINE Vec load(const Scalar* at) { return packets::pload<Packet>(at); }
  EIGEN_ALWAYS_INLINE void store(Scalar* at) const { packets::pstore(at, packet); }
  // to[i] += this[i] for the first `count` lanes; `to` need not be aligned.
  EIGEN_ALWAYS_INLINE void add_to(Scalar* to, Index count = kWidth) const {
    if (count >= kWidth) {
      packets::pstoreu(to, packets::padd(packets::ploadu<Packet>(to), packet));
    } else {
      alignas(64) Scalar values[kWidth];
      store(values);
      for (Index i = 0; i < count; ++i) to[i] += values[i];
    }
  }

  friend EIGEN_ALWAYS_INLINE Vec operator+(Vec a, Vec b) { return packets::padd(a.packet, b.packet); }
  friend EIGEN_ALWAYS_INLINE Vec operator-(Vec a, Vec b) { return packets::psub(a.packet, b.packet); }
  friend EIGEN_ALWAYS_INLINE Vec operator*(Vec a, Vec b) { return packets::pmul(a.packet, b.packet); }
  friend EIGEN_ALWAYS_INLINE Vec operator/(Vec a, Vec b) { return packets::pdiv(a.packet, b.packet); }
  friend EIGEN_ALWAYS_INLINE Vec operator-(Vec a) { return packets::pnegate(a.packet); }
  EIGEN_ALWAYS_INLINE Vec& operator+=(Vec b) { return *this = *this + b; }

  // a b + c
  friend EIGEN_ALWAYS_INLINE Vec fma(Vec a, Vec b, Vec c) { return packets::pmadd(a.packet, b.packet, c.packet); }
  // If exactly one argument is NaN, both return the first argument: on x86-64 the instructions do, those of other
  // processors return NaN.
#ifdef EIGEN_VECTORIZE_SSE
  friend EIGEN_ALWAYS_INLINE Vec min(Vec a, Vec b) { return packets::pmin(a.packet, b.packet); }
  friend EIGEN_ALWAYS_INLINE Vec max(Vec a, Vec b) { return packets::pmax(a.packet, b.packet); }
#else
  friend EIGEN_ALWAYS_INLINE Vec min(Vec a, Vec b) { return select(b < a, b, a); }
  friend EIGEN_ALWAYS_INLINE Vec max(Vec a, Vec b) { return select(a < b, b, a); }
#endif
  friend EIGEN_ALWAYS_INLINE Vec abs(Vec a) { return packets::pabs(a.packet); }
  friend EIGEN_ALWAYS_INLINE Vec sqrt(Vec a) { return packets::psqrt(a.packet); }
  friend EIGEN_ALWAYS_INLINE Vec floor(Vec a) { return packets::pfloor(a.packet); }

#ifdef EIGEN_VECTORIZE_AVX512
  // Eigen's comparisons fill a register. AVX-512 has mask registers for their results.
  using MaskBits = std::conditional_t<std::is_same_v<Scalar, float>, __mmask16, __mmask8>;
#else
  using MaskBits = Packet;
#endif
  // A struct, because __mmask16 is an integer, which would convert to a Vec.
  struct Mask {
    MaskBits bits;
  };

#ifdef EIGEN_VECTORIZE_AVX512
  template <int kPredicate>
  static EIGEN_ALWAYS_INLINE Mask compare(Vec a, Vec b) {
    if constexpr (std::is_same_v<Scalar, float>)
      return {_mm512_cmp_ps_mask(a.packet, b.packet, kPredicate)};
    else
      return {_mm512_cmp_pd_mask(a.packet, b.packet, kPredicate)};
  }
  friend EIGEN_ALWAYS_INLINE Mask operator<(Vec a, Vec b) { return compare<_CMP_LT_OQ>(a, b); }
  friend EIGEN_ALWAYS_INLINE Mask operator<=(Vec a, Vec b) { return compare<_CMP_LE_OQ>(a, b); }
  friend EIGEN_ALWAYS_INLINE Mask operator==(Vec a, Vec b) { return compare<_CMP_EQ_OQ>(a, b); }
  // a in the lanes where the mask holds, b in the others.
  static EIGEN_ALWAYS_INLINE Vec select(Mask mask, Vec a, Vec b) {
    if constexpr (std::is_same_v<Scalar, float>)
      return _mm512_mask_blend_ps(mask.bits, b.packet, a.packet);
    else
      return _mm512_mask_blend_pd(mask.bits, b.packet, a.packet);
  }
#else
  friend EIGEN_ALWAYS_INLINE Mask operator<(Vec a, Vec b) { return {packets::pcmp_lt(a.packet, b.packet)}; }
  friend EIGEN_ALWAYS_INLINE Mask operator<=(Vec a, Vec b) { return {packets::pcmp_le(a.packet, b.packet)}; }
  friend EIGEN_ALWAYS_INLINE Mask operator==(Vec a, Vec b) { return {packets::pcmp_eq(a.packet, b.packet)}; }
  static EIGEN_ALWAYS_INLINE Vec select(Mask mask, Vec a, Vec b) {
    return packets::pselect(mask.bits, a.packet, b.packet);
  }
#endif
  friend EIGEN_ALWAYS_INLINE Mask operator>(Vec a, Vec b) { return b < a; }
  friend EIGEN_ALWAYS_INLINE Mask operator>=(Vec a, Vec b) { return b <= a; }

  // exp(x), clamped to the range of normal numbers: the result is never 0 or infinite.
  //
  // x = n log 2 + r with |r| <= log(2) / 2, and the Taylor polynomial of exp(r): its remainder is below half a unit in
  // the last place.
  friend EIGEN_ALWAYS_INLINE Vec exp(Vec x) {
    constexpr int kDegree = kFloat ? 7 : 13;
    x = max(min(x, kFloat ? 88.3 : 709.0), kFloat ? -87.3 : -708.3);
    const Vec n = packets::print((x * (1 / (kLog2High + kLog2Low))).packet);
    const Vec r = fma(n, -kLog2Low, fma(n, -kLog2High, x));
    Vec sum = kInverseFactorial[kDegree];
#pragma GCC unroll 16
    for (int k = kDegree - 1; k >= 0; --k) sum = fma(sum, r, kInverseFactorial[static_cast<std::size_t>(k)]);
#ifdef EIGEN_VECTORIZE_AVX512
    if constexpr (kFloat)
      return _mm512_scalef_ps(sum.packet, n.packet);
    else
      return _mm512_scalef_pd(sum.packet, n.packet);
#else
    return packets::pldexp_fast(sum.packet, n.packet);
#endif
  }

  // log(x) for normal numbers x > 0. The result for 0 is unspecified.
  //
  // x = 2^n m with m in [sqrt(1/2), sqrt(2)], and log m = 2 artanh(s), s = f / (2 + f), f = m - 1. The odd series of
  // artanh is added to f - f^2 / 2 + s f^2 / 2 (as in fdlibm's e_log.c), so that no digits are lost.
  friend EIGEN_ALWAYS_INLINE Vec log(Vec x) {
    constexpr int kTerms = kFloat ? 4 : 10;
    Vec n, m;
#ifdef EIGEN_VECTORIZE_AVX512
    if constexpr (kFloat) {
      n = _mm512_getexp_ps(x.packet);
      m = _mm512_getmant_ps(x.packet, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    } else {
      n = _mm512_getexp_pd(x.packet);
      m = _mm512_getmant_pd(x.packet, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    }
    const Mask high = m > Vec(1.4142135623730951);
    n = select(high, n + 1, n);
    m = select(high, m * 0.5, m);
#else
    m = packets::pfrexp(x.packet, n.packet);  // in [1/2, 1)
    const Mask low = m < Vec(0.7071067811865476);
    n = select(low, n - 1, n);
    m = select(low, m + m, m);
#endif
    const Vec f = m - 1, s = f / (f + 2), s2 = s * s, half = f * f * 0.5;
    Vec sum = 2.0 / (2 * kTerms + 1);
#pragma GCC unroll 16
    for (int k = kTerms - 1; k > 0; --k) sum = fma(sum, s2, 2.0 / (2 * k + 1));
    return fma(n, kLog2High, f - (half - fma(s, fma(sum, s2, half), n * kLog2Low)));
  }

#pragma GCC diagnostic push
// A packet loses its alignment attribute as a template argument; PacketBlock's member declares it again.
#pragma GCC diagnostic ignored "-Wignored-attributes"
  // Transposes a square of kWidth registers.
  static EIGEN_ALWAYS_INLINE void transpose(Vec (&square)[kWidth]) {
    if constexpr (kWidth > 1) {
      packets::PacketBlock<Packet, kWidth> block;
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) block.packet[i] = square[i].packet;
      packets::ptranspose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) square[i] = block.packet[i];
    }
  }
#pragma GCC diagnostic pop

 private:
  static constexpr bool kFloat = std::is_same_v<Scalar, float>;
  // log 2 in two parts. The first has so few digits that its product with an exponent is exact.
  static constexpr double kLog2High = kFloat ? 0.693359375 : 0.693145751953125;
  static constexpr double kLog2Low = kFloat ? -2.1219444005469058277e-4 : 1.4286068203094172321e-6;
  static constexpr auto kInverseFactorial = [] {
    std::array<double, 14> inverse{};
    double factorial = 1;
    for (int n = 0; n < 14; factorial *= ++n) inverse[static_cast<std::size_t>(n)] = 1 / factorial;
    return inverse;
  }();
};

}  // namespace pushforward
