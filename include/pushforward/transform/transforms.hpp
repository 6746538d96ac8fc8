// The table of elementwise transforms.
#pragma once

#include "pushforward/description/registry.hpp"
#include "pushforward/transform/additive.hpp"
#include "pushforward/transform/affine.hpp"
#include "pushforward/transform/rational_quadratic.hpp"

namespace pushforward {

template <class Scalar>
using MakeTransform = std::unique_ptr<Transform<Scalar>> (*)(const Json&);

template <class Scalar>
Registry<MakeTransform<Scalar>>& transforms() {
  static Registry<MakeTransform<Scalar>> table("transform", {{"Additive", &make_additive<Scalar>},
                                                             {"Affine", &make_affine<Scalar>},
                                                             {"RationalQuadratic", &make_rational_quadratic<Scalar>}});
  return table;
}

// The "transform" of a layer.
template <class Scalar>
std::unique_ptr<Transform<Scalar>> transform_of(const Json& layer) {
  const Json& description = json::member(layer, "transform");
  return transforms<Scalar>().of(description)(description);
}

}  // namespace pushforward
