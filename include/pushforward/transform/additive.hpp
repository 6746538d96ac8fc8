// x = z + t: the volume-preserving coupling of NICE (Dinh, Krueger, Bengio 2014, section 3.2).
#pragma once

#include "pushforward/description/json.hpp"
#include "pushforward/transform/transform.hpp"

namespace pushforward {

template <class Scalar>
struct Additive {
  using V = Vec<Scalar>;

  Index parameter_count() const { return 1; }  // t
  Index saved_columns() const { return 0; }
  std::vector<bool> odd_parameters() const { return {true}; }

  V forward(FeatureCache<Scalar> cache, V z, V& log_det) const {
    log_det = 0;
    return z + V::load(cache.theta[0]);
  }

  V inverse(FeatureCache<Scalar> cache, V x, V& log_det) const {
    log_det = 0;
    return x - V::load(cache.theta[0]);
  }

  // dt = dx, dz = dx
  V forward_vjp(FeatureCache<const Scalar>, V dx, V, Columns<Scalar> dtheta) const {
    dx.store(dtheta[0]);
    return dx;
  }

  // dt = -dz, dx = dz
  V inverse_vjp(FeatureCache<const Scalar>, V dz, V, Columns<Scalar> dtheta) const {
    (-dz).store(dtheta[0]);
    return dz;
  }
};

template <class Scalar>
std::unique_ptr<Transform<Scalar>> make_additive(const Json& description) {
  json::expect_names(description, {"kind"});
  return std::make_unique<LineTransform<Scalar, Additive<Scalar>>>(Additive<Scalar>());
}

}  // namespace pushforward
