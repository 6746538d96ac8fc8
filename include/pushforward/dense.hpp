// The dense layer y = W x + b on a tile, and its adjoint. W is (outputs, inputs), stored by rows.
#pragma once

#include "pushforward/panel.hpp"

namespace pushforward {

template <class Scalar>
struct DenseShape {
  Index inputs;
  Index outputs;
  Index parameter_count() const { return outputs * (inputs + 1); }  // W, then b
};

// y[row, o] = b[o] + sum_i x[row, i] W[o, i]
template <class Scalar>
void dense(DenseShape<Scalar> shape, const Scalar* parameters, Index padded, const Scalar* x, Scalar* y) {
  const Scalar* bias = parameters + shape.outputs * shape.inputs;
  panel::product<Scalar>(
      padded, shape.inputs, shape.outputs, x, kTileRows, {parameters, shape.inputs, 1},
      [bias](Index output) { return bias[output]; },
      [y](Index row, Index output, const auto& sum) { panel::packets::pstore(y + output * kTileRows + row, sum); });
}

// dx[row, i] = sum_o dy[row, o] W[o, i]
template <class Scalar>
void dense_vjp_input(DenseShape<Scalar> shape, const Scalar* parameters, Index padded, const Scalar* dy, Scalar* dx) {
  panel::product<Scalar>(
      padded, shape.outputs, shape.inputs, dy, kTileRows, {parameters, 1, shape.inputs},
      [](Index) { return Scalar(0); },
      [dx](Index row, Index input, const auto& sum) { panel::packets::pstore(dx + input * kTileRows + row, sum); });
}

// dW[o, i] += sum_row dy[row, o] x[row, i] and db[o] += sum_row dy[row, o]; the product runs over x transposed, so
// that inputs stand side by side. transposed: scratch of kTileRows * whole_lanes(inputs).
template <class Scalar>
void dense_vjp_parameters(DenseShape<Scalar> shape, Index rows, Index padded, const Scalar* x, const Scalar* dy,
                          Scalar* transposed, Scalar* dparameters) {
  const Index stride = whole_lanes(shape.inputs);
  panel::transpose(padded, shape.inputs, x, transposed, stride);
  const Index height = (shape.inputs + panel::kWidth<Scalar> - 1) / panel::kWidth<Scalar> * panel::kWidth<Scalar>;
  panel::product<Scalar>(
      height, rows, shape.outputs, transposed, stride, {dy, kTileRows, 1}, [](Index) { return Scalar(0); },
      [&](Index input, Index output, const auto& sum) {
        panel::add_to(dparameters + output * shape.inputs + input, shape.inputs - input, sum);
      });
  Scalar* dbias = dparameters + shape.outputs * shape.inputs;
  for (Index output = 0; output < shape.outputs; ++output) {
    Lanes<Scalar> sum = lanes(dy + output * kTileRows);
    for (Index row = kLanes; row < padded; row += kLanes) sum += lanes(dy + output * kTileRows + row);
    dbias[output] += sum.sum();
  }
}

}  // namespace pushforward
