// The softmax of a run of tile columns: masses p_k = exp(a_k) / sum_j exp(a_j), row by row.
#pragma once

#include "pushforward/base/noise.hpp"
#include "pushforward/tile/columns.hpp"

namespace pushforward::softmax {

// Overwrites the logits of `count` categories by exp(a_k - max_j a_j), and returns their sum and the greatest logit of
// each row. The greatest is taken off first, so that no exponential overflows.
template <class Scalar>
void exponentiate(Index count, Index padded, Columns<Scalar> logits, Scalar* greatest, Scalar* sum) {
  using V = Vec<Scalar>;
  for (Index row = 0; row < padded; row += V::kWidth) {
    V most = V::load(logits[0] + row);
    for (Index k = 1; k < count; ++k) most = max(most, V::load(logits[k] + row));
    V total = 0;
    for (Index k = 0; k < count; ++k) {
      const V value = exp(V::load(logits[k] + row) - most);
      value.store(logits[k] + row);
      total += value;
    }
    most.store(greatest + row);
    total.store(sum + row);
  }
}

// Adds log p of each row's code, and overwrites the logits by the masses.
template <class Scalar>
void add_log_mass(Index count, Index rows, Index padded, const Scalar* codes, Columns<Scalar> logits,
                  double* log_mass) {
  using V = Vec<Scalar>;
  alignas(64) Scalar greatest[kTileRows], sum[kTileRows], chosen[kTileRows];
  for (Index row = 0; row < rows; ++row) chosen[row] = logits[static_cast<Index>(codes[row])][row];
  exponentiate(count, padded, logits, greatest, sum);
  for (Index row = 0; row < rows; ++row)
    log_mass[row] += static_cast<double>(chosen[row] - greatest[row]) - std::log(static_cast<double>(sum[row]));
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V factor = V(1) / V::load(sum + row);
    for (Index k = 0; k < count; ++k) (V::load(logits[k] + row) * factor).store(logits[k] + row);
  }
}

// The adjoint of log p of each row's code c, da_k = w (1[k = c] - p_k), in the place of the masses.
template <class Scalar>
void log_mass_vjp(Index count, Index rows, Index padded, const Scalar* codes, const Scalar* dlog_mass,
                  Columns<Scalar> masses) {
  using V = Vec<Scalar>;
  for (Index k = 0; k < count; ++k)
    for (Index row = 0; row < padded; row += V::kWidth)
      (-V::load(masses[k] + row) * V::load(dlog_mass + row)).store(masses[k] + row);
  for (Index row = 0; row < rows; ++row) masses[static_cast<Index>(codes[row])][row] += dlog_mass[row];
}

// Draws a code for each row, by the inverse of its distribution function, from what `exponentiate` left. Each stream of
// the draws has numbers of its own.
template <class Scalar>
void pick(Index count, Index padded, const Draws& draws, std::uint32_t stream, Columns<Scalar> exponentials,
          const Scalar* sum, Scalar* codes) {
  using V = Vec<Scalar>;
  alignas(64) Scalar place[kTileRows];
  detail::Words(draws, stream, padded).uniform(padded, 0, place);
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V end = V::load(place + row) * V::load(sum + row);
    V below = 0, code = 0;
    // The code is the number of categories whose distribution function is below the place; the last one has no end.
    for (Index k = 0; k + 1 < count; ++k) {
      below += V::load(exponentials[k] + row);
      code += V::select(below < end, V(1), V(0));
    }
    code.store(codes + row);
  }
}

// Draws a code for each row, and leaves the logits overwritten.
template <class Scalar>
void draw(Index count, Index padded, const Draws& draws, std::uint32_t stream, Columns<Scalar> logits, Scalar* codes) {
  alignas(64) Scalar greatest[kTileRows], sum[kTileRows];
  exponentiate(count, padded, logits, greatest, sum);
  pick(count, padded, draws, stream, logits, sum, codes);
}

// Draws the codes that are not known, marked by a negative number, as `draw` does, and writes the log mass of every
// row's code: that given that it is one of `count`. It is -infinity for a known code that is none of them.
template <class Scalar>
void complete(Index count, Index rows, Index padded, const Draws& draws, std::uint32_t stream, Columns<Scalar> logits,
              Scalar* codes, double* log_mass) {
  alignas(64) Scalar drawn[kTileRows], chosen[kTileRows], greatest[kTileRows], sum[kTileRows];
  for (Index row = 0; row < rows; ++row) {
    const auto code = static_cast<Index>(codes[row]);
    chosen[row] = codes[row] >= 0 && code < count ? logits[code][row] : -std::numeric_limits<Scalar>::infinity();
  }
  exponentiate(count, padded, logits, greatest, sum);
  pick(count, padded, draws, stream, logits, sum, drawn);
  for (Index row = 0; row < rows; ++row) {
    if (codes[row] < 0) {
      codes[row] = drawn[row];
      log_mass[row] = std::log(static_cast<double>(logits[static_cast<Index>(drawn[row])][row]));
    } else {
      log_mass[row] = static_cast<double>(chosen[row] - greatest[row]);
    }
    log_mass[row] -= std::log(static_cast<double>(sum[row]));
  }
  std::fill(codes + rows, codes + padded, Scalar(0));
}

}  // namespace pushforward::softmax
