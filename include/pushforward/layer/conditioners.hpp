// A coupling's network, and the order in which it reads and moves features: dense networks take features as they come,
// convolutional ones pixel by pixel.
#pragma once

#include <functional>
#include <memory>

#include "pushforward/layer/image_networks.hpp"
#include "pushforward/layer/place.hpp"
#include "pushforward/network/recomputed.hpp"

namespace pushforward {

template <class Scalar>
struct Conditioning {
  std::vector<Index> kept, moved;  // columns of the state
  // From the numbers of inputs and of outputs that these features have, and the transform that reads the outputs.
  std::function<std::unique_ptr<Conditioner<Scalar>>(Index inputs, Index outputs, const Transform<Scalar>&)> make;
};

namespace detail {

// The features of one side of a mask, which are whole pixels or whole channels.
struct PixelSet {
  std::vector<Index> pixels, channels;

  bool empty() const { return pixels.empty() || channels.empty(); }

  std::vector<Index> columns(const Place& place) const {
    std::vector<Index> result;
    for (const Index pixel : pixels)
      for (const Index channel : channels)
        result.push_back(place.columns[static_cast<std::size_t>(channel * place.shape->pixels() + pixel)]);
    return result;
  }
};

inline PixelSet pixels_where(const std::vector<bool>& mask, bool value, const ImageShape& shape) {
  bool whole_pixels = true, whole_channels = true;
  const auto at = [&](Index channel, Index pixel) {
    return mask[static_cast<std::size_t>(channel * shape.pixels() + pixel)];
  };
  for (Index channel = 0; channel < shape.channels; ++channel)
    for (Index pixel = 0; pixel < shape.pixels(); ++pixel) {
      whole_pixels &= at(channel, pixel) == at(0, pixel);
      whole_channels &= at(channel, pixel) == at(channel, 0);
    }
  if (!whole_pixels && !whole_channels)
    throw std::invalid_argument("a convolutional network needs a mask of whole pixels or of whole channels");
  PixelSet set;
  for (Index channel = 0; channel < shape.channels; ++channel)
    if (whole_pixels || at(channel, 0) == value) set.channels.push_back(channel);
  for (Index pixel = 0; pixel < shape.pixels(); ++pixel)
    if (!whole_pixels || at(0, pixel) == value) set.pixels.push_back(pixel);
  return set;
}

inline void expect_equal_pixels(const Place& place) {
  const Index pixels = place.shape->pixels();
  const auto domain = [&](Index i) {
    return place.domains[static_cast<std::size_t>(place.columns[static_cast<std::size_t>(i)])];
  };
  for (Index i = 0; i < place.shape->size(); ++i)
    if (domain(i) != domain(i / pixels * pixels))
      throw std::invalid_argument(
          "a convolutional network needs one kind of support for all pixels of a channel: circles, boxes or the line");
}

template <class Scalar>
Conditioning<Scalar> image_conditioning(const Json& description, const Place& place, const std::vector<bool>& mask) {
  if (place.bfloat16) throw std::invalid_argument("a convolutional network does not compute in bfloat16");
  const ImageShape shape = place.image("a convolutional network");
  expect_equal_pixels(place);
  const PixelSet kept = pixels_where(mask, true, shape), moved = pixels_where(mask, false, shape);
  const auto make = [&description, kept, moved, shape, context = place.context, may_keep = place.may_keep](
                        Index inputs, Index outputs, const Transform<Scalar>& transform) {
    const auto sites = [&](const PixelSet& set) { return Sites{shape.height, shape.width, set.pixels}; };
    // Without a kept feature no weight of the first layer is read.
    const Index input_channels = kept.empty() ? shape.channels : inputs / static_cast<Index>(kept.pixels.size());
    auto network = image_networks<Scalar>().of(description)(
        description,
        {sites(kept), sites(moved), input_channels, outputs / static_cast<Index>(moved.pixels.size()), context},
        transform);
    if (network->cache_columns() <= may_keep) return network;
    return std::unique_ptr<Conditioner<Scalar>>(
        std::make_unique<Recomputed<Scalar>>(std::move(network), inputs + context, outputs));
  };
  return {kept.columns(place), moved.columns(place), make};
}

template <class Scalar>
Conditioning<Scalar> dense_conditioning(const Json& description, const Place& place, const std::vector<bool>& mask) {
  Conditioning<Scalar> result;
  for (std::size_t i = 0; i < mask.size(); ++i) (mask[i] ? result.kept : result.moved).push_back(place.columns[i]);
  result.make = [&description, context = place.context, bfloat16 = place.bfloat16](Index inputs, Index outputs,
                                                                                   const Transform<Scalar>&) {
    const NetworkPorts ports{inputs + context, {inputs + context}, {outputs}, bfloat16};
    return std::make_unique<DenseConditioner<Scalar>>(networks<Scalar>().of(description)(description, ports, nullptr));
  };
  return result;
}

}  // namespace detail

// mask: of the place's features, true where a coupling keeps one. The description must outlive the result.
template <class Scalar>
Conditioning<Scalar> conditioning_of(const Json& description, const Place& place, const std::vector<bool>& mask) {
  if (image_networks<Scalar>().has(json::string_member(description, "kind")))
    return detail::image_conditioning<Scalar>(description, place, mask);
  return detail::dense_conditioning<Scalar>(description, place, mask);
}

}  // namespace pushforward
