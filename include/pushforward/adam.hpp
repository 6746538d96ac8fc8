// Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) and
// clipping by the gradient's norm, in one pass over the parameters.
#pragma once

#include <cmath>

#include "pushforward/engine/gradient.hpp"

namespace pushforward {

struct AdamSettings {
  double learning_rate, beta1, beta2, eps, weight_decay;
  double clip_norm;  // infinity: no clipping
};

// A run of parameters, first ... last - 1.
struct ParameterRange {
  Index first, last;
};

// The parameters that weight decay is for: all of them, or runs in increasing order.
struct Decayed {
  bool all = true;
  const ParameterRange* runs = nullptr;
  Index count = 0;
};

// A moving average of the parameters: average += weight (parameters - average) after each update. Null for none.
template <class Scalar>
struct MovingAverage {
  Scalar* values = nullptr;
  double weight = 0;
};

// One update, number `step` (from 1), in place; length: the gradient's norm. When that is not finite nothing is
// changed.
template <class Scalar>
void adam_step(const AdamSettings& settings, Index step, Index count, Scalar* parameters, const Scalar* gradient,
               double length, Scalar* mean, Scalar* square, const Decayed& decayed, int threads,
               const MovingAverage<Scalar>& average = {}) {
  if (!std::isfinite(length)) return;
  const double t = static_cast<double>(step);
  const double correction = std::sqrt(1 - std::pow(settings.beta2, t));
  const auto clip = static_cast<Scalar>(length > settings.clip_norm ? settings.clip_norm / length : 1.0);
  const auto beta1 = static_cast<Scalar>(settings.beta1), beta2 = static_cast<Scalar>(settings.beta2);
  const auto rest1 = static_cast<Scalar>(1 - settings.beta1), rest2 = static_cast<Scalar>(1 - settings.beta2);
  // m^ / (sqrt(v^) + eps) with both bias corrections taken out of the loop
  const auto rate = static_cast<Scalar>(settings.learning_rate * correction / (1 - std::pow(settings.beta1, t)));
  const auto eps = static_cast<Scalar>(settings.eps * correction);
  const auto update = [&](Scalar keep, Scalar* parameter, const Scalar* slope, Scalar* m, Scalar* v) {
    const Lanes<Scalar> g = clip * Eigen::Map<const Lanes<Scalar>>(slope);
    Eigen::Map<Lanes<Scalar>> p(parameter), ms(m), vs(v);
    ms = beta1 * ms + rest1 * g;
    vs = beta2 * vs + rest2 * g.square();
    p = keep * p - rate * ms / (vs.sqrt() + eps);
  };
  const auto update_run = [&](Scalar keep, Index first, Index end) {
    Index i = first;
    for (; i + kLanes <= end; i += kLanes) update(keep, parameters + i, gradient + i, mean + i, square + i);
    if (i == end) return;
    // The rest goes through the same kernel, so that no entry's bits depend on its place.
    Scalar rest[4][kLanes] = {};
    std::copy(parameters + i, parameters + end, rest[0]);
    std::copy(gradient + i, gradient + end, rest[1]);
    std::copy(mean + i, mean + end, rest[2]);
    std::copy(square + i, square + end, rest[3]);
    update(keep, rest[0], rest[1], rest[2], rest[3]);
    std::copy_n(rest[0], end - i, parameters + i);
    std::copy_n(rest[2], end - i, mean + i);
    std::copy_n(rest[3], end - i, square + i);
  };
  const auto keep = static_cast<Scalar>(1 - settings.learning_rate * settings.weight_decay);
  const auto update_piece = [&](Index first, Index end) {
    if (decayed.all) {
      update_run(keep, first, end);
      return;
    }
    for (Index i = 0; i < decayed.count; ++i) {
      const ParameterRange& range = decayed.runs[i];
      if (range.last <= first) continue;
      if (range.first >= end) break;
      if (range.first > first) update_run(Scalar(1), first, range.first);
      first = std::max(first, range.first);
      update_run(keep, first, std::min(range.last, end));
      first = std::min(range.last, end);
    }
    if (first < end) update_run(Scalar(1), first, end);
  };
  const auto weight = static_cast<Scalar>(average.weight);
  const auto follow = [&](Scalar* values, const Scalar* parameter) {
    Eigen::Map<Lanes<Scalar>> a(values);
    a += weight * (Eigen::Map<const Lanes<Scalar>>(parameter) - a);
  };
  const auto average_piece = [&](Index first, Index end) {
    Index i = first;
    for (; i + kLanes <= end; i += kLanes) follow(average.values + i, parameters + i);
    if (i == end) return;
    Scalar rest[2][kLanes] = {};
    std::copy(average.values + i, average.values + end, rest[0]);
    std::copy(parameters + i, parameters + end, rest[1]);
    follow(rest[0], rest[1]);
    std::copy_n(rest[0], end - i, average.values + i);
  };
  parallel_pieces(count, kParameterPiece, threads, [&](Index, Index first, Index size) {
    const SubnormalMode mode(Subnormals::zero);
    update_piece(first, first + size);
    if (average.values) average_piece(first, first + size);
  });
}

}  // namespace pushforward
