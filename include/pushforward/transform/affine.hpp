// x = z exp(s) + t: the affine coupling of RealNVP (Dinh, Sohl-Dickstein, Bengio 2017, equations 4 and 5), its
// log-scale softly bounded: s = a / (1 + |a| / c) lies in (-c, c), is a for small a, and costs no exponential. Without
// a bound one large network output overflows the exponential and ends a fit.
#pragma once

#include "pushforward/transform/transform.hpp"

namespace pushforward {

template <class Scalar>
class Affine {
 public:
  using V = Vec<Scalar>;

  explicit Affine(double max_log_scale) : inverse_bound_(static_cast<Scalar>(1.0 / max_log_scale)) {}

  Index parameter_count() const { return 2; }  // a, t; then ds/da, and the factor exp(s) or exp(-s)
  Index saved_columns() const { return 1; }    // z

  V forward(Cache<Scalar> cache, V z, V& log_det) const {
    const V t = V::load(cache.theta + kTileRows);
    log_det = log_scale(cache);
    const V factor = exp(log_det);
    if (cache.saved) {
      factor.store(cache.theta + kTileRows);
      z.store(cache.saved);
    }
    return z * factor + t;
  }

  V inverse(Cache<Scalar> cache, V x, V& log_det) const {
    const V t = V::load(cache.theta + kTileRows);
    log_det = -log_scale(cache);
    const V factor = exp(log_det);
    const V z = (x - t) * factor;
    if (cache.saved) {
      factor.store(cache.theta + kTileRows);
      z.store(cache.saved);
    }
    return z;
  }

  // x = z exp(s) + t, log_det = s:  ds = dx z exp(s) + dlog_det, dt = dx, dz = dx exp(s)
  V forward_vjp(Cache<const Scalar> cache, V dx, V dlog_det, Scalar* dtheta) const {
    const V slope = V::load(cache.theta), factor = V::load(cache.theta + kTileRows), z = V::load(cache.saved);
    const V dz = dx * factor;
    (fma(dz, z, dlog_det) * slope).store(dtheta);
    dx.store(dtheta + kTileRows);
    return dz;
  }

  // z = (x - t) exp(-s), log_det = -s:  ds = -dz z - dlog_det, dt = -dz exp(-s), dx = dz exp(-s)
  V inverse_vjp(Cache<const Scalar> cache, V dz, V dlog_det, Scalar* dtheta) const {
    const V slope = V::load(cache.theta), factor = V::load(cache.theta + kTileRows), z = V::load(cache.saved);
    const V dx = dz * factor;
    (-(fma(dz, z, dlog_det) * slope)).store(dtheta);
    (-dx).store(dtheta + kTileRows);
    return dx;
  }

 private:
  // s; a gives its place to the slope ds/da = 1 / (1 + |a| / c)^2.
  V log_scale(Cache<Scalar> cache) const {
    const V a = V::load(cache.theta), shrink = V(1) / fma(abs(a), inverse_bound_, V(1));
    (shrink * shrink).store(cache.theta);
    return a * shrink;
  }

  Scalar inverse_bound_;
};

}  // namespace pushforward
