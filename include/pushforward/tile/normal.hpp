// The distribution function of a standard normal in registers.
#pragma once

#include "pushforward/tile/vec.hpp"

namespace pushforward {

// Phi(u), and exp(-u^2 / 2), which is sqrt(2 pi) times the density.
template <class Scalar>
struct NormalValues {
  Vec<Scalar> mass, bell;
};

// Phi(-t) = exp(-t^2 / 2) R(t) for t = |u|, so that small masses keep their digits. (1 + sqrt(2) t) R(t) is a
// polynomial of q = (t - 4.5) / (t + 4.5), which maps [0, infinity) to [-1, 1) (Shepherd and Laframboise, Chebyshev
// approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity, Math. Comp. 36, 1981). The coefficients interpolate
// it at the roots of a Chebyshev polynomial.
//
// |u| counts as at most 13.5 (38 in double): beyond, the smaller mass is below the normal numbers.
template <class Scalar>
EIGEN_ALWAYS_INLINE NormalValues<Scalar> normal_values(Vec<Scalar> u) {
  using V = Vec<Scalar>;
  constexpr bool kFloat = std::is_same_v<Scalar, float>;
  constexpr std::array<double, 11> kOfFloat{0.624488873,   -0.0689882976,  -0.0162952608, 0.0589600294,
                                            -0.0597383365, 0.038651845,    -0.0167292268, 4.03201743e-3,
                                            3.52543966e-4, -6.65783427e-4, -8.87801681e-5};
  constexpr std::array<double, 23> kOfDouble{
      0.6244888747512267,     -0.06898826458549025,   -0.01629541532647602,   0.058958617051175866,
      -0.059736183281504636,  0.038669420162689544,   -0.016731327704573568,  3.9481797614028071e-3,
      2.9137884999959651e-4,  -5.4175187807447066e-4, 9.5478386193706388e-5,  5.3740749868240925e-5,
      -2.1143611842883849e-5, -5.8757576161598043e-6, 3.6528718759597929e-6,  8.7035145010361415e-7,
      -6.0443417337245303e-7, -1.7748574776343585e-7, 8.9092426080139186e-8,  3.931299226010798e-8,
      -7.0624804277702865e-9, -5.9279325020847383e-9, -7.7595344848929167e-10};
  const V t = min(abs(u), kFloat ? 13.5 : 38.0);
  // The exponential of the rounded square, times that of what rounding lost.
  const V square = t * t, lost = fma(t, t, -square);
  const V bell = exp(square * -0.5) * fma(lost, -0.5, 1);
  const V q = (t - 4.5) / (t + 4.5);
  V sum = 0;
  const auto evaluate = [&](const auto& coefficients) {
    sum = coefficients.back();
#pragma GCC unroll 32
    for (std::size_t k = coefficients.size() - 1; k > 0; --k) sum = fma(sum, q, coefficients[k - 1]);
  };
  if constexpr (kFloat)
    evaluate(kOfFloat);
  else
    evaluate(kOfDouble);
  const V tail = bell * sum / fma(t, 1.4142135623730951, 1);
  return {V::select(u > V(0), 1 - tail, tail), bell};
}

}  // namespace pushforward
