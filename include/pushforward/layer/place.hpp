// What a layer is built into.
#pragma once

#include <vector>

#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/sizes.hpp"

namespace pushforward {

struct Place {
  std::vector<Index> columns;   // columns[i] is the column of the state that holds feature i where the layer stands
  std::vector<Domain> domains;  // by column of the state
  Index context;

  // The columns, in the order of features, that a linear map may mix.
  std::vector<Index> lines() const {
    std::vector<Index> result;
    for (const Index column : columns)
      if (domains[static_cast<std::size_t>(column)] == Domain::line) result.push_back(column);
    return result;
  }
};

}  // namespace pushforward
