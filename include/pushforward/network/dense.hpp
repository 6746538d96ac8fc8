// The dense layer y = W x + b on a tile, and its adjoint. W is (outputs, inputs), stored by rows.
//
// A layer may be masked, so that each output sees only some of the inputs. Inputs and outputs then come in groups,
// numbered by the pass of an autoregressive map that computes them, and the outputs of group p see the inputs of groups
// 0 ... p. The inputs of an output are thus a prefix: no weight of a hidden input is ever read, and each group can be
// computed on its own. A layer without a mask has one group.
#pragma once

#include <vector>

#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/panel.hpp"

namespace pushforward {

struct DenseShape {
  // Ends of the groups: group p holds the outputs from outputs_end[p - 1] (or 0) to outputs_end[p], inputs likewise.
  std::vector<Index> inputs_end, outputs_end;
  Index inputs;  // all of them; those beyond the last group's end are seen by no output

  Index outputs() const { return outputs_end.back(); }
  Index groups() const { return static_cast<Index>(outputs_end.size()); }
  Index parameter_count() const { return outputs() * (inputs + 1); }  // W, then b
};

// A run of groups, first ... last - 1.
struct Groups {
  Index first, last;
};

namespace detail {

inline Index at(const std::vector<Index>& ends, Index group) { return ends[static_cast<std::size_t>(group)]; }
inline Index begin_of(const std::vector<Index>& ends, Index group) { return group > 0 ? at(ends, group - 1) : 0; }

}  // namespace detail

// y[row, o] = b[o] + sum_i x[row, i] W[o, i] for the outputs o of some groups. store(o, row, sums) receives the sums of
// one register of rows, from `row` on.
template <class Scalar, class Store>
void dense(const DenseShape& shape, Groups groups, const Scalar* parameters, Index padded, Columns<const Scalar> x,
           Store store) {
  const Scalar* bias = parameters + shape.outputs() * shape.inputs;
  for (Index group = groups.first; group < groups.last; ++group) {
    const Index first = detail::begin_of(shape.outputs_end, group);
    panel::product<Scalar>(
        padded, detail::at(shape.inputs_end, group), detail::at(shape.outputs_end, group) - first, x.data(), kTileRows,
        {parameters + first * shape.inputs, shape.inputs, 1}, [&](Index output) { return bias[first + output]; },
        [&](Index row, Index output, Vec<Scalar> sum) { store(first + output, row, sum); });
  }
}

// dx[row, i] = sum_o dy[row, o] W[o, i] for the inputs i of some groups: store(i, row, sums).
template <class Scalar, class Store>
void dense_vjp_input(const DenseShape& shape, Groups groups, const Scalar* parameters, Index padded,
                     Columns<const Scalar> dy, Store store) {
  for (Index group = groups.first; group < groups.last; ++group) {
    const Index input = detail::begin_of(shape.inputs_end, group), output = detail::begin_of(shape.outputs_end, group);
    panel::product<Scalar>(
        padded, shape.outputs() - output, detail::at(shape.inputs_end, group) - input, dy[output], kTileRows,
        {parameters + output * shape.inputs + input, 1, shape.inputs}, [](Index) { return Scalar(0); },
        [&](Index row, Index i, Vec<Scalar> sum) { store(input + i, row, sum); });
  }
}

// dW[o, i] += sum_row dy[row, o] x[row, i] and db[o] += sum_row dy[row, o]. The product runs over x transposed, so that
// the inputs of a row are contiguous. transposed: scratch of whole_lanes(inputs) tile columns.
template <class Scalar>
void dense_vjp_parameters(const DenseShape& shape, Index rows, Index padded, Columns<const Scalar> x,
                          Columns<const Scalar> dy, Scalar* transposed, Scalar* dparameters) {
  const Index stride = whole_lanes(shape.inputs);
  panel::transpose(padded, shape.inputs_end.back(), x, transposed, stride);
  for (Index group = 0; group < shape.groups(); ++group) {
    const Index first = detail::begin_of(shape.outputs_end, group), inputs = detail::at(shape.inputs_end, group);
    const Index height = (inputs + Vec<Scalar>::kWidth - 1) / Vec<Scalar>::kWidth * Vec<Scalar>::kWidth;
    panel::product<Scalar>(
        height, rows, detail::at(shape.outputs_end, group) - first, transposed, stride, {dy[first], kTileRows, 1},
        [](Index) { return Scalar(0); },
        [&](Index input, Index output, Vec<Scalar> sum) {
          sum.add_to(dparameters + (first + output) * shape.inputs + input, inputs - input);
        });
  }
  panel::add_column_sums(padded, shape.outputs(), dy, dparameters + shape.outputs() * shape.inputs);
}

}  // namespace pushforward
