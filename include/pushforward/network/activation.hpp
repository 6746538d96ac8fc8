// Activation functions of the networks: their values, and their slopes for the adjoint.
#pragma once

#include <array>
#include <cmath>

#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/normal.hpp"

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

// Whether the slope is kept beside the value. The slope of the other activations follows from their value.
constexpr bool keeps_slope(Activation activation) {
  return activation == Activation::silu || activation == Activation::gelu;
}

inline constexpr double kLeak = 0.01;  // slope of leaky_relu below 0

// The rectifiers, max(u, leak u), are cheap enough for the dense layers to apply them to their sums.
constexpr bool is_rectifier(Activation activation) {
  return activation == Activation::relu || activation == Activation::leaky_relu;
}
constexpr double leak_of(Activation activation) { return activation == Activation::leaky_relu ? kLeak : 0.0; }

namespace detail {

// Calls f(value, slope_of) with the activation's functions. If the slope is kept, value(u, slope) returns the
// activation and sets the slope, and slope_of is not used. Otherwise value(u) returns the activation, and slope_of(a)
// is the slope where the activation is a.
template <class Scalar, class F>
void with_activation(Activation activation, F&& f) {
  using Block = Lanes<Scalar>;
  const auto unused = [](const Block&) { return Block(Block::Zero()); };
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
      // a = u sigma(u), a' = sigma + a (1 - sigma). 1 - sigma is exp(-u) sigma: a difference would have the rounding
      // error of sigma, and the slope that of sigma times u. Below -80 a is 0 to rounding, and exp(-u) infinite.
      f(
          [](const Block& u, Block& slope) -> Block {
            const Block held = u.max(Scalar(-80)), tail = (-held).exp();
            const Block sigma = (Scalar(1) + tail).inverse();
            const Block a = held * sigma;
            slope = sigma + a * (tail * sigma);
            return a;
          },
          unused);
      break;
    case Activation::gelu:
      // a = u Phi(u), a' = Phi(u) + u phi(u). Below -13.5 (-38 in double) a is 0 to rounding, and above
      // 13.5 it is u.
      f(
          [](const Block& u, Block& slope) -> Block {
            using V = Vec<Scalar>;
            constexpr double kLowest = std::is_same_v<Scalar, float> ? -13.5 : -38.0;
            constexpr double kPeak = 0.39894228040143267794;  // phi(0)
            Block a;
            for (Index i = 0; i < kLanes; i += V::kWidth) {
              const V held = max(V::load(u.data() + i), kLowest), near = min(held, -kLowest);
              const NormalValues<Scalar> normal = normal_values(near);
              fma(near * kPeak, normal.bell, normal.mass).store(slope.data() + i);
              (held * normal.mass).store(a.data() + i);
            }
            return a;
          },
          unused);
      break;
  }
}

}  // namespace detail

// values = activation(inputs) for `count` columns; `values` may be `inputs`. slopes: written unless null; must be given
// if keeps_slope(activation).
template <class Scalar>
void activate(Activation activation, Index padded, Index count, Columns<const Scalar> inputs, Columns<Scalar> values,
              Columns<Scalar> slopes) {
  using Block = Lanes<Scalar>;
  detail::with_activation<Scalar>(activation, [&](const auto& value, const auto& slope_of) {
    for_each_lanes(padded, count, [&](Index column, Index row) {
      if constexpr (std::is_invocable_v<decltype(value), const Block&>) {
        const Block a = value(lanes(inputs[column] + row));
        lanes(values[column] + row) = a;
        if (slopes) lanes(slopes[column] + row) = slope_of(a);
      } else {
        Block slope;
        lanes(values[column] + row) = value(lanes(inputs[column] + row), slope);
        lanes(slopes[column] + row) = slope;
      }
    });
  });
}

// slopes = the slope of an activation that does not keep it, from its values; `slopes` may be `values`.
template <class Scalar>
void slopes_of(Activation activation, Index padded, Index count, Columns<const Scalar> values, Columns<Scalar> slopes) {
  detail::with_activation<Scalar>(activation, [&](const auto&, const auto& slope_of) {
    for_each_lanes(padded, count, [&](Index column, Index row) {
      const Lanes<Scalar> a = lanes(values[column] + row);
      lanes(slopes[column] + row) = slope_of(a);
    });
  });
}

}  // namespace pushforward
