// Activation functions of the networks: values, and the slope that the adjoint multiplies with.
#pragma once

#include <array>
#include <cmath>

#include "pushforward/tile/columns.hpp"

namespace pushforward {

enum class Activation { relu, silu, tanh, gelu, elu, leaky_relu };

struct NamedActivation {
  const char* name;
  Activation activation;
};
inline constexpr std::array<NamedActivation, 6> kActivations{{{"relu", Activation::relu},
                                                              {"silu", Activation::silu},
                                                              {"tanh", Activation::tanh},
                                                              {"gelu", Activation::gelu},
                                                              {"elu", Activation::elu},
                                                              {"leaky_relu", Activation::leaky_relu}}};

// Whether the slope has to be kept beside the value; the others give theirs back from the value alone.
constexpr bool keeps_slope(Activation activation) {
  return activation == Activation::silu || activation == Activation::gelu;
}

inline constexpr double kLeak = 0.01;  // slope of leaky_relu below 0

// The rectifiers, max(u, leak u), cost so little that the dense layers apply them to their sums.
constexpr bool is_rectifier(Activation activation) {
  return activation == Activation::relu || activation == Activation::leaky_relu;
}
constexpr double leak_of(Activation activation) { return activation == Activation::leaky_relu ? kLeak : 0.0; }

namespace detail {

// Calls f with the activation's functions: value(u, slope) returns the activation and sets its slope; slope_of(a) is
// the slope where the activation is a.
template <class Scalar, class F>
void with_activation(Activation activation, F&& f) {
  using Block = Lanes<Scalar>;
  const auto none = [](const Block&) { return Block(Block::Zero()); };
  switch (activation) {
    case Activation::relu: {
      const auto slope_of = [](const Block& a) -> Block {
        return (a > Scalar(0)).select(Block(Block::Ones()), Scalar(0));
      };
      f([](const Block& u) -> Block { return u.max(Scalar(0)); }, slope_of);
      break;
    }
    case Activation::leaky_relu: {
      const auto slope_of = [](const Block& a) -> Block {
        return (a > Scalar(0)).select(Block(Block::Ones()), static_cast<Scalar>(kLeak));
      };
      f([](const Block& u) -> Block { return u.max(static_cast<Scalar>(kLeak) * u); }, slope_of);
      break;
    }
    case Activation::tanh: {
      const auto slope_of = [](const Block& a) -> Block { return Scalar(1) - a.square(); };
      f([](const Block& u) -> Block { return u.tanh(); }, slope_of);
      break;
    }
    case Activation::elu: {
      // u above 0, exp(u) - 1 below: there the slope exp(u) is a + 1
      const auto slope_of = [](const Block& a) -> Block { return a.min(Scalar(0)) + Scalar(1); };
      f([](const Block& u) -> Block { return (u > Scalar(0)).select(u, u.min(Scalar(0)).expm1()); }, slope_of);
      break;
    }
    case Activation::silu:
      // a = u sigma(u), a' = sigma + a (1 - sigma)
      f(
          [](const Block& u, Block& slope) -> Block {
            const Block sigma = (Scalar(1) + (-u).exp()).inverse();
            const Block a = u * sigma;
            slope = sigma + a * (Scalar(1) - sigma);
            return a;
          },
          none);
      break;
    case Activation::gelu:
      // a = u Phi(u), a' = Phi(u) + u phi(u)
      f(
          [](const Block& u, Block& slope) -> Block {
            constexpr auto half_root = static_cast<Scalar>(0.70710678118654752440);
            constexpr auto peak = static_cast<Scalar>(0.39894228040143267794);
            const Block mass = u.unaryExpr([](Scalar v) { return Scalar(0.5) * std::erfc(-v * half_root); });
            slope = mass + u * peak * (Scalar(-0.5) * u.square()).exp();
            return u * mass;
          },
          none);
      break;
  }
}

}  // namespace detail

// values = activation(inputs), which may be the same place. slopes: written unless null; not null when keeps_slope.
template <class Scalar>
void activate(Activation activation, Index padded, Index columns, const Scalar* inputs, Scalar* values,
              Scalar* slopes) {
  using Block = Lanes<Scalar>;
  detail::with_activation<Scalar>(activation, [&](const auto& value, const auto& slope_of) {
    for_each_lanes(padded, columns, [&](Index at) {
      if constexpr (std::is_invocable_v<decltype(value), const Block&>) {
        const Block a = value(lanes(inputs + at));
        lanes(values + at) = a;
        if (slopes) lanes(slopes + at) = slope_of(a);
      } else {
        Block slope;
        lanes(values + at) = value(lanes(inputs + at), slope);
        lanes(slopes + at) = slope;
      }
    });
  });
}

// slopes = the activation's slope where its value is `values`, for those that do not keep it; may be the same place.
template <class Scalar>
void slopes_of(Activation activation, Index padded, Index columns, const Scalar* values, Scalar* slopes) {
  detail::with_activation<Scalar>(activation, [&](const auto&, const auto& slope_of) {
    for_each_lanes(padded, columns, [&](Index at) {
      const Lanes<Scalar> a = lanes(values + at);
      lanes(slopes + at) = slope_of(a);
    });
  });
}

}  // namespace pushforward
