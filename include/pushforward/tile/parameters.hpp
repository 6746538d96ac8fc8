// The named blocks of the parameter vector.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

struct ParameterBlock {
  std::string name;
  std::vector<Index> shape;
  double initial_bound;   // initial values are uniform in [-initial_bound, initial_bound]
  bool bfloat16 = false;  // whether a call reads them rounded
};

// The number of parameters in the blocks. The largest Index if the sum overflows, which the
// description in a hostile file may try.
inline Index size_of(const std::vector<ParameterBlock>& blocks) {
  constexpr Index kMost = std::numeric_limits<Index>::max();
  Index total = 0;
  for (const auto& block : blocks) {
    Index size = 1;
    for (const Index extent : block.shape) size = extent > 0 && size > kMost / extent ? kMost : size * extent;
    total = size > kMost - total ? kMost : total + size;
  }
  return total;
}

}  // namespace pushforward
