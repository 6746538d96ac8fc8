// What the outside needs to know of one named block of the parameter vector.
#pragma once

#include <string>
#include <vector>

#include "pushforward/tile.hpp"

namespace pushforward {

struct ParameterBlock {
  std::string name;
  std::vector<Index> shape;
  double initial_bound;  // drawn uniformly from [-initial_bound, initial_bound]; 0 starts at zero
};

inline Index size_of(const std::vector<ParameterBlock>& blocks) {
  Index total = 0;
  for (const auto& block : blocks) {
    Index size = 1;
    for (const Index extent : block.shape) size *= extent;
    total += size;
  }
  return total;
}

}  // namespace pushforward
