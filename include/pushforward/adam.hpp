// Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) and
// clipping by the gradient's norm, in one pass over the parameters after one for the norm.
#pragma once

#include <cmath>

#include "pushforward/parallel.hpp"

namespace pushforward {

struct AdamSettings {
  double learning_rate, beta1, beta2, eps, weight_decay;
  double clip_norm;  // infinity: no clipping
};

// Pieces of this many entries are the unit of threads and of the norm's partial sums, which are added in order: the
// result does not depend on the number of threads.
inline constexpr Index kAdamPiece = 8192;

// The Euclidean norm, summed in float64.
template <class Scalar>
double norm(Index count, const Scalar* values, int threads) {
  const Index pieces = (count + kAdamPiece - 1) / kAdamPiece;
  auto* partial = reinterpret_cast<double*>(Arena::of_this_thread().reserve(static_cast<std::size_t>(pieces) * 8));
  parallel_for(pieces, threads, [&](Index piece, int) {
    const Index first = piece * kAdamPiece, size = std::min(kAdamPiece, count - first);
    Lanes<double> sums = Lanes<double>::Zero();
    Index i = 0;
    for (; i + kLanes <= size; i += kLanes)
      sums += Eigen::Map<const Lanes<Scalar>>(values + first + i).template cast<double>().square();
    for (; i < size; ++i) sums[i % kLanes] += std::pow(static_cast<double>(values[first + i]), 2);
    partial[piece] = sums.sum();
  });
  double sum = 0;
  for (Index piece = 0; piece < pieces; ++piece) sum += partial[piece];
  return std::sqrt(sum);
}

// One update, number `step` (from 1), in place. Returns the gradient's norm before clipping; when that is not finite
// nothing is changed.
template <class Scalar>
double adam_step(const AdamSettings& settings, Index step, Index count, Scalar* parameters, const Scalar* gradient,
                 Scalar* mean, Scalar* square, int threads) {
  const double length = norm(count, gradient, threads);
  if (!std::isfinite(length)) return length;
  const double t = static_cast<double>(step);
  const double correction = std::sqrt(1 - std::pow(settings.beta2, t));
  const auto clip = static_cast<Scalar>(length > settings.clip_norm ? settings.clip_norm / length : 1.0);
  const auto beta1 = static_cast<Scalar>(settings.beta1), beta2 = static_cast<Scalar>(settings.beta2);
  const auto rest1 = static_cast<Scalar>(1 - settings.beta1), rest2 = static_cast<Scalar>(1 - settings.beta2);
  // m^ / (sqrt(v^) + eps) with both bias corrections taken out of the loop
  const auto rate = static_cast<Scalar>(settings.learning_rate * correction / (1 - std::pow(settings.beta1, t)));
  const auto eps = static_cast<Scalar>(settings.eps * correction);
  const auto keep = static_cast<Scalar>(1 - settings.learning_rate * settings.weight_decay);
  using Vector = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
  parallel_for((count + kAdamPiece - 1) / kAdamPiece, threads, [&](Index piece, int) {
    const Index first = piece * kAdamPiece, size = std::min(kAdamPiece, count - first);
    Eigen::Map<Vector> p(parameters + first, size), m(mean + first, size), v(square + first, size);
    Eigen::Map<const Vector> g(gradient + first, size);
    for (Index i = 0; i < size; i += kLanes) {
      const Index n = std::min(kLanes, size - i);
      const auto update = [&](auto&& ps, auto&& ms, auto&& vs, const auto& gs) {
        ms = beta1 * ms + rest1 * (clip * gs);
        vs = beta2 * vs + rest2 * (clip * gs).square();
        ps = keep * ps - rate * ms / (vs.sqrt() + eps);
      };
      if (n == kLanes)
        update(p.template segment<kLanes>(i), m.template segment<kLanes>(i), v.template segment<kLanes>(i),
               g.template segment<kLanes>(i));
      else
        update(p.segment(i, n), m.segment(i, n), v.segment(i, n), g.segment(i, n));
    }
  });
  return length;
}

}  // namespace pushforward
