// The table of networks, and of their activation functions.
#pragma once

#include "pushforward/description/limits.hpp"
#include "pushforward/description/registry.hpp"
#include "pushforward/network/network.hpp"

namespace pushforward {

inline Activation activation_of(const Json& description) {
  const auto name = json::string_member(description, "activation");
  for (const auto& named : kActivations)
    if (name == named.name) return named.activation;
  throw std::invalid_argument("unknown activation " + json::quote(name));
}

// The ends of the groups of units in each hidden layer.
using HiddenUnits = std::vector<std::vector<Index>>;

// Those of a description that gives the number of units in each group of each hidden layer.
inline HiddenUnits hidden_units(const Json& description, std::size_t groups) {
  HiddenUnits units;
  for (const Json& layer : json::array_member(description, "units")) {
    std::vector<Index> ends;
    for (const Index count : json::integers(layer, "units", 0, limits::kWidth.high))
      ends.push_back((ends.empty() ? 0 : ends.back()) + count);
    if (ends.size() != groups) throw std::invalid_argument("a masked network needs the number of units of each group");
    units.push_back(std::move(ends));
  }
  return units;
}

// The units of each hidden layer, by group. hidden: the layers' widths, as one group each. units: the groups of a
// masked network, which must add up to these widths; null for a network without masks.
inline HiddenUnits grouped(HiddenUnits hidden, const HiddenUnits* units) {
  if (!units) return hidden;
  if (units->size() != hidden.size()) throw std::invalid_argument("a masked network needs units of each layer");
  for (std::size_t i = 0; i < hidden.size(); ++i)
    if ((*units)[i].back() != hidden[i].back())
      throw std::invalid_argument("a masked network's units do not add up to its layer");
  return *units;
}

template <class Scalar>
Network<Scalar> make_mlp(const Json& description, const NetworkPorts& ports, const HiddenUnits* units) {
  json::expect_names(description, {"kind", "hidden", "activation"});
  HiddenUnits hidden;
  for (const Index width : json::integers_member(description, "hidden", limits::kWidth.low, limits::kWidth.high))
    hidden.push_back({width});
  return Network<Scalar>::mlp(ports, grouped(std::move(hidden), units), activation_of(description));
}

template <class Scalar>
Network<Scalar> make_resnet(const Json& description, const NetworkPorts& ports, const HiddenUnits* units) {
  json::expect_names(description, {"kind", "hidden", "blocks", "activation", "dropout"});
  const Index width = json::integer_member(description, "hidden", limits::kWidth);
  const Index blocks = json::integer_member(description, "blocks", limits::kBlocks);
  return Network<Scalar>::resnet(ports, grouped({{width}}, units).front(), blocks, activation_of(description),
                                 json::number_member(description, "dropout", limits::kDropout));
}

template <class Scalar>
using MakeNetwork = Network<Scalar> (*)(const Json&, const NetworkPorts&, const HiddenUnits*);

template <class Scalar>
Registry<MakeNetwork<Scalar>>& networks() {
  static Registry<MakeNetwork<Scalar>> table("conditioner",
                                             {{"MLP", &make_mlp<Scalar>}, {"ResNet", &make_resnet<Scalar>}});
  return table;
}

}  // namespace pushforward
