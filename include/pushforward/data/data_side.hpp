// The data side of a flow: supports and standardisation. A feature x and its column of the state are related by x =
// h(y), y = state * scale + shift. h is the bijection of the feature's support, and the identity for a real feature.
// All of it is computed in float64 as rows are read and written.
#pragma once

#include "pushforward/data/support.hpp"
#include "pushforward/data/table.hpp"

namespace pushforward {

// Toward a bound that h reaches at infinity, the state of a feature stops here: values closer to the bound, or on it,
// get this state, so that all numbers stay finite. A standard normal has a mass of 1e-23 beyond.
inline constexpr double kFarthestState = 10;

class DataSide {
 public:
  DataSide() = default;

  // One support per feature.
  explicit DataSide(std::vector<Support> supports) : supports_(std::move(supports)) {
    for (std::size_t i = 0; i < supports_.size(); ++i)
      if (supports_[i].bijection) bounded_.push_back(static_cast<Index>(i));
    set_standardization(std::vector<double>(supports_.size(), 0.0), std::vector<double>(supports_.size(), 1.0));
  }

  bool is_bounded() const { return !bounded_.empty(); }  // whether any feature is not real
  Domain domain(Index feature) const { return support(feature).domain; }
  Support::Range bounds(Index feature) const { return {support(feature).low, support(feature).high}; }

  // state = (y - shift) / scale, per feature; scale > 0. Features on a box or circle are not standardised.
  void set_standardization(const std::vector<double>& shift, const std::vector<double>& scale) {
    set_affine_maps(shift, scale, static_cast<Index>(supports_.size()), to_standard_, from_standard_);
    for (std::size_t i = 0; i < scale.size(); ++i)
      if (domain(static_cast<Index>(i)) != Domain::line && (shift[i] != 0 || scale[i] != 1))
        throw std::invalid_argument("a feature on a box or a circle has shift 0 and scale 1");
    scale_grad_ = {std::vector<double>(scale.size(), 0.0), scale};
    unscale_grad_ = {std::vector<double>(scale.size(), 0.0), to_standard_.factor};
    log_scale_ = 0;
    for (const double s : scale) log_scale_ += std::log(s);
  }

  // Reads rows of x into the state, and writes log|det dstate/dx|. A row with a value that is not finite is marked bad;
  // any other row with a value outside its support is marked outside. Zero replaces such values.
  template <class Scalar>
  void read(const Table& x, Index first, Index rows, const Index* columns, Columns<Scalar> state, double* log_det,
            bool* bad, bool* outside) const {
    read_columns(x, first, rows, to_standard_, columns, state, bad);
    std::fill_n(log_det, kTileRows, -log_scale_);
    for_each_bounded(x.is_double, [&](auto type, Index i, const Bijection& h, const Support::Range& range) {
      using T = decltype(type);
      Scalar* to = state[columns[i]];
      for (Index row = 0; row < rows; ++row) {
        to[row] = Scalar(0);
        const auto value = x.row<T>(first + row)[i * x.column_stride];
        if (bad[row] || !range.holds(value)) {
          outside[row] |= !bad[row];
          continue;
        }
        const Position at = position(i, h, value);
        to[row] = static_cast<Scalar>(at.state);
        log_det[row] -= h.log_slope(at.y);
      }
    });
  }

  // Writes the state to rows of x. Every value is within its support and the range of the output's type.
  template <class Scalar>
  void write(Columns<Scalar> state, Index first, Index rows, const Index* columns, const bool* bad, Output to) const {
    write_columns(state, first, rows, width(), from_standard_, columns, bad, to);
    for_each_bounded(to.is_double, [&](auto type, Index i, const Bijection& h, const Support::Range&) {
      using T = decltype(type);
      const Scalar* from = state[columns[i]];
      const auto range = support(i).template writable<T>();
      T* x = static_cast<T*>(to.data) + first * width() + i;
      for (Index row = 0; row < rows; ++row)
        if (!bad[row])
          x[row * width()] = static_cast<T>(std::clamp(h.value(line(i, from[row])), range.low, range.high));
    });
  }

  // log|det dx/dstate| in two parts: the first, equal for all rows, is written; the second depends on the state on the
  // data side and is added.
  void start_forward_log_det(double* log_det) const { std::fill_n(log_det, kTileRows, log_scale_); }
  template <class Scalar>
  void add_forward_log_det(Columns<Scalar> state, Index rows, const Index* columns, double* log_det) const {
    for_each_bounded(true, [&](auto, Index i, const Bijection& h, const Support::Range&) {
      const Scalar* from = state[columns[i]];
      for (Index row = 0; row < rows; ++row) log_det[row] += h.log_slope(line(i, from[row]));
    });
  }

  // The adjoint of state -> (x, log|det dx/dstate|): reads dx and writes dstate. is_double: whether x would be written
  // in float64; where the range of its type stops x, dx/dstate is 0.
  template <class Scalar>
  void read_grad(const Table& dx, const double* dlog_det, bool is_double, Index first, Index rows, const Index* columns,
                 Columns<Scalar> state, Columns<Scalar> dstate, bool* bad) const {
    read_columns(dx, first, rows, scale_grad_, columns, dstate, bad);
    for_each_bounded(is_double, [&](auto type, Index i, const Bijection& h, const Support::Range&) {
      const auto range = support(i).template writable<decltype(type)>();
      const double scale = from_standard_.factor[static_cast<std::size_t>(i)];
      for (Index row = 0; row < rows; ++row) {
        if (bad[row]) continue;
        const double y = line(i, state[columns[i]][row]);
        const double slope = range.holds(h.value(y)) ? h.slope(y) : 0;
        dstate[columns[i]][row] =
            static_cast<Scalar>(scale * (value_of(dx, first + row, i) * slope + dlog_det[first + row] * h.bend(y)));
      }
    });
  }

  // The adjoint of x -> (state, log|det dstate/dx|): writes dx from dstate. It is 0 for values that were stopped at the
  // farthest state.
  template <class Scalar>
  void write_grad(Columns<Scalar> dstate, const Scalar* dlog_det, const Table& x, Index first, Index rows,
                  const Index* columns, const bool* bad, Output dx) const {
    write_columns(dstate, first, rows, width(), unscale_grad_, columns, bad, dx);
    for_each_bounded(x.is_double, [&](auto type, Index i, const Bijection& h, const Support::Range&) {
      using T = decltype(type);
      const double factor = to_standard_.factor[static_cast<std::size_t>(i)];
      for (Index row = 0; row < rows; ++row) {
        if (bad[row]) continue;
        const Position at = position(i, h, x.row<T>(first + row)[i * x.column_stride]);
        const double dy = static_cast<double>(dstate[columns[i]][row]) * factor;
        const double value = at.stopped ? 0 : (dy - static_cast<double>(dlog_det[row]) * h.bend(at.y)) / h.slope(at.y);
        const Index entry = (first + row) * width() + i;
        if (dx.is_double)
          static_cast<double*>(dx.data)[entry] = value;
        else
          static_cast<float*>(dx.data)[entry] = static_cast<float>(value);
      }
    });
  }

  // Rows of x as y, not standardised: infinite on a bound, NaN for a value that is not finite or outside its support.
  void to_line(const Table& x, Index first, Index rows, double* y) const {
    for (Index i = 0; i < width(); ++i)
      for (Index row = 0; row < rows; ++row) {
        const double value = value_of(x, first + row, i);
        y[(first + row) * width() + i] = std::isfinite(value) ? value : NAN;
      }
    for_each_bounded(x.is_double, [&](auto, Index i, const Bijection& h, const Support::Range& range) {
      for (Index row = 0; row < rows; ++row) {
        double& value = y[(first + row) * width() + i];
        value = range.holds(value) ? h.inverse(std::clamp(value, support(i).low, support(i).high)) : NAN;
      }
    });
  }

 private:
  // The point on the line, and the state, of a value within its support.
  struct Position {
    double y, state;
    bool stopped;  // at the farthest state
  };

  Position position(Index feature, const Bijection& h, double value) const {
    const double shift = from_standard_.shift[static_cast<std::size_t>(feature)],
                 scale = from_standard_.factor[static_cast<std::size_t>(feature)];
    // A value on a bound that was rounded to float32 may be slightly outside.
    const double y = h.inverse(std::clamp(value, support(feature).low, support(feature).high));
    const double state = (y - shift) * to_standard_.factor[static_cast<std::size_t>(feature)];
    if (h.low_is_infinite() && state < -kFarthestState) return {shift - kFarthestState * scale, -kFarthestState, true};
    if (h.high_is_infinite() && state > kFarthestState) return {shift + kFarthestState * scale, kFarthestState, true};
    return {y, state, false};
  }

  template <class Scalar>
  double line(Index feature, Scalar state) const {
    return static_cast<double>(state) * from_standard_.factor[static_cast<std::size_t>(feature)] +
           from_standard_.shift[static_cast<std::size_t>(feature)];
  }

  static double value_of(const Table& table, Index row, Index column) {
    return table.is_double ? table.row<double>(row)[column * table.column_stride]
                           : static_cast<double>(table.row<float>(row)[column * table.column_stride]);
  }

  // Calls f(T(), feature, its bijection, the range of T that belongs to its support) for each feature that is not real;
  // T is double or float.
  template <class F>
  void for_each_bounded(bool is_double, F&& f) const {
    for (const Index i : bounded_)
      if (is_double)
        f(double(), i, *support(i).bijection, support(i).template readable<double>());
      else
        f(float(), i, *support(i).bijection, support(i).template readable<float>());
  }

  const Support& support(Index feature) const { return supports_[static_cast<std::size_t>(feature)]; }
  Index width() const { return static_cast<Index>(supports_.size()); }

  std::vector<Support> supports_;
  std::vector<Index> bounded_;  // features that are not real
  AffineMap to_standard_, from_standard_, scale_grad_, unscale_grad_;
  double log_scale_ = 0;  // sum of log scale over features
};

}  // namespace pushforward
