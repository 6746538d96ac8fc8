// What identifies the dropout masks of one minibatch.
#pragma once

#include <cstdint>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

// Whether a unit of a row is dropped is a function of a key, the row's place in the minibatch and the unit, so that it
// does not depend on the number of threads.
struct DropoutKey {
  std::uint64_t value = 0;  // 0 drops nothing
  Index first_row = 0;      // of the tile, in the minibatch

  bool drops() const { return value != 0; }

  // The key of one part: a layer of a flow, a stage of a network, a unit of a stage.
  DropoutKey part(std::uint64_t number) const {
    if (!drops()) return *this;
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014)
    std::uint64_t mixed = value + (number + 1) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    return {mixed | 1, first_row};
  }
};

}  // namespace pushforward
