// The dense layer in bfloat16, and its adjoint: the three products of dense.hpp with both factors rounded
// (tile/bfloat16.hpp). Rounding is differentiated as if it were the identity. The bias and its derivative are not
// rounded.
#pragma once

#include "pushforward/network/dense.hpp"
#include "pushforward/tile/bfloat16.hpp"

namespace pushforward::bfloat16 {

// Weights are rounded once for all tiles of a call. They are float32 in the place of the parameters, of either
// precision.
template <class Scalar>
const float* weights(const Scalar* parameters) {
  return reinterpret_cast<const float*>(parameters);
}

// Calls store(column, row, sums) with registers of Scalar.
template <class Scalar, class Store>
EIGEN_ALWAYS_INLINE void store_as(Store&& store, Index column, Index row, Vec<float> sums) {
  if constexpr (std::is_same_v<Scalar, float>) {
    store(column, row, sums);
  } else {
    constexpr int kWidth = Vec<float>::kWidth;
    alignas(64) float values[kWidth];
    alignas(64) Scalar wide[kWidth];
    sums.store(values);
    std::copy_n(values, kWidth, wide);
    for (int i = 0; i < kWidth; i += Vec<Scalar>::kWidth) store(column, row + i, Vec<Scalar>::load(wide + i));
  }
}

// As pushforward::dense. x: rounded.
template <class Scalar, class Store>
void dense(const DenseShape& shape, Groups groups, const Scalar* parameters, Index padded, Columns<const float> x,
           Store store) {
  const Scalar* bias = parameters + shape.outputs() * shape.inputs;
  for (Index group = groups.first; group < groups.last; ++group) {
    const Index first = detail::begin_of(shape.outputs_end, group);
    panel::product<float>(
        padded, Depth{detail::at(shape.inputs_end, group)}, detail::at(shape.outputs_end, group) - first, x.data(),
        kTileRows, {weights(parameters) + first * shape.inputs, shape.inputs, 1},
        [&](Index output) { return static_cast<float>(bias[first + output]); },
        [&](Index row, Index output, Vec<float> sum) { store_as<Scalar>(store, first + output, row, sum); });
  }
}

// As pushforward::dense_vjp_input. dy: rounded.
template <class Scalar, class Store>
void dense_vjp_input(const DenseShape& shape, Groups groups, const Scalar* parameters, Index padded,
                     Columns<const float> dy, Store store) {
  for (Index group = groups.first; group < groups.last; ++group) {
    const Index input = detail::begin_of(shape.inputs_end, group), output = detail::begin_of(shape.outputs_end, group);
    panel::product<float>(
        padded, Depth{shape.outputs() - output}, detail::at(shape.inputs_end, group) - input, dy[output], kTileRows,
        {weights(parameters) + output * shape.inputs + input, 1, shape.inputs}, [](Index) { return 0.0f; },
        [&](Index row, Index i, Vec<float> sum) { store_as<Scalar>(store, input + i, row, sum); });
  }
}

// As pushforward::dense_vjp_parameters. x, rounded_dy: rounded; dy: as it is, for the bias.
template <class Scalar>
void dense_vjp_parameters(const DenseShape& shape, Index rows, Index padded, Columns<const float> x,
                          Columns<const float> rounded_dy, Columns<const Scalar> dy, Scalar* transposed,
                          Scalar* dparameters) {
  auto* x_transposed = reinterpret_cast<float*>(transposed);
  const Index stride = whole_lanes(shape.inputs);
  panel::transpose(padded, shape.inputs_end.back(), x, x_transposed, stride);
  for (Index group = 0; group < shape.groups(); ++group) {
    const Index first = detail::begin_of(shape.outputs_end, group), inputs = detail::at(shape.inputs_end, group);
    const Index height = (inputs + Vec<float>::kWidth - 1) / Vec<float>::kWidth * Vec<float>::kWidth;
    const auto add = [&](Index output, Index input, Vec<Scalar> sum) {
      sum.add_to(dparameters + (first + output) * shape.inputs + input, inputs - input);
    };
    panel::product<float>(
        height, Depth{rows}, detail::at(shape.outputs_end, group) - first, x_transposed, stride,
        {rounded_dy[first], kTileRows, 1}, [](Index) { return 0.0f; },
        [&](Index input, Index output, Vec<float> sum) { store_as<Scalar>(add, output, input, sum); });
  }
  panel::add_column_sums(padded, shape.outputs(), dy, dparameters + shape.outputs() * shape.inputs);
}

}  // namespace pushforward::bfloat16
