// Squares of 2 x 2 pixels as pixels of four times the channels (Dinh, Sohl-Dickstein, Bengio 2017, section 3.6):
// channel 4 i + 2 j + k on the z side is row j and column k of the squares of channel i. It moves no data.
#pragma once

#include <memory>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

// No layer: only the columns on its x side differ.
template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_squeeze(const Json& description, const Place&) {
  json::expect_names(description, {"kind"});
  return nullptr;
}

inline ImageShape squeezed(const ImageShape& x) {
  if (x.height % 2 != 0 || x.width % 2 != 0)
    throw std::invalid_argument("a squeeze needs an even height and an even width");
  return {4 * x.channels, x.height / 2, x.width / 2};
}

inline void to_x_side_of_squeeze(const Json&, Place& place) {
  const ImageShape z = place.image("a squeeze"), x{z.channels / 4, 2 * z.height, 2 * z.width};
  std::vector<Index> columns;
  columns.reserve(place.columns.size());
  for (Index channel = 0; channel < x.channels; ++channel)
    for (Index row = 0; row < x.height; ++row)
      for (Index column = 0; column < x.width; ++column) {
        const Index z_channel = 4 * channel + 2 * (row % 2) + column % 2;
        const Index from = (z_channel * z.height + row / 2) * z.width + column / 2;
        columns.push_back(place.columns[static_cast<std::size_t>(from)]);
      }
  place.columns = std::move(columns);
  place.shape = x;
}

}  // namespace pushforward
