// Sums of float64 numbers without rounding: the same whatever the order, and whoever adds which part.
#pragma once

#include <cstdint>
#include <cstring>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

// A sum as a number of many digits: digit i counts 2^(32 i - 1074), the least of which is the smallest positive number
// (the small superaccumulator of Neal 2015). Digits may be negative, and have room for carries. After them come the
// counts of NaN, infinity and -infinity. Two sums are added digit by digit.
inline constexpr Index kSumDigits = 67, kSumEntries = kSumDigits + 3;

namespace detail {

// Brings all digits but the last into [0, 2^32).
inline void carry(std::int64_t* digits) {
  for (Index i = 0; i + 1 < kSumDigits; ++i) {
    const std::int64_t over = digits[i] >> 32;  // rounded down
    digits[i] -= over * (std::int64_t(1) << 32);
    digits[i + 1] += over;
  }
}

inline void add_exactly(double value, std::int64_t* sum) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto exponent = static_cast<Index>(bits >> 52 & 0x7ff);
  std::uint64_t mantissa = bits & ((std::uint64_t(1) << 52) - 1);
  const bool negative = bits >> 63;
  if (exponent == 0x7ff) {
    ++sum[kSumDigits + (mantissa ? 0 : negative ? 2 : 1)];
    return;
  }
  // The number is the mantissa times 2^(place - 1074).
  const Index place = exponent ? exponent - 1 : 0;
  if (exponent) mantissa |= std::uint64_t(1) << 52;
  const Index digit = place / 32, shift = place % 32;
  const auto low = static_cast<std::int64_t>(mantissa << shift & 0xffffffffu);
  const auto high = static_cast<std::int64_t>(shift ? mantissa >> (32 - shift) : mantissa >> 32);  // below 2^53
  sum[digit] += negative ? -low : low;
  sum[digit + 1] += negative ? -high : high;
}

}  // namespace detail

// Adds values, `stride` apart, to a sum (kSumEntries,).
inline void add_exactly(Index count, const double* values, Index stride, std::int64_t* sum) {
  constexpr Index kBetweenCarries = 512;  // so many numbers below 2^53 do not overflow
  for (Index i = 0; i < count; ++i) {
    detail::add_exactly(values[i * stride], sum);
    if ((i + 1) % kBetweenCarries == 0) detail::carry(sum);
  }
  detail::carry(sum);
}

}  // namespace pushforward
