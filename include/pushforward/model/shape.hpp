// The shape of a flow's features in its description.
#pragma once

#include <optional>

#include "pushforward/description/json.hpp"
#include "pushforward/description/limits.hpp"
#include "pushforward/tile/image.hpp"

namespace pushforward {

// The shape of a description's features, if it has one.
inline std::optional<ImageShape> shape_of(const Json& description, Index dim) {
  if (!description.contains("shape")) return std::nullopt;
  const auto extents = json::integers_member(description, "shape", limits::kExtent.low, limits::kExtent.high);
  if (extents.size() != 3) throw std::invalid_argument("'shape' is not [channels, height, width]");
  const ImageShape shape{extents[0], extents[1], extents[2]};
  if (shape.size() != dim) throw std::invalid_argument("the extents of 'shape' do not multiply to 'dim'");
  return shape;
}

}  // namespace pushforward
