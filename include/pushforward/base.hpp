// Base densities: what the latent side of a flow is distributed as.
#pragma once

#include "pushforward/tile.hpp"

namespace pushforward {

template <class Scalar>
class Base {
 public:
  virtual ~Base() = default;
  // Adds log p(z) of each row to log_prob.
  virtual void log_prob(Index padded, Index dim, const Scalar* z, double* log_prob) const = 0;
  // dz = dlog_prob * d log p / dz, written.
  virtual void vjp(Index padded, Index dim, const Scalar* z, const Scalar* dlog_prob, Scalar* dz) const = 0;
};

// Independent standard normals: log p(z) = -sum_i z_i^2 / 2 - (dim / 2) log(2 pi).
template <class Scalar>
class Normal final : public Base<Scalar> {
 public:
  void log_prob(Index padded, Index dim, const Scalar* z, double* log_prob) const override {
    constexpr double kHalfLogTwoPi = 0.91893853320467274178;
    for (Index row = 0; row < padded; row += kLanes) {
      Lanes<double> sum = Lanes<double>::Constant(-kHalfLogTwoPi * static_cast<double>(dim));
      for (Index i = 0; i < dim; ++i) sum -= 0.5 * lanes(z + i * kTileRows + row).template cast<double>().square();
      lanes(log_prob + row) += sum;
    }
  }

  void vjp(Index padded, Index dim, const Scalar* z, const Scalar* dlog_prob, Scalar* dz) const override {
    for (Index i = 0; i < dim; ++i)
      for (Index row = 0; row < padded; row += kLanes)
        lanes(dz + i * kTileRows + row) = -lanes(z + i * kTileRows + row) * lanes(dlog_prob + row);
  }
};

}  // namespace pushforward
