// Dropout (Srivastava et al. 2014) without a state: whether a unit of a row is dropped is a function of a key, the
// row's place in the minibatch and the unit, so that it is the same for any number of threads.
#pragma once

#include <cstdint>

#include "pushforward/tile/tile.hpp"

namespace pushforward {

// One dropout mask of one minibatch; a key of 0 drops nothing.
struct Dropout {
  std::uint64_t key = 0;
  Index first_row = 0;  // the tile's, in the minibatch

  // The mask of part number `part` of what this one belongs to.
  Dropout part(std::uint64_t part) const {
    if (key == 0) return *this;
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014)
    std::uint64_t mixed = key + (part + 1) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    return {mixed | 1, first_row};
  }
};

// Multiplies values and slopes of `columns` tile columns, the first of which is unit number `unit`, with 0 or
// 1 / (1 - rate).
template <class Scalar>
void drop(const Dropout& dropout, double rate, Index unit, Index padded, Index columns, Scalar* values,
          Scalar* slopes) {
  const auto least = static_cast<std::uint32_t>(rate * 4294967296.0);
  const auto scale = static_cast<Scalar>(1 / (1 - rate));
  for (Index column = 0; column < columns; ++column) {
    const auto key = static_cast<std::uint32_t>(dropout.part(static_cast<std::uint64_t>(unit + column)).key >> 32);
    for (Index row = 0; row < padded; ++row) {
      // The finaliser of MurmurHash3
      auto bits = key ^ (static_cast<std::uint32_t>(dropout.first_row + row) * 0x9e3779b9u);
      bits = (bits ^ (bits >> 16)) * 0x85ebca6bu;
      bits = (bits ^ (bits >> 13)) * 0xc2b2ae35u;
      bits ^= bits >> 16;
      const Scalar factor = bits < least ? Scalar(0) : scale;
      values[column * kTileRows + row] *= factor;
      slopes[column * kTileRows + row] *= factor;
    }
  }
}

}  // namespace pushforward
