// x = z + t: the volume-preserving coupling of NICE (Dinh, Krueger, Bengio 2014, section 3.2).
#pragma once

#include "pushforward/tile.hpp"

namespace pushforward {

template <class Scalar>
struct Additive {
  using Block = Lanes<Scalar>;

  Index parameter_count() const { return 1; }  // t

  Block forward(const Scalar* theta, const Block& z, Block& log_det) const {
    log_det.setZero();
    return z + lanes(theta);
  }

  Block inverse(const Scalar* theta, const Block& x, Block& log_det) const {
    log_det.setZero();
    return x - lanes(theta);
  }

  // dt = dx, dz = dx
  Block forward_vjp(const Scalar*, const Block&, const Block&, const Block& dx, const Block&, Scalar* dtheta) const {
    lanes(dtheta) = dx;
    return dx;
  }

  // dt = -dz, dx = dz
  Block inverse_vjp(const Scalar*, const Block&, const Block&, const Block& dz, const Block&, Scalar* dtheta) const {
    lanes(dtheta) = -dz;
    return dz;
  }
};

}  // namespace pushforward
