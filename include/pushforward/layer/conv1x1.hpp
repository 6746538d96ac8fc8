// The invertible 1 x 1 convolution of Glow (Kingma and Dhariwal 2018, section 3.2): z_p = L U x_p, one matrix for the
// channels of every pixel p. The weight holds both triangles as that of layer/lu.hpp does: L below the diagonal, which
// has ones, U above it, and the logarithm of U's diagonal on its own.
#pragma once

#include <cmath>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/permutation.hpp"
#include "pushforward/layer/place.hpp"
#include "pushforward/network/convolution.hpp"

namespace pushforward {

template <class Scalar>
class Conv1x1 final : public Layer<Scalar> {
 public:
  // columns: of the state, pixel by pixel, `channels` each in the order of the weight's rows.
  Conv1x1(std::vector<Index> columns, Index channels)
      : columns_(std::move(columns)),
        channels_(channels),
        shape_(pixels(), pixels(), channels, channels, 1, Padding::zero) {}

  std::vector<ParameterBlock> parameters() const override { return {{"weight", {channels_, channels_}, 0.0}}; }

  Index cache_columns() const override { return cache_.count(); }
  Index scratch_columns() const override { return scratch_.count(); }
  Index map_scratch_columns() const override { return scratch_.count(); }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    const auto x = cache[x_];
    double log_det = 0;
    for (Index i = 0; i < channels_; ++i) log_det += static_cast<double>(parameters[i * channels_ + i]);
    log_det *= static_cast<double>(pixel_count());
    Scalar *matrix = cache[matrix_].data(), *work = tile.scratch[work_].data();
    if (direction == Direction::inverse) {
      product_of_triangles(parameters, matrix);
      gather(tile.padded, tile.state, x);
      apply<false>(matrix, work, tile.padded, x,
                   [&](Index column, Index row, V sum) { sum.store(tile.state[column] + row); });
    } else {
      log_det = -log_det;
      const auto z = tile.scratch[gathered_];
      inverse_of_triangles(parameters, matrix, work);
      gather(tile.padded, tile.state, z);
      apply<false>(matrix, work, tile.padded, z,
                   [&](Index column, Index row, V sum) { sum.store(tile.state[column] + row); });
      gather(tile.padded, tile.state, x);
    }
    for (Index row = 0; row < tile.padded; row += kLanes) lanes(tile.log_det + row) += log_det;
  }

  // inverse, z = W x with W = L U:   dx = W^T dz;    dW = sum dz x^T
  // forward, x = W^-1 z:             dz = W^-T dx;   dW = -sum dz x^T
  // and from dW those by the triangles: dL = dW U^T below the diagonal, dU = L^T dW on it and above.
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const override {
    const auto x = cache[x_], given = scratch[gathered_];
    const Scalar* matrix = cache[matrix_].data();
    gather(tile.padded, grad.state, given);
    apply<true>(matrix, nullptr, tile.padded, given,
                [&](Index column, Index row, V sum) { sum.store(grad.state[column] + row); });
    if (!grad.parameters) return;
    const bool is_inverse = direction == Direction::inverse;
    if (!is_inverse) gather(tile.padded, grad.state, given);  // dz
    Scalar* dmatrix = scratch[work_].data();
    std::fill_n(dmatrix, channels_ * channels_, Scalar(0));
    WeightGradient<Scalar>(shape_).add(tile.rows, tile.padded, x, given, scratch[transposed_].data(), dmatrix);
    Lanes<Scalar> dlog_det = Lanes<Scalar>::Zero();
    for (Index row = 0; row < tile.padded; row += kLanes) dlog_det += lanes(grad.log_det + row);
    add_triangles(is_inverse ? Scalar(1) : Scalar(-1), parameters, dmatrix,
                  dlog_det.sum() * static_cast<Scalar>(pixel_count()), grad.parameters);
  }

 private:
  using V = Vec<Scalar>;

  Index pixel_count() const { return static_cast<Index>(columns_.size()) / channels_; }
  Sites pixels() const { return Sites::all(1, pixel_count()); }
  Index entries() const { return (channels_ * channels_ + kTileRows - 1) / kTileRows; }  // columns of a matrix

  void gather(Index padded, Columns<const Scalar> state, Columns<Scalar> to) const {
    for (std::size_t i = 0; i < columns_.size(); ++i)
      std::copy_n(state[columns_[i]], padded, to[static_cast<Index>(i)]);
  }

  // The matrix, or its transpose, times the channels of each pixel: store(column of the state, row, sums). work:
  // scratch for a matrix.
  template <bool kTransposed, class Store>
  void apply(const Scalar* matrix, Scalar* work, Index padded, Columns<const Scalar> from, Store store) const {
    const auto keep = [&](Index pixel, Index channel, Index row, V sum) {
      store(columns_[static_cast<std::size_t>(pixel * channels_ + channel)], row, sum);
    };
    if constexpr (kTransposed)
      convolve_vjp_input<Scalar>(shape_, matrix, padded, from, keep);
    else
      convolve<Scalar>(
          shape_, outputs_together(shape_, matrix, work), padded, from, [](Index) { return Scalar(0); }, keep);
  }

  // Entries of the triangles.
  double lower(const Scalar* weight, Index i, Index j) const {
    return i == j ? 1.0 : static_cast<double>(weight[i * channels_ + j]);
  }
  double upper(const Scalar* weight, Index i, Index j) const {
    const auto entry = static_cast<double>(weight[i * channels_ + j]);
    return i == j ? std::exp(entry) : entry;
  }

  void product_of_triangles(const Scalar* weight, Scalar* matrix) const {
    for (Index i = 0; i < channels_; ++i)
      for (Index j = 0; j < channels_; ++j) {
        double sum = 0;
        for (Index k = 0; k <= std::min(i, j); ++k) sum += lower(weight, i, k) * upper(weight, k, j);
        matrix[i * channels_ + j] = static_cast<Scalar>(sum);
      }
  }

  // Column by column, L v = e and U w = v. work: channels numbers.
  void inverse_of_triangles(const Scalar* weight, Scalar* matrix, Scalar* work) const {
    for (Index j = 0; j < channels_; ++j) {
      for (Index i = 0; i < channels_; ++i) {
        double sum = i == j ? 1.0 : 0.0;
        for (Index k = j; k < i; ++k) sum -= lower(weight, i, k) * static_cast<double>(work[k]);
        work[i] = static_cast<Scalar>(i < j ? 0.0 : sum);
      }
      for (Index i = channels_; i-- > 0;) {
        auto sum = static_cast<double>(work[i]);
        for (Index k = i + 1; k < channels_; ++k) sum -= upper(weight, i, k) * static_cast<double>(work[k]);
        work[i] = static_cast<Scalar>(sum / upper(weight, i, i));
        matrix[i * channels_ + j] = work[i];
      }
    }
  }

  void add_triangles(Scalar sign, const Scalar* weight, const Scalar* dmatrix, Scalar dlog_det, Scalar* dweight) const {
    for (Index i = 0; i < channels_; ++i)
      for (Index j = 0; j < channels_; ++j) {
        double sum = 0;
        if (j < i)
          for (Index k = j; k < channels_; ++k)
            sum += static_cast<double>(dmatrix[i * channels_ + k]) * upper(weight, j, k);
        else
          for (Index k = i; k < channels_; ++k)
            sum += lower(weight, k, i) * static_cast<double>(dmatrix[k * channels_ + j]);
        if (i == j) sum = sum * upper(weight, i, i) + static_cast<double>(dlog_det);
        dweight[i * channels_ + j] += sign * static_cast<Scalar>(sum);
      }
  }

  std::vector<Index> columns_;
  Index channels_;
  Convolution shape_;

  ColumnLayout cache_;
  Region x_ = cache_.take(static_cast<Index>(columns_.size()));
  Region matrix_ = cache_.take(entries());  // of the direction taken

  ColumnLayout scratch_;
  Region gathered_ = scratch_.take(static_cast<Index>(columns_.size()));
  Region work_ = scratch_.take(entries());
  Region transposed_ = scratch_.take(WeightGradient<Scalar>(shape_).scratch_columns());
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_conv1x1(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "order", "indices"});
  const ImageShape& shape = place.image("a 1 x 1 convolution");
  std::vector<Index> columns;
  for (Index pixel = 0; pixel < shape.pixels(); ++pixel)
    for (Index channel = 0; channel < shape.channels; ++channel) {
      columns.push_back(place.columns[static_cast<std::size_t>(channel * shape.pixels() + pixel)]);
      if (place.domains[static_cast<std::size_t>(columns.back())] != Domain::line)
        throw std::invalid_argument("a 1 x 1 convolution mixes features on the line only");
    }
  return std::make_unique<Conv1x1<Scalar>>(std::move(columns), shape.channels);
}

// x_i = z_indices[i] for channels, as `permute` for features.
inline void permute_channels(const Json& description, Place& place) {
  const ImageShape& shape = place.image("a 1 x 1 convolution");
  Place channels = place;
  channels.columns.resize(static_cast<std::size_t>(shape.channels));
  for (Index i = 0; i < shape.channels; ++i) channels.columns[static_cast<std::size_t>(i)] = i;
  permute(description, channels);
  std::vector<Index> columns;
  for (const Index channel : channels.columns)
    for (Index pixel = 0; pixel < shape.pixels(); ++pixel)
      columns.push_back(place.columns[static_cast<std::size_t>(channel * shape.pixels() + pixel)]);
  place.columns = std::move(columns);
}

}  // namespace pushforward
