// An elementwise transform: a monotone map of one feature whose parameters differ from row to row.
#pragma once

#include <stdexcept>
#include <string>

#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/tile.hpp"
#include "pushforward/tile/vec.hpp"

namespace pushforward {

// A map finds a feature's parameters in theta, (kTileRows, parameter_count). What its adjoint takes up it leaves there
// and in (kTileRows, saved_columns) more; saved is null where no adjoint follows.
template <class T>
struct Cache {
  T *theta, *saved;

  Cache at(Index row) const { return {theta + row, saved ? saved + row : nullptr}; }
  operator Cache<const T>() const { return {theta, saved}; }
};

template <class Scalar>
class Transform {
 public:
  virtual ~Transform() = default;

  // Parameters of a feature on that domain. Throws std::invalid_argument when the transform would leave the domain.
  virtual Index parameter_count(Domain domain) const = 0;
  virtual Index saved_columns(Domain domain) const = 0;

  // Moves one tile column in place and adds the logarithm of the slope.
  virtual void map(Direction direction, Domain domain, Index padded, Cache<Scalar> cache, Scalar* state,
                   double* log_det) const = 0;

  // The adjoint of that map. dstate: derivative by the result, replaced by that by the argument. dtheta: (kTileRows,
  // parameter_count), written.
  virtual void vjp(Direction direction, Domain domain, Index padded, Cache<const Scalar> cache, const Scalar* dlog_det,
                   Scalar* dstate, Scalar* dtheta) const = 0;
};

// What a kernel for one register of rows does to a whole column.
template <class Scalar, class Kernel>
void map_column(const Kernel& kernel, Direction direction, Index padded, Cache<Scalar> cache, Scalar* state,
                double* log_det) {
  using V = Vec<Scalar>;
  alignas(64) Scalar slopes[kTileRows];
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V from = V::load(state + row);
    V slope;
    const V to = direction == Direction::forward ? kernel.forward(cache.at(row), from, slope)
                                                 : kernel.inverse(cache.at(row), from, slope);
    to.store(state + row);
    slope.store(slopes + row);
  }
  for (Index row = 0; row < padded; row += kLanes) lanes(log_det + row) += lanes(slopes + row).template cast<double>();
}

template <class Scalar, class Kernel>
void vjp_column(const Kernel& kernel, Direction direction, Index padded, Cache<const Scalar> cache,
                const Scalar* dlog_det, Scalar* dstate, Scalar* dtheta) {
  using V = Vec<Scalar>;
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V seed = V::load(dstate + row), slope_seed = V::load(dlog_det + row);
    const V by_argument = direction == Direction::forward
                              ? kernel.forward_vjp(cache.at(row), seed, slope_seed, dtheta + row)
                              : kernel.inverse_vjp(cache.at(row), seed, slope_seed, dtheta + row);
    by_argument.store(dstate + row);
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

  Index saved_columns(Domain) const override { return kernel_.saved_columns(); }

  void map(Direction direction, Domain, Index padded, Cache<Scalar> cache, Scalar* state,
           double* log_det) const override {
    map_column(kernel_, direction, padded, cache, state, log_det);
  }

  void vjp(Direction direction, Domain, Index padded, Cache<const Scalar> cache, const Scalar* dlog_det, Scalar* dstate,
           Scalar* dtheta) const override {
    vjp_column(kernel_, direction, padded, cache, dlog_det, dstate, dtheta);
  }

 private:
  Kernel kernel_;
};

}  // namespace pushforward
