// Dropout (Srivastava et al. 2014): drops units of a network's hidden layers, as the key of the minibatch says.
#pragma once

#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/dropout_key.hpp"

namespace pushforward {

// Multiplies `count` columns of values and slopes, the first of which is unit number `unit`, by 0 or by 1 / (1 - rate).
template <class Scalar>
void drop(const DropoutKey& dropout, double rate, Index unit, Index padded, Index count, Columns<Scalar> values,
          Columns<Scalar> slopes) {
  const auto least = static_cast<std::uint32_t>(rate * 4294967296.0);
  const auto scale = static_cast<Scalar>(1 / (1 - rate));
  for (Index column = 0; column < count; ++column) {
    const auto key = static_cast<std::uint32_t>(dropout.part(static_cast<std::uint64_t>(unit + column)).value >> 32);
    for (Index row = 0; row < padded; ++row) {
      // The finaliser of MurmurHash3
      auto bits = key ^ (static_cast<std::uint32_t>(dropout.first_row + row) * 0x9e3779b9u);
      bits = (bits ^ (bits >> 16)) * 0x85ebca6bu;
      bits = (bits ^ (bits >> 13)) * 0xc2b2ae35u;
      bits ^= bits >> 16;
      const Scalar factor = bits < least ? Scalar(0) : scale;
      values[column][row] *= factor;
      slopes[column][row] *= factor;
    }
  }
}

}  // namespace pushforward
