// From a flow's description (JSON) to its layers: the one list of what there is.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "pushforward/actnorm.hpp"
#include "pushforward/base.hpp"
#include "pushforward/coupling.hpp"
#include "pushforward/json.hpp"
#include "pushforward/mlp.hpp"
#include "pushforward/transform/additive.hpp"
#include "pushforward/transform/affine.hpp"
#include "pushforward/transform/rational_quadratic.hpp"

namespace pushforward {

namespace registry {

[[noreturn]] inline void unknown(const char* what, const std::string& kind) {
  throw std::invalid_argument(std::string("unknown ") + what + " " + json::quote(kind));
}

inline std::string kind_of(const Json& description) { return json::string_member(description, "kind"); }

inline Activation activation(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  unknown("activation", name);
}

template <class Scalar>
std::unique_ptr<Base<Scalar>> base(const Json& description) {
  const auto kind = kind_of(description);
  if (kind == "Normal") {
    json::expect_names(description, {"kind"});
    return std::make_unique<Normal<Scalar>>();
  }
  unknown("base", kind);
}

template <class Scalar>
std::unique_ptr<Conditioner<Scalar>> conditioner(const Json& description, Index inputs, Index outputs) {
  const auto kind = kind_of(description);
  if (kind == "MLP") {
    json::expect_names(description, {"kind", "hidden", "activation"});
    // Below 2^31, products and sums of widths stay far from overflow.
    const auto hidden = json::integers_member(description, "hidden", 1, std::numeric_limits<std::int32_t>::max());
    return std::make_unique<Mlp<Scalar>>(inputs, hidden, outputs,
                                         activation(json::string_member(description, "activation")));
  }
  unknown("conditioner", kind);
}

// columns[i] is the column of the state that holds feature i where this layer stands.
template <class Scalar>
std::unique_ptr<Layer<Scalar>> coupling(const Json& description, const std::vector<Index>& columns, Index context) {
  const auto mask = json::booleans_member(description, "kept");
  if (mask.size() != columns.size()) throw std::invalid_argument("a coupling's mask needs one entry per feature");
  std::vector<Index> kept, moved;
  for (std::size_t i = 0; i < columns.size(); ++i) (mask[i] ? kept : moved).push_back(columns[i]);
  if (moved.empty()) throw std::invalid_argument("a coupling's mask keeps every feature");

  const auto build = [&](auto transform) -> std::unique_ptr<Layer<Scalar>> {
    const Index outputs = transform.parameter_count() * static_cast<Index>(moved.size());
    auto network = conditioner<Scalar>(json::member(description, "conditioner"),
                                       static_cast<Index>(kept.size()) + context, outputs);
    return std::make_unique<Coupling<Scalar, decltype(transform)>>(std::move(kept), std::move(moved), context,
                                                                   std::move(transform), std::move(network));
  };
  const Json& transform = json::member(description, "transform");
  const auto kind = kind_of(transform);
  // Above 0, and float32 holds it and its inverse.
  const auto number = [&](const char* name, double high) { return json::number_member(transform, name, 1e-30, high); };
  if (kind == "Additive") {
    json::expect_names(transform, {"kind"});
    return build(Additive<Scalar>());
  }
  if (kind == "Affine") {
    json::expect_names(transform, {"kind", "max_log_scale"});
    return build(Affine<Scalar>(number("max_log_scale", 100)));
  }
  if (kind == "RationalQuadratic") {
    json::expect_names(transform, {"kind", "bins", "bound", "min_width", "min_height", "min_slope"});
    return build(RationalQuadratic<Scalar>(json::integer_member(transform, "bins", 2), number("bound", 1e30),
                                           number("min_width", 1), number("min_height", 1), number("min_slope", 1)));
  }
  unknown("transform", kind);
}

// Appends the layer, or, for a permutation, renames the columns that the next layers see: x_i = z_indices[i] moves no
// data.
template <class Scalar>
void append(const Json& description, Index context, std::vector<Index>& columns,
            std::vector<std::unique_ptr<Layer<Scalar>>>& layers) {
  const auto kind = kind_of(description);
  if (kind == "Coupling") {
    json::expect_names(description, {"kind", "transform", "conditioner", "mask", "kept"});
    layers.push_back(coupling<Scalar>(description, columns, context));
  } else if (kind == "ActNorm") {
    json::expect_names(description, {"kind"});
    layers.push_back(std::make_unique<ActNorm<Scalar>>(columns));
  } else if (kind == "Permutation") {
    json::expect_names(description, {"kind", "order", "indices"});
    std::vector<Index> permuted;
    std::vector<bool> seen(columns.size(), false);
    for (const Index i : json::integers_member(description, "indices", 0, static_cast<Index>(columns.size()) - 1)) {
      if (seen[static_cast<std::size_t>(i)])
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
