// Where a layer stands in a flow: what it is constructed for.
#pragma once

#include <vector>

#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/sizes.hpp"

namespace pushforward {

struct Place {
  std::vector<Index> columns;   // of the state: columns[i] holds feature i where the layer stands
  std::vector<Domain> domains;  // by column of the state
  Index context;                // columns of the tile's context

  // The columns of features on the line, in the order of features: those that a linear map may mix.
  std::vector<Index> columns_on_line() const {
    std::vector<Index> result;
    for (const Index column : columns)
      if (domains[static_cast<std::size_t>(column)] == Domain::line) result.push_back(column);
    return result;
  }
};

}  // namespace pushforward
