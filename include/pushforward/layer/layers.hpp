// The table of layers.
#pragma once

#include <memory>

#include "pushforward/description/limits.hpp"
#include "pushforward/description/registry.hpp"
#include "pushforward/layer/actnorm.hpp"
#include "pushforward/layer/autoregressive.hpp"
#include "pushforward/layer/coupling.hpp"
#include "pushforward/layer/householder.hpp"
#include "pushforward/layer/lu.hpp"
#include "pushforward/layer/place.hpp"
#include "pushforward/network/networks.hpp"
#include "pushforward/transform/transforms.hpp"

namespace pushforward {

template <class Scalar>
std::unique_ptr<Transform<Scalar>> transform_of(const Json& layer) {
  const Json& description = json::member(layer, "transform");
  return transforms<Scalar>().of(description)(description);
}

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_coupling(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "transform", "conditioner", "mask", "unconditional", "kept"});
  const auto mask = json::booleans_member(description, "kept");
  if (mask.size() != place.columns.size()) throw std::invalid_argument("a coupling's mask needs one entry per feature");
  std::vector<Index> kept, moved;
  for (std::size_t i = 0; i < mask.size(); ++i) (mask[i] ? kept : moved).push_back(place.columns[i]);
  if (moved.empty()) throw std::invalid_argument("a coupling's mask keeps every feature");
  const Json& conditioner = json::member(description, "conditioner");
  return std::make_unique<Coupling<Scalar>>(
      kept, moved, place.domains, place.context,
      description.contains("unconditional") && json::boolean_member(description, "unconditional"),
      transform_of<Scalar>(description),
      [&](const NetworkPorts& ports) { return networks<Scalar>().of(conditioner)(conditioner, ports, nullptr); });
}

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_autoregressive(const Json& description, const Place& place) {
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
  HiddenUnits units;
  for (const Json& layer : json::array_member(description, "units")) {
    std::vector<Index> ends;
    for (const Index count : json::integers(layer, "units", 0, limits::kWidth.high))
      ends.push_back((ends.empty() ? 0 : ends.back()) + count);
    if (ends.size() != passes.size())
      throw std::invalid_argument("an autoregressive layer needs the number of units of each pass");
    units.push_back(std::move(ends));
  }
  const auto one_pass = json::string_member(description, "one_pass");
  if (one_pass != "inverse" && one_pass != "forward")
    throw std::invalid_argument("unknown direction " + json::quote(one_pass));
  const Json& conditioner = json::member(description, "conditioner");
  return std::make_unique<Autoregressive<Scalar>>(
      passes, place.domains, place.context, one_pass == "inverse" ? Direction::inverse : Direction::forward,
      transform_of<Scalar>(description),
      [&](const NetworkPorts& ports) { return networks<Scalar>().of(conditioner)(conditioner, ports, &units); });
}

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_actnorm(const Json& description, const Place& place) {
  json::expect_names(description, {"kind"});
  return std::make_unique<ActNorm<Scalar>>(place.columns_on_line());
}

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_lu(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "order", "indices"});
  return std::make_unique<Lu<Scalar>>(place.columns_on_line());
}

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_householder(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "count"});
  return std::make_unique<Householder<Scalar>>(place.columns_on_line(),
                                               json::integer_member(description, "count", limits::kReflections));
}

// A permutation moves no data: it renames the columns that the next layers see.
template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_permutation(const Json& description, const Place&) {
  json::expect_names(description, {"kind", "order", "indices"});
  return nullptr;
}

// The columns after a permutation, x_i = z_indices[i].
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

template <class Scalar>
struct LayerEntry {
  // The layer at its place; null if it only renames columns.
  std::unique_ptr<Layer<Scalar>> (*make)(const Json&, const Place&);
  // The columns that hold the features on the layer's x side, from those on its z side; null if they are the same.
  std::vector<Index> (*columns_behind)(const Json&, const std::vector<Index>&) = nullptr;
};

template <class Scalar>
Registry<LayerEntry<Scalar>>& layers() {
  static Registry<LayerEntry<Scalar>> table("layer", {{"Coupling", {&make_coupling<Scalar>}},
                                                      {"Autoregressive", {&make_autoregressive<Scalar>}},
                                                      {"ActNorm", {&make_actnorm<Scalar>}},
                                                      {"LU", {&make_lu<Scalar>, &permuted}},
                                                      {"Householder", {&make_householder<Scalar>}},
                                                      {"Permutation", {&make_permutation<Scalar>, &permuted}}});
  return table;
}

}  // namespace pushforward
