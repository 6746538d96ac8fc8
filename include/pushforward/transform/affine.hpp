// x = z exp(s) + t: the affine coupling of RealNVP (Dinh, Sohl-Dickstein, Bengio 2017, equations 4 and 5), its
// log-scale softly bounded: s = a / (1 + |a| / c) lies in (-c, c), is a for small a, and costs no exponential. Without
// a bound one large network output overflows the exponential and ends a fit.
#pragma once

#include "pushforward/tile.hpp"

namespace pushforward {

template <class Scalar>
class Affine {
 public:
  using Block = Lanes<Scalar>;

  explicit Affine(double max_log_scale) : inverse_bound_(static_cast<Scalar>(1.0 / max_log_scale)) {}

  Index parameter_count() const { return 2; }  // a, t

  Block forward(const Scalar* theta, const Block& z, Block& log_det) const {
    const Block s = log_scale(theta);
    log_det = s;
    return z * s.exp() + shift(theta);
  }

  Block inverse(const Scalar* theta, const Block& x, Block& log_det) const {
    const Block s = log_scale(theta);
    log_det = -s;
    return (x - shift(theta)) * (-s).exp();
  }

  // x = z exp(s) + t, log_det = s:  ds = dx z exp(s) + dlog_det, dt = dx, dz = dx exp(s)
  Block forward_vjp(const Scalar* theta, const Block& z, const Block&, const Block& dx, const Block& dlog_det,
                    Scalar* dtheta) const {
    const Block dz = dx * log_scale(theta).exp();
    lanes(dtheta) = (dz * z + dlog_det) * log_scale_slope(theta);
    lanes(dtheta + kTileRows) = dx;
    return dz;
  }

  // z = (x - t) exp(-s), log_det = -s:  ds = -dz z - dlog_det, dt = -dz exp(-s), dx = dz exp(-s)
  Block inverse_vjp(const Scalar* theta, const Block& z, const Block&, const Block& dz, const Block& dlog_det,
                    Scalar* dtheta) const {
    const Block dx = dz * (-log_scale(theta)).exp();
    lanes(dtheta) = -(dz * z + dlog_det) * log_scale_slope(theta);
    lanes(dtheta + kTileRows) = -dx;
    return dx;
  }

 private:
  static auto shift(const Scalar* theta) { return lanes(theta + kTileRows); }

  Block log_scale(const Scalar* theta) const {
    const Block a = lanes(theta);
    return a / (Scalar(1) + a.abs() * inverse_bound_);
  }

  // ds/da = 1 / (1 + |a| / c)^2
  Block log_scale_slope(const Scalar* theta) const {
    return (Scalar(1) + lanes(theta).abs() * inverse_bound_).square().inverse();
  }

  Scalar inverse_bound_;
};

}  // namespace pushforward
