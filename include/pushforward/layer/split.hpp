// The second half of an image's channels leaves for the base (Dinh, Sohl-Dickstein, Bengio 2017, section 3.6). It moves
// no data: layers before it see fewer columns.
#pragma once

#include <memory>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

// No layer: only the columns on its x side differ.
template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_split(const Json& description, const Place&) {
  json::expect_names(description, {"kind"});
  return nullptr;
}

inline ImageShape halved(const ImageShape& x) {
  if (x.channels % 2 != 0) throw std::invalid_argument("a split needs an even number of channels");
  return {x.channels / 2, x.height, x.width};
}

// Latent features are numbered as they join, so that the columns that join here follow those on the z side.
inline void to_x_side_of_split(const Json&, Place& place) {
  const ImageShape z = place.image("a split");
  const Index count = z.size();
  for (Index i = 0; i < count; ++i) place.columns.push_back(count + i);
  place.shape = ImageShape{2 * z.channels, z.height, z.width};
}

}  // namespace pushforward
