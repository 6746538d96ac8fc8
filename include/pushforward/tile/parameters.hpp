// What the outside needs to know of one named block of the parameter vector.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

struct ParameterBlock {
  std::string name;
  std::vector<Index> shape;
  double initial_bound;  // drawn uniformly from [-initial_bound, initial_bound]; 0 starts at zero
};

// Number of parameters in the blocks; the largest Index when it does not fit, which a description from a file may ask.
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
