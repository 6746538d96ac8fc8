// An elementwise transform: a monotone map of one feature whose parameters differ from row to row.
#pragma once

#include <stdexcept>
#include <string>

#include "pushforward/domain.hpp"
#include "pushforward/layer.hpp"

namespace pushforward {

template <class Scalar>
class Transform {
 public:
  virtual ~Transform() = default;

  // Parameters of a feature on that domain. Throws std::invalid_argument when the transform would leave the domain.
  virtual Index parameter_count(Domain domain) const = 0;

  // Moves one tile column in place and adds the logarithm of the slope. theta: (kTileRows, parameter_count), may be
  // overwritten with what the adjoint takes up.
  virtual void map(Direction direction, Domain domain, Index padded, Scalar* theta, Scalar* state,
                   double* log_det) const = 0;

  // The adjoint of that map, from both sides of it and what it left in theta. dstate: derivative by the result,
  // replaced by that by the argument. dtheta: written.
  virtual void vjp(Direction direction, Domain domain, Index padded, const Scalar* theta, const Scalar* z,
                   const Scalar* x, const Scalar* dlog_det, Scalar* dstate, Scalar* dtheta) const = 0;
};

// What a kernel for one lane block does to a whole column.
template <class Scalar, class Kernel>
void map_column(const Kernel& kernel, Direction direction, Index padded, Scalar* theta, Scalar* state,
                double* log_det) {
  for (Index row = 0; row < padded; row += kLanes) {
    const Lanes<Scalar> from = lanes(state + row);
    Lanes<Scalar> slope;
    lanes(state + row) = direction == Direction::forward ? kernel.forward(theta + row, from, slope)
                                                         : kernel.inverse(theta + row, from, slope);
    lanes(log_det + row) += slope.template cast<double>();
  }
}

template <class Scalar, class Kernel>
void vjp_column(const Kernel& kernel, Direction direction, Index padded, const Scalar* theta, const Scalar* z,
                const Scalar* x, const Scalar* dlog_det, Scalar* dstate, Scalar* dtheta) {
  for (Index row = 0; row < padded; row += kLanes) {
    const Lanes<Scalar> zs = lanes(z + row), xs = lanes(x + row), seed = lanes(dstate + row),
                        slope_seed = lanes(dlog_det + row);
    lanes(dstate + row) = direction == Direction::forward
                              ? kernel.forward_vjp(theta + row, zs, xs, seed, slope_seed, dtheta + row)
                              : kernel.inverse_vjp(theta + row, zs, xs, seed, slope_seed, dtheta + row);
  }
}

// A transform of the line by one kernel.
template <class Scalar, class Kernel>
class LineTransform final : public Transform<Scalar> {
 public:
  explicit LineTransform(Kernel kernel) : kernel_(std::move(kernel)) {}

  Index parameter_count(Domain domain) const override {
    if (domain != Domain::line)
      throw std::invalid_argument(
          "Additive() and Affine() would take a circular or boxed feature out of its range; "
          "RationalQuadratic() keeps to it");
    return kernel_.parameter_count();
  }

  void map(Direction direction, Domain, Index padded, Scalar* theta, Scalar* state, double* log_det) const override {
    map_column(kernel_, direction, padded, theta, state, log_det);
  }

  void vjp(Direction direction, Domain, Index padded, const Scalar* theta, const Scalar* z, const Scalar* x,
           const Scalar* dlog_det, Scalar* dstate, Scalar* dtheta) const override {
    vjp_column(kernel_, direction, padded, theta, z, x, dlog_det, dstate, dtheta);
  }

 private:
  Kernel kernel_;
};

}  // namespace pushforward
