// An elementwise transform: a monotone map of one feature whose parameters differ from row to row.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/tile.hpp"
#include "pushforward/tile/vec.hpp"

namespace pushforward {

// The columns of one feature in its layer's cache. A map reads the feature's parameters from theta,
// (kTileRows, parameter_count), and leaves there, and in saved, (kTileRows, saved_columns), what its adjoint needs.
// saved is null if no adjoint follows.
template <class T>
struct FeatureCache {
  Columns<T> theta, saved;

  FeatureCache from_row(Index row) const { return {theta.from_row(row), saved ? saved.from_row(row) : saved}; }
  operator FeatureCache<const T>() const { return {theta, saved}; }
};

template <class Scalar>
class Transform {
 public:
  virtual ~Transform() = default;

  // The number of parameters of a feature on that domain. Throws std::invalid_argument if the transform can leave the
  // domain.
  virtual Index parameter_count(Domain domain) const = 0;
  virtual Index saved_columns(Domain domain) const = 0;

  // Of each parameter whether it must change its sign with the feature, for the map to commute with the sign. Throws
  // std::invalid_argument if the transform has no such parameters.
  virtual std::vector<bool> odd_parameters() const {
    throw std::invalid_argument("only Additive() and Affine() commute with the sign of the features");
  }

  // The part of a map that depends on the parameters alone: it replaces them in place. A map follows.
  virtual void prepare(Domain, Index, FeatureCache<Scalar>) const {}

  // Moves one column of the state in place, by prepared parameters, and adds the logarithm of the slope to log_det.
  virtual void map(Direction direction, Domain domain, Index padded, FeatureCache<Scalar> cache, Scalar* state,
                   double* log_det) const = 0;

  // The adjoint of that map. dstate: the derivative by the result on entry, by the argument on return. dtheta:
  // (kTileRows, parameter_count), written.
  virtual void vjp(Direction direction, Domain domain, Index padded, FeatureCache<const Scalar> cache,
                   const Scalar* dlog_det, Scalar* dstate, Columns<Scalar> dtheta) const = 0;
};

// Applies a kernel, which maps one register of rows, to a whole column.
template <class Scalar, class Kernel>
void map_column(const Kernel& kernel, Direction direction, Index padded, FeatureCache<Scalar> cache, Scalar* state,
                double* log_det) {
  using V = Vec<Scalar>;
  alignas(64) Scalar log_slopes[kTileRows];
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V from = V::load(state + row);
    V log_slope;
    const V to = direction == Direction::forward ? kernel.forward(cache.from_row(row), from, log_slope)
                                                 : kernel.inverse(cache.from_row(row), from, log_slope);
    to.store(state + row);
    log_slope.store(log_slopes + row);
  }
  for (Index row = 0; row < padded; row += kLanes)
    lanes(log_det + row) += lanes(log_slopes + row).template cast<double>();
}

template <class Scalar, class Kernel>
void vjp_column(const Kernel& kernel, Direction direction, Index padded, FeatureCache<const Scalar> cache,
                const Scalar* dlog_det, Scalar* dstate, Columns<Scalar> dtheta) {
  using V = Vec<Scalar>;
  for (Index row = 0; row < padded; row += V::kWidth) {
    const V dresult = V::load(dstate + row), dlog_slope = V::load(dlog_det + row);
    const V dargument = direction == Direction::forward
                            ? kernel.forward_vjp(cache.from_row(row), dresult, dlog_slope, dtheta.from_row(row))
                            : kernel.inverse_vjp(cache.from_row(row), dresult, dlog_slope, dtheta.from_row(row));
    dargument.store(dstate + row);
  }
}

// A transform of features on the line, made of one kernel.
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
  std::vector<bool> odd_parameters() const override { return kernel_.odd_parameters(); }

  void map(Direction direction, Domain, Index padded, FeatureCache<Scalar> cache, Scalar* state,
           double* log_det) const override {
    map_column(kernel_, direction, padded, cache, state, log_det);
  }

  void vjp(Direction direction, Domain, Index padded, FeatureCache<const Scalar> cache, const Scalar* dlog_det,
           Scalar* dstate, Columns<Scalar> dtheta) const override {
    vjp_column(kernel_, direction, padded, cache, dlog_det, dstate, dtheta);
  }

 private:
  Kernel kernel_;
};

}  // namespace pushforward
