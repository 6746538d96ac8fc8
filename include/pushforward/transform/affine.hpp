// x = z exp(s) + t: the affine coupling of RealNVP (Dinh, Sohl-Dickstein, Bengio 2017, equations 4 and 5) with a softly
// bounded log-scale. s = a / (1 + |a| / c) lies in (-c, c), is close to a for small a, and costs no exponential.
// Without a bound, one large output of a network overflows the exponential and ends a fit.
#pragma once

#include "pushforward/description/json.hpp"
#include "pushforward/transform/transform.hpp"

namespace pushforward {

template <class Scalar>
class Affine {
 public:
  using V = Vec<Scalar>;

  explicit Affine(double max_log_scale) : inverse_bound_(static_cast<Scalar>(1.0 / max_log_scale)) {}

  // The parameters are a and t. A map replaces a by ds/da, and, if an adjoint follows, t by the factor exp(s) or
  // exp(-s) that it multiplied with, and saves z.
  Index parameter_count() const { return 2; }
  Index saved_columns() const { return 1; }
  std::vector<bool> odd_parameters() const { return {false, true}; }

  V forward(FeatureCache<Scalar> cache, V z, V& log_det) const {
    const V t = V::load(cache.theta[1]);
    log_det = log_scale(cache);
    const V factor = exp(log_det);
    if (cache.saved) {
      factor.store(cache.theta[1]);
      z.store(cache.saved[0]);
    }
    return z * factor + t;
  }

  V inverse(FeatureCache<Scalar> cache, V x, V& log_det) const {
    const V t = V::load(cache.theta[1]);
    log_det = -log_scale(cache);
    const V factor = exp(log_det);
    const V z = (x - t) * factor;
    if (cache.saved) {
      factor.store(cache.theta[1]);
      z.store(cache.saved[0]);
    }
    return z;
  }

  // x = z exp(s) + t, log_det = s:  ds = dx z exp(s) + dlog_det, dt = dx, dz = dx exp(s)
  V forward_vjp(FeatureCache<const Scalar> cache, V dx, V dlog_det, Columns<Scalar> dtheta) const {
    const V slope = V::load(cache.theta[0]), factor = V::load(cache.theta[1]), z = V::load(cache.saved[0]);
    const V dz = dx * factor;
    (fma(dz, z, dlog_det) * slope).store(dtheta[0]);
    dx.store(dtheta[1]);
    return dz;
  }

  // z = (x - t) exp(-s), log_det = -s:  ds = -dz z - dlog_det, dt = -dz exp(-s), dx = dz exp(-s)
  V inverse_vjp(FeatureCache<const Scalar> cache, V dz, V dlog_det, Columns<Scalar> dtheta) const {
    const V slope = V::load(cache.theta[0]), factor = V::load(cache.theta[1]), z = V::load(cache.saved[0]);
    const V dx = dz * factor;
    (-(fma(dz, z, dlog_det) * slope)).store(dtheta[0]);
    (-dx).store(dtheta[1]);
    return dx;
  }

 private:
  // s; replaces a by the slope ds/da = 1 / (1 + |a| / c)^2.
  V log_scale(FeatureCache<Scalar> cache) const {
    const V a = V::load(cache.theta[0]), shrink = V(1) / fma(abs(a), inverse_bound_, V(1));
    (shrink * shrink).store(cache.theta[0]);
    return a * shrink;
  }

  Scalar inverse_bound_;
};

template <class Scalar>
std::unique_ptr<Transform<Scalar>> make_affine(const Json& description) {
  json::expect_names(description, {"kind", "max_log_scale"});
  return std::make_unique<LineTransform<Scalar, Affine<Scalar>>>(
      Affine<Scalar>(json::number_member(description, "max_log_scale", limits::kMaxLogScale)));
}

}  // namespace pushforward
