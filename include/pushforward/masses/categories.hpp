// Columns of categories: their codes in a table, and the numbers that a network reads of them.
#pragma once

#include <algorithm>

#include "pushforward/data/table.hpp"

namespace pushforward {

// One column. A code is 0 ... count - 1.
struct Category {
  Index count;
  // The first codes that are the values of a number in their order; 0 where the order says nothing. A network reads
  // these by `knots` hat functions of the code, with their knots evenly spaced from 0 to ordered - 1: neighbouring
  // codes look alike, and at most two of the functions differ from 0. Each other code has a number of its own, which is
  // 1 where the code is found.
  Index ordered, knots;

  Index inputs() const { return knots + count - ordered; }
};

namespace detail {

// Writes the codes of a table's rows, and marks rows that are bad (a value is not finite) or outside (a finite value is
// no code); a row that is either has the code 0 there.
template <class T, class Scalar>
void read_codes(const Table& table, Index first, Index rows, const std::vector<Category>& categories,
                Columns<Scalar> codes, bool* bad, bool* outside) {
  for (std::size_t i = 0; i < categories.size(); ++i) {
    const auto column = static_cast<Index>(i);
    for (Index row = 0; row < rows; ++row) {
      const auto value = static_cast<double>(table.row<T>(first + row)[column * table.column_stride]);
      const bool finite = std::isfinite(value);
      const bool known =
          finite && value >= 0 && value < static_cast<double>(categories[i].count) && value == std::floor(value);
      bad[row] |= !finite;
      outside[row] |= !known;
      codes[column][row] = known ? static_cast<Scalar>(value) : Scalar(0);
    }
    std::fill(codes[column] + rows, codes[column] + whole_lanes(rows), Scalar(0));
  }
}

}  // namespace detail

template <class Scalar>
void read_codes(const Table& table, Index first, Index rows, const std::vector<Category>& categories,
                Columns<Scalar> codes, bool* bad, bool* outside) {
  if (table.is_double)
    detail::read_codes<double>(table, first, rows, categories, codes, bad, outside);
  else
    detail::read_codes<float>(table, first, rows, categories, codes, bad, outside);
}

// Writes what a network reads of a column of codes: inputs() tile columns.
template <class Scalar>
void write_inputs(const Category& category, Index padded, const Scalar* codes, Columns<Scalar> to) {
  for (Index knot = 0; knot < category.knots; ++knot)
    for (Index row = 0; row < padded; ++row) {
      const auto code = static_cast<double>(codes[row]);
      // The product is exact, and so is the quotient where there are as many knots as codes.
      const double place = code * static_cast<double>(category.knots - 1) /
                           static_cast<double>(std::max<Index>(category.ordered - 1, 1));
      const double height = std::max(0.0, 1.0 - std::abs(place - static_cast<double>(knot)));
      to[knot][row] = code < static_cast<double>(category.ordered) ? static_cast<Scalar>(height) : Scalar(0);
    }
  for (Index code = category.ordered; code < category.count; ++code)
    for (Index row = 0; row < padded; ++row)
      to[category.knots + code - category.ordered][row] =
          codes[row] == static_cast<Scalar>(code) ? Scalar(1) : Scalar(0);
}

}  // namespace pushforward
