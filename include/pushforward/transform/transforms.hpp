// The table of elementwise transforms.
#pragma once

#include <memory>

#include "pushforward/description/limits.hpp"
#include "pushforward/description/registry.hpp"
#include "pushforward/transform/additive.hpp"
#include "pushforward/transform/affine.hpp"
#include "pushforward/transform/rational_quadratic.hpp"

namespace pushforward {

template <class Scalar>
std::unique_ptr<Transform<Scalar>> make_additive(const Json& description) {
  json::expect_names(description, {"kind"});
  return std::make_unique<LineTransform<Scalar, Additive<Scalar>>>(Additive<Scalar>());
}

template <class Scalar>
std::unique_ptr<Transform<Scalar>> make_affine(const Json& description) {
  json::expect_names(description, {"kind", "max_log_scale"});
  return std::make_unique<LineTransform<Scalar, Affine<Scalar>>>(
      Affine<Scalar>(json::number_member(description, "max_log_scale", limits::kMaxLogScale)));
}

template <class Scalar>
std::unique_ptr<Transform<Scalar>> make_rational_quadratic(const Json& description) {
  json::expect_names(description, {"kind", "bins", "bound", "min_width", "min_height", "min_slope", "scheme"});
  SplineScheme scheme = SplineScheme::floor;
  if (description.contains("scheme")) {
    const auto name = json::string_member(description, "scheme");
    if (name == "clip")
      scheme = SplineScheme::clip;
    else if (name != "floor")
      throw std::invalid_argument("unknown scheme " + json::quote(name));
  }
  const SplineOptions options{json::integer_member(description, "bins", limits::kBins),
                              json::number_member(description, "bound", limits::kBound),
                              json::number_member(description, "min_width", limits::kFraction),
                              json::number_member(description, "min_height", limits::kFraction),
                              json::number_member(description, "min_slope", limits::kFraction),
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

template <class Scalar>
using MakeTransform = std::unique_ptr<Transform<Scalar>> (*)(const Json&);

template <class Scalar>
Registry<MakeTransform<Scalar>>& transforms() {
  static Registry<MakeTransform<Scalar>> table("transform", {{"Additive", &make_additive<Scalar>},
                                                             {"Affine", &make_affine<Scalar>},
                                                             {"RationalQuadratic", &make_rational_quadratic<Scalar>}});
  return table;
}

}  // namespace pushforward
