// Where a layer stands in a flow: what it is constructed for.
#pragma once

#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/image.hpp"
#include "pushforward/tile/sizes.hpp"

namespace pushforward {

struct Place {
  std::vector<Index> columns;                      // of the state: columns[i] holds feature i where the layer stands
  std::vector<Domain> domains;                     // by column of the state
  Index context;                                   // columns of the tile's context
  std::optional<ImageShape> shape = std::nullopt;  // of the features, if they are pixels

  // Columns that layers from here on may keep for their adjoints. A layer that needs more computes them again, if it
  // can.
  Index may_keep = std::numeric_limits<Index>::max();

  // Whether conditioners compute their products in bfloat16.
  bool bfloat16 = false;

  // The shape that a layer needs. what: the layer, for the message.
  const ImageShape& image(const std::string& what) const {
    if (!shape) throw std::invalid_argument(what + " needs a flow with a shape");
    return *shape;
  }

  // The columns on the line, in groups that share what a layer learns for each feature: the pixels of a channel, or
  // features by themselves. A channel without any is left out.
  std::vector<std::vector<Index>> groups_on_line() const {
    std::vector<std::vector<Index>> groups;
    const std::size_t size = shape ? static_cast<std::size_t>(shape->pixels()) : 1;
    for (std::size_t first = 0; first < columns.size(); first += size) {
      std::vector<Index> group;
      for (std::size_t i = first; i < first + size; ++i)
        if (domains[static_cast<std::size_t>(columns[i])] == Domain::line) group.push_back(columns[i]);
      if (!group.empty()) groups.push_back(std::move(group));
    }
    return groups;
  }

  // The columns of features on the line, in the order of features: those that a linear map may mix.
  std::vector<Index> columns_on_line() const {
    std::vector<Index> result;
    for (const Index column : columns)
      if (domains[static_cast<std::size_t>(column)] == Domain::line) result.push_back(column);
    return result;
  }
};

}  // namespace pushforward
