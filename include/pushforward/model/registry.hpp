// From a flow's description (JSON) to its layers: the one list of what there is.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "pushforward/base/base.hpp"
#include "pushforward/layer/actnorm.hpp"
#include "pushforward/layer/autoregressive.hpp"
#include "pushforward/layer/coupling.hpp"
#include "pushforward/layer/householder.hpp"
#include "pushforward/layer/lu.hpp"
#include "pushforward/model/json.hpp"
#include "pushforward/transform/additive.hpp"
#include "pushforward/transform/affine.hpp"
#include "pushforward/transform/rational_quadratic.hpp"

namespace pushforward {

namespace registry {

[[noreturn]] inline void unknown(const char* what, const std::string& kind) {
  throw std::invalid_argument(std::string("unknown ") + what + " " + json::quote(kind));
}

inline std::string kind_of(const Json& description) { return json::string_member(description, "kind"); }

// Below 2^31, products and sums of widths stay far from overflow.
inline constexpr Index kMostWidth = std::numeric_limits<std::int32_t>::max();
// Every block costs memory before the parameters are counted.
inline constexpr Index kMostBlocks = 1000;

inline Activation activation(const Json& description) {
  const auto name = json::string_member(description, "activation");
  if (name == "relu") return Activation::relu;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  if (name == "gelu") return Activation::gelu;
  if (name == "elu") return Activation::elu;
  if (name == "leaky_relu") return Activation::leaky_relu;
  unknown("activation", name);
}

// domains: by feature of the latent side.
template <class Scalar>
std::unique_ptr<Base<Scalar>> base(const Json& description, const std::vector<Domain>& domains) {
  const auto kind = kind_of(description);
  if (kind == "Normal") {
    json::expect_names(description, {"kind"});
    return std::make_unique<Normal<Scalar>>(LatentFeatures(domains));
  }
  if (kind == "Uniform") {
    json::expect_names(description, {"kind"});
    return std::make_unique<Uniform<Scalar>>(LatentFeatures(domains));
  }
  if (kind == "StudentT") {
    json::expect_names(description, {"kind", "df", "learned"});
    const bool learned = json::boolean_member(description, "learned");
    const double df = json::number_member(description, "df", learned ? 0.51 : 0.01, 1e9);
    return std::make_unique<StudentT<Scalar>>(LatentFeatures(domains), df, learned);
  }
  unknown("base", kind);
}

template <class Scalar>
std::unique_ptr<Transform<Scalar>> transform(const Json& description) {
  const auto kind = kind_of(description);
  // Above 0, and float32 holds it and its inverse.
  const auto number = [&](const char* name, double high) {
    return json::number_member(description, name, 1e-30, high);
  };
  if (kind == "Additive") {
    json::expect_names(description, {"kind"});
    return std::make_unique<LineTransform<Scalar, Additive<Scalar>>>(Additive<Scalar>());
  }
  if (kind == "Affine") {
    json::expect_names(description, {"kind", "max_log_scale"});
    return std::make_unique<LineTransform<Scalar, Affine<Scalar>>>(Affine<Scalar>(number("max_log_scale", 100)));
  }
  if (kind == "RationalQuadratic") {
    json::expect_names(description, {"kind", "bins", "bound", "min_width", "min_height", "min_slope", "scheme"});
    SplineScheme scheme = SplineScheme::floor;
    if (description.contains("scheme")) {
      const auto name = json::string_member(description, "scheme");
      if (name == "clip")
        scheme = SplineScheme::clip;
      else if (name != "floor")
        unknown("scheme", name);
    }
    const SplineOptions options{json::integer_member(description, "bins", 2),
                                number("bound", 1e30),
                                number("min_width", 1),
                                number("min_height", 1),
                                number("min_slope", 1),
                                scheme};
    switch (options.bins) {
      case 4:
        return std::make_unique<RationalQuadratic<Scalar, 4>>(options);
      case 8:
        return std::make_unique<RationalQuadratic<Scalar, 8>>(options);
      case 16:
        return std::make_unique<RationalQuadratic<Scalar, 16>>(options);
      default:
        return std::make_unique<RationalQuadratic<Scalar, 0>>(options);
    }
  }
  unknown("transform", kind);
}

// The network of a description. units: for each hidden layer the ends of the groups of its units; null for one group.
template <class Scalar>
Network<Scalar> network(const Json& description, const NetworkPorts& ports,
                        const std::vector<std::vector<Index>>* units) {
  const auto kind = kind_of(description);
  const auto checked = [&](std::vector<std::vector<Index>> hidden) {
    if (!units) return hidden;
    if (units->size() != hidden.size()) throw std::invalid_argument("a masked network needs units of each layer");
    for (std::size_t i = 0; i < hidden.size(); ++i)
      if ((*units)[i].back() != hidden[i].back())
        throw std::invalid_argument("a masked network's units do not add up to its layer");
    return *units;
  };
  if (kind == "MLP") {
    json::expect_names(description, {"kind", "hidden", "activation"});
    std::vector<std::vector<Index>> hidden;
    for (const Index width : json::integers_member(description, "hidden", 1, kMostWidth)) hidden.push_back({width});
    return Network<Scalar>::mlp(ports, checked(std::move(hidden)), activation(description));
  }
  if (kind == "ResNet") {
    json::expect_names(description, {"kind", "hidden", "blocks", "activation", "dropout"});
    const Index width = json::integer(json::member(description, "hidden"), "hidden", 1, kMostWidth);
    const Index blocks = json::integer(json::member(description, "blocks"), "blocks", 0, kMostBlocks);
    return Network<Scalar>::resnet(ports, checked({{width}}).front(), blocks, activation(description),
                                   json::number_member(description, "dropout", 0.0, 0.999));
  }
  unknown("conditioner", kind);
}

// What a layer is built into.
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

template <class Scalar>
std::unique_ptr<Layer<Scalar>> coupling(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "transform", "conditioner", "mask", "unconditional", "kept"});
  const auto mask = json::booleans_member(description, "kept");
  if (mask.size() != place.columns.size()) throw std::invalid_argument("a coupling's mask needs one entry per feature");
  std::vector<Index> kept, moved;
  for (std::size_t i = 0; i < mask.size(); ++i) (mask[i] ? kept : moved).push_back(place.columns[i]);
  if (moved.empty()) throw std::invalid_argument("a coupling's mask keeps every feature");
  return std::make_unique<Coupling<Scalar>>(
      kept, moved, place.domains, place.context,
      description.contains("unconditional") && json::boolean_member(description, "unconditional"),
      transform<Scalar>(json::member(description, "transform")), [&](const NetworkPorts& ports) {
        return network<Scalar>(json::member(description, "conditioner"), ports, nullptr);
      });
}

template <class Scalar>
std::unique_ptr<Layer<Scalar>> autoregressive(const Json& description, const Place& place) {
  json::expect_names(description,
                     {"kind", "transform", "conditioner", "order", "degrees", "one_pass", "passes", "units"});
  const auto numbers = json::integers_member(description, "passes", 0, static_cast<Index>(place.columns.size()) - 1);
  if (numbers.size() != place.columns.size())
    throw std::invalid_argument("an autoregressive layer needs the pass of each feature");
  std::vector<std::vector<Index>> passes(static_cast<std::size_t>(*std::max_element(numbers.begin(), numbers.end())) +
                                         1);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    passes[static_cast<std::size_t>(numbers[i])].push_back(place.columns[i]);
  for (const auto& pass : passes)
    if (pass.empty()) throw std::invalid_argument("an autoregressive layer has a pass without features");
  std::vector<std::vector<Index>> units;
  for (const Json& layer : json::array_member(description, "units")) {
    std::vector<Index> ends;
    for (const Index count : json::integers(layer, "units", 0, kMostWidth))
      ends.push_back((ends.empty() ? 0 : ends.back()) + count);
    if (ends.size() != passes.size())
      throw std::invalid_argument("an autoregressive layer needs the number of units of each pass");
    units.push_back(std::move(ends));
  }
  const auto direction = json::string_member(description, "one_pass");
  if (direction != "inverse" && direction != "forward") unknown("direction", direction);
  return std::make_unique<Autoregressive<Scalar>>(
      passes, place.domains, place.context, direction == "inverse" ? Direction::inverse : Direction::forward,
      transform<Scalar>(json::member(description, "transform")), [&](const NetworkPorts& ports) {
        return network<Scalar>(json::member(description, "conditioner"), ports, &units);
      });
}

// The columns behind a permutation, x_i = z_indices[i].
inline std::vector<Index> permuted(const Json& description, const std::vector<Index>& columns) {
  std::vector<Index> result;
  std::vector<bool> seen(columns.size(), false);
  for (const Index i : json::integers_member(description, "indices", 0, static_cast<Index>(columns.size()) - 1)) {
    if (seen[static_cast<std::size_t>(i)])
      throw std::invalid_argument("a permutation's indices must hold each feature once");
    seen[static_cast<std::size_t>(i)] = true;
    result.push_back(columns[static_cast<std::size_t>(i)]);
  }
  if (result.size() != columns.size()) throw std::invalid_argument("a permutation needs one index per feature");
  return result;
}

// The columns of the state that hold the features behind a layer: permutations move no data, they rename the columns
// that the next layers see.
inline std::vector<Index> columns_behind(const Json& description, const std::vector<Index>& columns) {
  const auto kind = kind_of(description);
  return kind == "Permutation" || kind == "LU" ? permuted(description, columns) : columns;
}

// Appends a layer that stands behind `place.columns`, which become those behind it.
template <class Scalar>
void append(const Json& description, Place& place, std::vector<std::unique_ptr<Layer<Scalar>>>& layers) {
  const auto kind = kind_of(description);
  if (kind == "Coupling") {
    layers.push_back(coupling<Scalar>(description, place));
  } else if (kind == "Autoregressive") {
    layers.push_back(autoregressive<Scalar>(description, place));
  } else if (kind == "ActNorm") {
    json::expect_names(description, {"kind"});
    layers.push_back(std::make_unique<ActNorm<Scalar>>(place.lines()));
  } else if (kind == "LU") {
    json::expect_names(description, {"kind", "order", "indices"});
    layers.push_back(std::make_unique<Lu<Scalar>>(place.lines()));
    place.columns = columns_behind(description, place.columns);
  } else if (kind == "Householder") {
    json::expect_names(description, {"kind", "count"});
    const Index count = json::integer(json::member(description, "count"), "count", 1, kMostBlocks);
    layers.push_back(std::make_unique<Householder<Scalar>>(place.lines(), count));
  } else if (kind == "Permutation") {
    json::expect_names(description, {"kind", "order", "indices"});
    place.columns = columns_behind(description, place.columns);
  } else {
    unknown("layer", kind);
  }
}

}  // namespace registry
}  // namespace pushforward
