// A learned linear map, z = L U x + b (Oliva et al. 2018; Durkan et al. 2019, section 3.1). L is lower triangular with
// ones on its diagonal, U is upper triangular with a positive diagonal. The inverse, the direction of training, takes
// two products with triangles; forward takes two triangular solves. The log-determinant of the inverse is the sum of
// the logarithms of U's diagonal.
//
// The weight holds both triangles as LAPACK's getrf does, L below the diagonal and U above it, but with the logarithm
// of U's diagonal on its own. A weight of zeros is the identity.
#pragma once

#include <cmath>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"
#include "pushforward/tile/panel.hpp"

namespace pushforward {

template <class Scalar>
class Lu final : public Layer<Scalar> {
 public:
  // columns: of the state, in the order of the weight's rows.
  explicit Lu(std::vector<Index> columns) : columns_(std::move(columns)) {}

  std::vector<ParameterBlock> parameters() const override {
    return {{"weight", {dim(), dim()}, 0.0}, {"bias", {dim()}, 0.0}};
  }

  Index cache_columns() const override { return cache_.count(); }
  Index scratch_columns() const override { return scratch_.count(); }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    const Scalar* bias = parameters + dim() * dim();
    const auto x = cache[x_], v = cache[v_];
    double log_det = 0;
    for (Index i = 0; i < dim(); ++i) log_det += static_cast<double>(diagonal(parameters, i));
    if (direction == Direction::inverse) {
      gather(tile.padded, tile.state, x);
      for (Index i = 0; i < dim(); ++i) {
        const Scalar scale = std::exp(diagonal(parameters, i));
        upper_row(parameters, i, tile.padded, x,
                  [&](Index row, const Lanes<Scalar>& sum) { lanes(v[i] + row) = scale * lanes(x[i] + row) + sum; });
      }
      for (Index i = 0; i < dim(); ++i)
        lower_row(parameters, i, tile.padded, v, [&](Index row, const Lanes<Scalar>& sum) {
          lanes(tile.state[column(i)] + row) = lanes(v[i] + row) + sum + bias[i];
        });
    } else {
      // L v = z - b from the first row on, U x = v from the last
      for (Index i = 0; i < dim(); ++i)
        lower_row(parameters, i, tile.padded, v, [&](Index row, const Lanes<Scalar>& sum) {
          lanes(v[i] + row) = lanes(tile.state[column(i)] + row) - bias[i] - sum;
        });
      for (Index i = dim(); i-- > 0;) {
        const Scalar scale = std::exp(-diagonal(parameters, i));
        upper_row(parameters, i, tile.padded, x, [&](Index row, const Lanes<Scalar>& sum) {
          const Lanes<Scalar> value = scale * (lanes(v[i] + row) - sum);
          lanes(x[i] + row) = value;
          lanes(tile.state[column(i)] + row) = value;
        });
      }
      log_det = -log_det;
    }
    for (Index row = 0; row < tile.padded; row += kLanes) lanes(tile.log_det + row) += log_det;
  }

  // inverse, z = L v + b and v = U x:     dv = L^T dz, dx = U^T dv;    dL = dz v^T,  dU = dv x^T,  db = dz
  // forward, L v = z - b and U x = v:     dv = U^-T dx, dz = L^-T dv;  dU = -dv x^T, dL = -dz v^T, db = -dz
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const override {
    const Columns<const Scalar> x = cache[x_], v = cache[v_];
    const auto dz = scratch[dz_], dv = scratch[dv_];
    if (direction == Direction::inverse) {
      gather(tile.padded, grad.state, dz);
      for (Index i = 0; i < dim(); ++i)
        lower_column(parameters, i, tile.padded, dz,
                     [&](Index row, const Lanes<Scalar>& sum) { lanes(dv[i] + row) = lanes(dz[i] + row) + sum; });
      for (Index i = 0; i < dim(); ++i) {
        const Scalar scale = std::exp(diagonal(parameters, i));
        upper_column(parameters, i, tile.padded, dv, [&](Index row, const Lanes<Scalar>& sum) {
          lanes(grad.state[column(i)] + row) = scale * lanes(dv[i] + row) + sum;
        });
      }
    } else {
      for (Index i = 0; i < dim(); ++i) {
        const Scalar scale = std::exp(-diagonal(parameters, i));
        upper_column(parameters, i, tile.padded, dv, [&](Index row, const Lanes<Scalar>& sum) {
          lanes(dv[i] + row) = scale * (lanes(grad.state[column(i)] + row) - sum);
        });
      }
      for (Index i = dim(); i-- > 0;)
        lower_column(parameters, i, tile.padded, dz, [&](Index row, const Lanes<Scalar>& sum) {
          const Lanes<Scalar> value = lanes(dv[i] + row) - sum;
          lanes(dz[i] + row) = value;
          lanes(grad.state[column(i)] + row) = value;
        });
    }
    if (!grad.parameters) return;
    const Scalar sign = direction == Direction::inverse ? Scalar(1) : Scalar(-1);
    Scalar* transposed = scratch[transposed_].data();
    add_products(sign, tile, v, dz, transposed, grad.parameters, [](Index i) { return Entries{0, i}; });
    add_products(sign, tile, x, dv, transposed, grad.parameters, [this](Index i) { return Entries{i + 1, dim()}; });
    Scalar* dbias = grad.parameters + dim() * dim();
    for (Index i = 0; i < dim(); ++i) {
      const Scalar scale = std::exp(diagonal(parameters, i));
      Lanes<Scalar> dlog = Lanes<Scalar>::Zero(), shift = Lanes<Scalar>::Zero();
      for (Index row = 0; row < tile.padded; row += kLanes) {
        dlog += scale * lanes(dv[i] + row) * lanes(x[i] + row) + lanes(grad.log_det + row);
        shift += lanes(dz[i] + row);
      }
      grad.parameters[i * dim() + i] += sign * dlog.sum();
      dbias[i] += sign * shift.sum();
    }
  }

 private:
  struct Entries {  // first ... last - 1 of a row of the weight
    Index first, last;
  };

  Index dim() const { return static_cast<Index>(columns_.size()); }
  Index column(Index i) const { return columns_[static_cast<std::size_t>(i)]; }  // of the state
  Scalar diagonal(const Scalar* parameters, Index i) const { return parameters[i * dim() + i]; }

  void gather(Index padded, Columns<const Scalar> state, Columns<Scalar> to) const {
    for (Index i = 0; i < dim(); ++i) std::copy_n(state[column(i)], padded, to[i]);
  }

  // Calls f(row, sum over k < count of factors[k * stride] c[k]) for each lane block.
  template <class F>
  static void product(Index padded, Index count, Columns<const Scalar> c, const Scalar* factors, Index stride, F&& f) {
    for (Index row = 0; row < padded; row += kLanes) {
      Lanes<Scalar> sum = Lanes<Scalar>::Zero();
      for (Index k = 0; k < count; ++k) sum += factors[k * stride] * lanes(c[k] + row);
      f(row, sum);
    }
  }

  // The sums sum_{j < i} L_ij c_j, sum_{j > i} U_ij c_j, sum_{j > i} L_ji c_j and sum_{j < i} U_ji c_j.
  template <class F>
  void lower_row(const Scalar* weight, Index i, Index padded, Columns<const Scalar> c, F&& f) const {
    product(padded, i, c, weight + i * dim(), 1, f);
  }
  template <class F>
  void upper_row(const Scalar* weight, Index i, Index padded, Columns<const Scalar> c, F&& f) const {
    product(padded, dim() - 1 - i, c.from(i + 1), weight + i * dim() + i + 1, 1, f);
  }
  template <class F>
  void lower_column(const Scalar* weight, Index i, Index padded, Columns<const Scalar> c, F&& f) const {
    product(padded, dim() - 1 - i, c.from(i + 1), weight + (i + 1) * dim() + i, dim(), f);
  }
  template <class F>
  void upper_column(const Scalar* weight, Index i, Index padded, Columns<const Scalar> c, F&& f) const {
    product(padded, i, c, weight + i, dim(), f);
  }

  // dweight[i, j] += sign * (sum over rows of dout_i in_j) for the entries j = entries_of(i) of row i.
  template <class EntriesOf>
  void add_products(Scalar sign, const Tile<Scalar>& tile, Columns<const Scalar> in, Columns<const Scalar> dout,
                    Scalar* transposed, Scalar* dweight, EntriesOf&& entries_of) const {
    constexpr Index kWidth = Vec<Scalar>::kWidth;
    const Index stride = whole_lanes(dim());
    panel::transpose(tile.padded, dim(), in, transposed, stride);
    for (Index i = 0; i < dim(); ++i) {
      const Entries entries = entries_of(i);
      const Index start = entries.first / kWidth * kWidth;  // packets begin at multiples of their width
      const Index height = (entries.last - start + kWidth - 1) / kWidth * kWidth;
      panel::product<Scalar>(
          entries.last > entries.first ? height : 0, tile.rows, 1, transposed + start, stride, {dout[i], kTileRows, 1},
          [](Index) { return Scalar(0); },
          [&](Index j, Index, Vec<Scalar> sum) {
            alignas(64) Scalar values[kWidth];
            (sum * sign).store(values);
            for (Index k = 0; k < kWidth; ++k)
              if (const Index column = start + j + k; column >= entries.first && column < entries.last)
                dweight[i * dim() + column] += values[k];
          });
    }
  }

  std::vector<Index> columns_;

  ColumnLayout cache_;
  Region x_ = cache_.take(dim());
  Region v_ = cache_.take(dim());  // v = U x

  ColumnLayout scratch_;
  Region dz_ = scratch_.take(dim());
  Region dv_ = scratch_.take(dim());
  Region transposed_ = scratch_.take(whole_lanes(dim()));  // x or v
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_lu(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "order", "indices"});
  return std::make_unique<Lu<Scalar>>(place.lines());
}

}  // namespace pushforward
