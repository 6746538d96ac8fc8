// The caller's tables, read into tiles and written from them. Standardisation happens here, in float64 for any
// precision of table and flow, so that a feature near 1e9 with unit spread keeps its digits.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "pushforward/tile/columns.hpp"

namespace pushforward {

// A view of a (rows, columns) array of float or double with any strides, counted in elements.
struct Table {
  const void* data = nullptr;
  bool is_double = false;
  Index rows = 0;
  Index columns = 0;
  Index row_stride = 0;
  Index column_stride = 0;
  const std::int64_t* index = nullptr;  // when given, row r of the table is row index[r] of the array

  template <class T>
  const T* row(Index r) const {
    return static_cast<const T*>(data) + (index ? static_cast<Index>(index[r]) : r) * row_stride;
  }
};

// A (rows, columns) array to write to, row-major; no data if it is not wanted.
struct Output {
  void* data = nullptr;
  bool is_double = false;
};

// value -> (value - shift) * factor, one of each per column.
struct AffineMap {
  std::vector<double> shift, factor;

  static AffineMap identity(Index columns) {
    const auto n = static_cast<std::size_t>(columns);
    return {std::vector<double>(n, 0.0), std::vector<double>(n, 1.0)};
  }
};

// The maps of a standardisation, (value - shift) / scale, and back.
inline void set_affine_maps(const std::vector<double>& shift, const std::vector<double>& scale, Index width,
                            AffineMap& to_standard, AffineMap& from_standard) {
  if (static_cast<Index>(shift.size()) != width || static_cast<Index>(scale.size()) != width)
    throw std::invalid_argument("a standardisation needs one shift and one scale per column");
  for (std::size_t i = 0; i < scale.size(); ++i)
    if (!(scale[i] > 0) || !std::isfinite(scale[i]) || !std::isfinite(1 / scale[i]) || !std::isfinite(shift[i]))
      throw std::invalid_argument("a standardisation needs finite shifts and finite scales above 0");
  std::vector<double> inverse;
  for (const double s : scale) inverse.push_back(1 / s);
  to_standard = {shift, std::move(inverse)};
  from_standard = {shift, scale};
}

// What is further out than this on the layers' side is brought to it as it is read: squares of it, and what a few
// layers make of it, are finite numbers of Scalar.
template <class Scalar>
inline constexpr double kFarthest = std::is_same_v<Scalar, float> ? 1e18 : 1e100;

// The nearest finite number of T; NaN stays NaN.
template <class T>
T narrowed(double value) {
  constexpr double kMost = std::numeric_limits<T>::max();
  value = kMost < value ? kMost : value;
  return static_cast<T>(value < -kMost ? -kMost : value);
}

namespace detail {

template <class Scalar>
Scalar within_reach(double value) {
  value = kFarthest<Scalar> < value ? kFarthest<Scalar> : value;
  return static_cast<Scalar>(value < -kFarthest<Scalar> ? -kFarthest<Scalar> : value);
}

template <class T, class Scalar>
void read_columns(const Table& table, Index first, Index rows, const AffineMap& map, const Index* columns,
                  Columns<Scalar> tile, bool* bad) {
  for (Index i = 0; i < table.columns; ++i) {
    const double shift = map.shift[static_cast<std::size_t>(i)], factor = map.factor[static_cast<std::size_t>(i)];
    Scalar* to = tile[columns[i]];
    for (Index row = 0; row < rows; ++row) {
      const auto value = static_cast<double>(table.row<T>(first + row)[i * table.column_stride]);
      const bool finite = std::isfinite(value);
      bad[row] |= !finite;
      to[row] = finite ? within_reach<Scalar>((value - shift) * factor) : Scalar(0);
    }
    for (Index row = rows; row < whole_lanes(rows); ++row) to[row] = Scalar(0);
  }
}

template <class T, class Scalar>
void write_columns(Columns<Scalar> tile, Index first, Index rows, Index width, const AffineMap& map,
                   const Index* columns, const bool* bad, T* to) {
  for (Index i = 0; i < width; ++i) {
    const double shift = map.shift[static_cast<std::size_t>(i)], factor = map.factor[static_cast<std::size_t>(i)];
    const Scalar* from = tile[columns[i]];
    for (Index row = 0; row < rows; ++row)
      to[(first + row) * width + i] =
          bad[row] ? static_cast<T>(NAN) : narrowed<T>(static_cast<double>(from[row]) * factor + shift);
  }
}

}  // namespace detail

// tile[:, columns[i]] = (table[first : first + rows, i] - shift[i]) * factor[i]. A row with a value that is not finite
// is marked in `bad`, and zero replaces the value, so that kernels see finite numbers only.
template <class Scalar>
void read_columns(const Table& table, Index first, Index rows, const AffineMap& map, const Index* columns,
                  Columns<Scalar> tile, bool* bad) {
  if (table.is_double)
    detail::read_columns<double>(table, first, rows, map, columns, tile, bad);
  else
    detail::read_columns<float>(table, first, rows, map, columns, tile, bad);
}

// to[first : first + rows, i] = tile[:, columns[i]] * factor[i] + shift[i]; NaN in the rows marked bad.
template <class Scalar>
void write_columns(Columns<Scalar> tile, Index first, Index rows, Index width, const AffineMap& map,
                   const Index* columns, const bool* bad, Output to) {
  if (to.is_double)
    detail::write_columns(tile, first, rows, width, map, columns, bad, static_cast<double*>(to.data));
  else
    detail::write_columns(tile, first, rows, width, map, columns, bad, static_cast<float*>(to.data));
}

}  // namespace pushforward
