// Gaussians by a factor of their precision: log N(z) = -|A (z - mean)|^2 / 2 + sum_i log A_ii - (dim / 2) log(2 pi),
// with A lower triangular. These are the products with A over the rows of a tile, in float64.
//
// A full factor is a matrix (dim, dim) whose upper triangle is zero. A diagonal one is a vector (dim,).
#pragma once

#include "pushforward/tile/panel.hpp"

namespace pushforward::gaussian {

inline constexpr double kLogRootTwoPi = 0.91893853320467274178;

// y_i = sum_{j <= i} A_ij c_j
inline void whiten(bool full, Index dim, Index padded, const double* factor, Columns<const double> c,
                   Columns<double> y) {
  if (!full) {
    for_each_lanes(padded, dim, [&](Index i, Index row) { lanes(y[i] + row) = factor[i] * lanes(c[i] + row); });
    return;
  }
  for (Index first = 0; first < dim; first += panel::kColumns) {
    const Index count = std::min<Index>(panel::kColumns, dim - first);
    panel::product<double>(
        padded, first + count, count, c.data(), kTileRows, {factor + first * dim, dim, 1}, [](Index) { return 0.0; },
        [&](Index row, Index i, Vec<double> sum) { sum.store(y[first + i] + row); });
  }
}

// c_j += sum_{i >= j} A_ij y_i
inline void add_whiten_transposed(bool full, Index dim, Index padded, const double* factor, Columns<const double> y,
                                  Columns<double> c) {
  if (!full) {
    for_each_lanes(padded, dim, [&](Index j, Index row) { lanes(c[j] + row) += factor[j] * lanes(y[j] + row); });
    return;
  }
  for (Index first = 0; first < dim; first += panel::kColumns) {
    const Index count = std::min<Index>(panel::kColumns, dim - first);
    panel::product<double>(
        padded, dim - first, count, y[first], kTileRows, {factor + first * dim + first, 1, dim},
        [](Index) { return 0.0; },
        [&](Index row, Index j, Vec<double> sum) {
          double* to = c[first + j] + row;
          (Vec<double>::load(to) + sum).store(to);
        });
  }
}

// to[i * stride + j] = sum over rows of a_i b_j for j <= i, with stride = whole_lanes(dim). What is written for j > i
// has no meaning. transposed: memory of (kTileRows, stride).
inline void lower_products(Index dim, Index padded, Columns<const double> a, Columns<const double> b,
                           double* transposed, double* to) {
  constexpr Index kWidth = Vec<double>::kWidth;
  const Index stride = whole_lanes(dim);
  panel::transpose(padded, dim, b, transposed, stride);
  for (Index first = 0; first < dim; first += panel::kColumns) {
    const Index count = std::min<Index>(panel::kColumns, dim - first);
    const Index height = (first + count + kWidth - 1) / kWidth * kWidth;
    panel::product<double>(
        height, padded, count, transposed, stride, {a[first], kTileRows, 1}, [](Index) { return 0.0; },
        [&](Index j, Index i, Vec<double> sum) { sum.store(to + (first + i) * stride + j); });
  }
}

// The logarithm of the sum of exp(terms) over `count` columns, for one register of rows; nothing overflows. Returns the
// greatest term too.
struct LogSum {
  Vec<double> greatest, sum;  // sum: of exp(term - greatest), at least 1

  LogSum(Index count, Columns<const double> terms, Index row) : greatest(Vec<double>::load(terms[0] + row)), sum(0) {
    using V = Vec<double>;
    for (Index k = 1; k < count; ++k) greatest = max(greatest, V::load(terms[k] + row));
    for (Index k = 0; k < count; ++k) sum += exp(V::load(terms[k] + row) - greatest);
  }

  Vec<double> value() const { return greatest + log(sum); }
  // exp(term) over the sum
  Vec<double> share(Vec<double> term) const { return exp(term - greatest) / sum; }
};

}  // namespace pushforward::gaussian
