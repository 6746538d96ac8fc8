// Activation functions of the conditioners: values in place, and the slope that the adjoint multiplies with.
#pragma once

#include "pushforward/tile.hpp"

namespace pushforward {

enum class Activation { relu, silu, tanh };

// Whether the slope has to be kept beside the value; relu and tanh give theirs back from the value alone.
constexpr bool keeps_slope(Activation activation) { return activation == Activation::silu; }

// values: pre-activations, replaced by activations. slopes: written when keeps_slope, untouched otherwise.
template <class Scalar>
void activate(Activation activation, Index padded, Index columns, Scalar* values, Scalar* slopes) {
  switch (activation) {
    case Activation::relu:
      for_each_lanes(padded, columns, [&](Index at) { lanes(values + at) = lanes(values + at).max(Scalar(0)); });
      break;
    case Activation::tanh:
      for_each_lanes(padded, columns, [&](Index at) { lanes(values + at) = lanes(values + at).tanh(); });
      break;
    case Activation::silu:
      // a = u sigma(u), a' = sigma + a (1 - sigma)
      for_each_lanes(padded, columns, [&](Index at) {
        const Lanes<Scalar> u = lanes(values + at);
        const Lanes<Scalar> sigma = (Scalar(1) + (-u).exp()).inverse();
        const Lanes<Scalar> a = u * sigma;
        lanes(values + at) = a;
        lanes(slopes + at) = sigma + a * (Scalar(1) - sigma);
      });
      break;
  }
}

// grad: derivative by the activations, replaced by the derivative by the pre-activations.
template <class Scalar>
void activation_vjp(Activation activation, Index padded, Index columns, const Scalar* values, const Scalar* slopes,
                    Scalar* grad) {
  switch (activation) {
    case Activation::relu:
      for_each_lanes(padded, columns, [&](Index at) {
        lanes(grad + at) = (lanes(values + at) > Scalar(0)).select(lanes(grad + at), Scalar(0));
      });
      break;
    case Activation::tanh:
      for_each_lanes(padded, columns, [&](Index at) { lanes(grad + at) *= Scalar(1) - lanes(values + at).square(); });
      break;
    case Activation::silu:
      for_each_lanes(padded, columns, [&](Index at) { lanes(grad + at) *= lanes(slopes + at); });
      break;
  }
}

}  // namespace pushforward
