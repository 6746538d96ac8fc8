// The values that one feature may take.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "pushforward/data/bijection.hpp"
#include "pushforward/tile/domain.hpp"

namespace pushforward {

// How far the cell of a value on the low and on the high bound of a feature reaches: such a value stands for all that
// were rounded to it. 0: as far as the rounding of the table's type.
struct Cells {
  double low = 0, high = 0;
};

struct Support {
  static constexpr double kMost = std::numeric_limits<double>::max();

  double low = -kMost, high = kMost;
  bool has_low = true;                         // whether the low bound itself may be written
  Domain domain = Domain::line;                // where the layers work on the feature
  std::shared_ptr<const Bijection> bijection;  // null for every real number
  bool has_high = true;                        // whether the high bound belongs to it
  bool has_cells = false;                      // whether a whole number stands for the numbers from it to the next

  struct Range {
    double low, high;
    bool holds(double value) const { return value >= low && value <= high; }
  };

  // The values of a table of T that belong: those between the bounds as T rounds them.
  template <class T>
  Range readable() const {
    return {rounded<T>(low), has_high ? rounded<T>(high) : below_high<T>()};
  }

  // Numbers of T closer to 0 than this, among them all that are not normal, count as 0.
  template <class T>
  static constexpr T kLeast = 4 * std::numeric_limits<T>::min();

  // The least and the greatest value of T that may be written. If the bounds are so close that no T lies between them,
  // both are the nearest T.
  template <class T>
  Range writable() const {
    constexpr T kLargest = std::numeric_limits<T>::max();
    if (!has_low) return {kLeast<T>, has_high ? kLargest : below_high<T>()};
    auto least = static_cast<T>(rounded<T>(low)), most = static_cast<T>(rounded<T>(high));
    if (least < low) least = std::nextafter(least, kLargest);
    if (most > high) most = std::nextafter(most, -kLargest);
    if (least > most) least = most = static_cast<T>(rounded<T>(low));
    return {least, most};
  }

 private:
  // The last number of T below the high bound, which is one.
  template <class T>
  double below_high() const {
    return std::nextafter(static_cast<T>(high), T(0));
  }

  template <class T>
  static double rounded(double bound) {
    return static_cast<T>(std::clamp<double>(bound, std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max()));
  }
};

}  // namespace pushforward
