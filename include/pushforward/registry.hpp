// From a flow's description (JSON) to its layers: the one list of what there is.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>

#include "pushforward/actnorm.hpp"
#include "pushforward/base.hpp"
#include "pushforward/coupling.hpp"
#include "pushforward/mlp.hpp"
#include "pushforward/transform/additive.hpp"
#include "pushforward/transform/affine.hpp"

namespace pushforward {

using Json = nlohmann::json;

namespace registry {

[[noreturn]] inline void unknown(const char* what, const std::string& kind) {
  throw std::invalid_argument(std::string("unknown ") + what + " '" + kind + "'");
}

inline std::string kind_of(const Json& description) { return description.at("kind").get<std::string>(); }

inline Activation activation(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  unknown("activation", name);
}

template <class Scalar>
std::unique_ptr<Base<Scalar>> base(const Json& description) {
  const auto kind = kind_of(description);
  if (kind == "Normal") return std::make_unique<Normal<Scalar>>();
  unknown("base", kind);
}

template <class Scalar>
std::unique_ptr<Conditioner<Scalar>> conditioner(const Json& description, Index inputs, Index outputs) {
  const auto kind = kind_of(description);
  if (kind == "MLP")
    return std::make_unique<Mlp<Scalar>>(inputs, description.at("hidden").get<std::vector<Index>>(), outputs,
                                         activation(description.at("activation").get<std::string>()));
  unknown("conditioner", kind);
}

// columns[i] is the column of the state that holds feature i where this layer stands.
template <class Scalar>
std::unique_ptr<Layer<Scalar>> coupling(const Json& description, const std::vector<Index>& columns, Index context) {
  const auto mask = description.at("kept").get<std::vector<bool>>();
  if (mask.size() != columns.size()) throw std::invalid_argument("a coupling's mask needs one entry per feature");
  std::vector<Index> kept, moved;
  for (std::size_t i = 0; i < columns.size(); ++i) (mask[i] ? kept : moved).push_back(columns[i]);

  const auto build = [&](auto transform) -> std::unique_ptr<Layer<Scalar>> {
    const Index outputs = transform.parameter_count() * static_cast<Index>(moved.size());
    auto network =
        conditioner<Scalar>(description.at("conditioner"), static_cast<Index>(kept.size()) + context, outputs);
    return std::make_unique<Coupling<Scalar, decltype(transform)>>(std::move(kept), std::move(moved), context,
                                                                   std::move(transform), std::move(network));
  };
  const Json& transform = description.at("transform");
  const auto kind = kind_of(transform);
  if (kind == "Additive") return build(Additive<Scalar>());
  if (kind == "Affine") return build(Affine<Scalar>(transform.at("max_log_scale").get<double>()));
  unknown("transform", kind);
}

// Appends the layer, or, for a permutation, renames the columns that the next layers see: x_i = z_indices[i] moves no
// data.
template <class Scalar>
void append(const Json& description, Index context, std::vector<Index>& columns,
            std::vector<std::unique_ptr<Layer<Scalar>>>& layers) {
  const auto kind = kind_of(description);
  if (kind == "Coupling") {
    layers.push_back(coupling<Scalar>(description, columns, context));
  } else if (kind == "ActNorm") {
    layers.push_back(std::make_unique<ActNorm<Scalar>>(columns));
  } else if (kind == "Permutation") {
    const auto indices = description.at("indices").get<std::vector<Index>>();
    std::vector<Index> permuted;
    std::vector<bool> seen(columns.size(), false);
    for (const Index i : indices) {
      if (i < 0 || i >= static_cast<Index>(columns.size()) || seen[static_cast<std::size_t>(i)])
        throw std::invalid_argument("a permutation's indices must hold each feature once");
      seen[static_cast<std::size_t>(i)] = true;
      permuted.push_back(columns[static_cast<std::size_t>(i)]);
    }
    if (permuted.size() != columns.size()) throw std::invalid_argument("a permutation needs one index per feature");
    columns = std::move(permuted);
  } else {
    unknown("layer", kind);
  }
}

}  // namespace registry
}  // namespace pushforward
