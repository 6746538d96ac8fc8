// Random numbers as a function of a key, a row and a stream. They do not depend on the number of threads or on how rows
// are split into calls, and are equal up to rounding in both precisions and on every machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/vec.hpp"

namespace pushforward {

// The rows to draw: those of a key, from a row number on.
struct Draws {
  std::uint64_t key;
  Index first_row = 0;
};

namespace detail {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): four random words for each row of a tile. The counter is the row and
// the stream.
struct Words {
  alignas(64) std::uint32_t word[4][kTileRows];

  Words(const Draws& draws, std::uint32_t stream, Index padded) {
    fill(draws.key, stream, padded, [&](Index row) { return static_cast<std::uint64_t>(draws.first_row + row); });
  }
  // Of rows with numbers of their own.
  Words(std::uint64_t key, const std::uint64_t* numbers, std::uint32_t stream, Index padded) {
    fill(key, stream, padded, [&](Index row) { return numbers[row]; });
  }

  // Uniform on (0, 1), with all digits of Scalar even near 0. The words `first` and `first` + 1 are used.
  template <class Scalar>
  void uniform(Index padded, int first, Scalar* to) const {
    constexpr auto unit = static_cast<Scalar>(1.0 / 4294967296.0);
    for (Index row = 0; row < padded; ++row)
      to[row] = (number<Scalar>(word[first][row]) + (number<Scalar>(word[first + 1][row]) + Scalar(0.5)) * unit) * unit;
  }

 private:
  template <class NumberOf>
  void fill(std::uint64_t key, std::uint32_t stream, Index padded, NumberOf&& number_of) {
    for (Index row = 0; row < padded; ++row) {
      const std::uint64_t number = number_of(row);
      auto c0 = static_cast<std::uint32_t>(number), c1 = static_cast<std::uint32_t>(number >> 32), c2 = stream,
           c3 = std::uint32_t(0);
      auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
      for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t(0xD2511F53u) * c0, b = std::uint64_t(0xCD9E8D57u) * c2;
        c0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
        c1 = static_cast<std::uint32_t>(b);
        c2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
        c3 = static_cast<std::uint32_t>(a);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
      }
      word[0][row] = c0;
      word[1][row] = c1;
      word[2][row] = c2;
      word[3][row] = c3;
    }
  }

  // A word as a number. Every instruction set can convert signed integers of 32 bits.
  template <class Scalar>
  static Scalar number(std::uint32_t value) {
    return static_cast<Scalar>(static_cast<std::int32_t>(value >> 16)) * Scalar(65536) +
           static_cast<Scalar>(static_cast<std::int32_t>(value & 0xFFFFu));
  }
};

// cos and sin of |angle| <= pi / 4, by their Taylor polynomials. The remainders are below half a unit in the last
// place.
template <class Scalar>
EIGEN_ALWAYS_INLINE void cos_sin(Vec<Scalar> angle, Vec<Scalar>& cosine, Vec<Scalar>& sine) {
  constexpr int kDegree = std::is_same_v<Scalar, float> ? 8 : 16;
  const Vec<Scalar> square = angle * angle;
  cosine = 1;
  sine = 1;
#pragma GCC unroll 16
  for (int n = kDegree; n > 0; n -= 2) {
    cosine = fma(cosine, square * (-1.0 / (n * (n - 1))), Vec<Scalar>(1));
    sine = fma(sine, square * (-1.0 / (n * (n + 1))), Vec<Scalar>(1));
  }
  sine = sine * angle;
}

}  // namespace detail

// Two columns of independent standard normals (Box and Muller 1958). The direction is drawn as an octant and an angle
// within it.
template <class Scalar>
void draw_normals(const Draws& draws, std::uint32_t stream, Index padded, Scalar* first, Scalar* second) {
  using V = Vec<Scalar>;
  const detail::Words words(draws, stream, padded);
  alignas(64) Scalar radius[kTileRows], angle[kTileRows], swap[kTileRows], sign[2][kTileRows];
  words.uniform(padded, 0, radius);
  words.uniform(padded, 2, angle);
  for (Index row = 0; row < padded; ++row) {
    // The octant is taken from the last digits of a word, which the angle is too short to hold.
    const std::uint32_t octant = words.word[3][row];
    swap[row] = static_cast<Scalar>(static_cast<std::int32_t>(octant & 1));
    sign[0][row] = static_cast<Scalar>(static_cast<std::int32_t>(octant & 2) - 1);
    sign[1][row] = static_cast<Scalar>(static_cast<std::int32_t>((octant >> 1) & 2) - 1);
  }
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V length = sqrt(log(V::load(radius + row)) * -2);
    V cosine, sine;
    detail::cos_sin(fma(V::load(angle + row), V(kPi / 2), V(-kPi / 4)), cosine, sine);
    const auto straight = V::load(swap + row) < V(0.5);
    (length * V::load(sign[0] + row) * V::select(straight, cosine, sine)).store(first + row);
    (length * V::load(sign[1] + row) * V::select(straight, sine, cosine)).store(second + row);
  }
}

// A column of uniform numbers between -half and half.
template <class Scalar>
void draw_uniform(const Draws& draws, std::uint32_t stream, Index padded, double half, Scalar* to) {
  detail::Words(draws, stream, padded).uniform(padded, 0, to);
  for (Index row = 0; row < padded; ++row) to[row] = (2 * to[row] - 1) * static_cast<Scalar>(half);
}

// A column of Student t with `df` degrees of freedom, by the polar method of Bailey (1994): with U uniform and an
// angle, sqrt(df (U^(-2 / df) - 1)) cos(angle).
template <class Scalar>
void draw_student_t(const Draws& draws, std::uint32_t stream, Index padded, double df, Scalar* to) {
  const detail::Words words(draws, stream, padded);
  double radius[kTileRows], angle[kTileRows];
  words.uniform(padded, 0, radius);
  words.uniform(padded, 2, angle);
  for (Index row = 0; row < padded; ++row) {
    const double t = std::sqrt(df * std::expm1(-2 / df * std::log(radius[row]))) * std::cos(2 * kPi * angle[row]);
    constexpr double largest = std::numeric_limits<Scalar>::max();
    to[row] = static_cast<Scalar>(t > largest ? largest : t < -largest ? -largest : t);
  }
}

// Uniform numbers in [0, 1], one for each row, of a stream that no base uses: they decide which flow of an ensemble a
// row comes from.
inline void draw_shares(const Draws& draws, Index rows, double* to) {
  constexpr std::uint32_t kStream = 0xFFFFFFFFu;
  for (Index first = 0; first < rows; first += kTileRows) {
    const Index count = rows - first < kTileRows ? rows - first : kTileRows;
    detail::Words({draws.key, draws.first_row + first}, kStream, count).uniform(count, 0, to + first);
  }
}

}  // namespace pushforward
