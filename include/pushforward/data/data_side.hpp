// The data side of a flow: supports and standardisation. A feature x and its column of the state are related by x =
// h(y), y = state * scale + shift. h is the bijection of the feature's support, and the identity for a real feature.
// All of it is computed in float64 as rows are read and written.
#pragma once

#include "pushforward/data/pixel.hpp"
#include "pushforward/data/table.hpp"

namespace pushforward {

// The values of a feature that stand where they are, and where those below and above, which are on a bound, stand on
// the line: in the middle of their cell.
struct Ends {
  double least, most;
  double low_y, high_y;

  bool holds(double value) const { return value >= least && value <= most; }
};

class DataSide {
 public:
  DataSide() = default;

  // One support per feature.
  explicit DataSide(std::vector<Support> supports) : supports_(std::move(supports)) {
    for (std::size_t i = 0; i < supports_.size(); ++i) {
      if (supports_[i].bijection) bounded_.push_back(static_cast<Index>(i));
      if (supports_[i].has_cells) celled_.push_back(static_cast<Index>(i));
    }
    set_standardization(std::vector<double>(supports_.size(), 0.0), std::vector<double>(supports_.size(), 1.0));
  }

  bool is_bounded() const { return !bounded_.empty(); }  // whether any feature is not real
  Domain domain(Index feature) const { return support(feature).domain; }
  Support::Range bounds(Index feature) const { return {support(feature).low, support(feature).high}; }

  // state = (y - shift) / scale, per feature; scale > 0. Features on a box or circle are not standardised. cells: one
  // per feature, or none, which is as if all were 0.
  void set_standardization(const std::vector<double>& shift, const std::vector<double>& scale,
                           const std::vector<Cells>& cells = {}) {
    if (!cells.empty() && cells.size() != supports_.size())
      throw std::invalid_argument("there must be one cell at each bound of each feature");
    for (const Cells& cell : cells)
      if (!(cell.low >= 0) || !(cell.high >= 0) || !std::isfinite(cell.low) || !std::isfinite(cell.high))
        throw std::invalid_argument("the cells at bounds need finite widths of at least 0");
    set_affine_maps(shift, scale, static_cast<Index>(supports_.size()), to_standard_, from_standard_);
    for (std::size_t i = 0; i < scale.size(); ++i)
      if (domain(static_cast<Index>(i)) != Domain::line && (shift[i] != 0 || scale[i] != 1))
        throw std::invalid_argument("a feature on a box or a circle has shift 0 and scale 1");
    scale_grad_ = {std::vector<double>(scale.size(), 0.0), scale};
    unscale_grad_ = {std::vector<double>(scale.size(), 0.0), to_standard_.factor};
    log_scale_ = 0;
    for (const double s : scale) log_scale_ += std::log(s);
    float_ends_.clear();
    double_ends_.clear();
    for (std::size_t i = 0; i < supports_.size(); ++i) {
      const Cells cell = cells.empty() ? Cells() : cells[i];
      float_ends_.push_back(ends_of<float>(supports_[i], cell));
      double_ends_.push_back(ends_of<double>(supports_[i], cell));
    }
  }

  // Reads rows of x into the state, and writes log|det dstate/dx|. A row with a value that is not finite is marked bad;
  // any other row with a value outside its support is marked outside. Zero replaces such values. key: of the noise in
  // cells.
  template <class Scalar>
  void read(const Table& x, Index first, Index rows, const Index* columns, Columns<Scalar> state, double* log_det,
            bool* bad, bool* outside, std::uint64_t key) const {
    read_columns(x, first, rows, to_standard_, columns, state, bad);
    std::fill_n(log_det, kTileRows, -log_scale_);
    auto noise = noise_of(x, first, rows, key);
    for_each_bounded(x.is_double, [&](auto type, Index i, const Bijection& h, const Support::Range& range) {
      using T = decltype(type);
      Scalar* to = state[columns[i]];
      const CellNoise* cells = begin_cells(noise, i);
      for (Index row = 0; row < rows; ++row) {
        to[row] = Scalar(0);
        const auto value = x.row<T>(first + row)[i * x.column_stride];
        if (bad[row] || !range.holds(value)) {
          outside[row] |= !bad[row];
          continue;
        }
        const Position at = position(i, h, ends<T>(i), cells ? cells->point(row, value) : value);
        to[row] = detail::within_reach<Scalar>(at.state);
        log_det[row] -= h.log_slope(at.y);
      }
    });
  }

  // Writes the state to rows of x. Every value is within its support and the range of the output's type. A point in a
  // cell is written as the cell's whole number, if `whole` asks for it. moved, if it is given: rows are marked whose
  // number stands so far from the state, for the rounding of that type or because it had to be brought back into its
  // range, that their density is another.
  template <class Scalar>
  void write(Columns<Scalar> state, Index first, Index rows, const Index* columns, const bool* bad, Output to,
             bool whole, bool* moved = nullptr) const {
    write_columns(state, first, rows, width(), from_standard_, columns, bad, to);
    if (moved) mark_moved(state, rows, columns, to.is_double, moved);
    for_each_bounded(to.is_double, [&](auto type, Index i, const Bijection& h, const Support::Range&) {
      using T = decltype(type);
      const Scalar* from = state[columns[i]];
      const auto range = support(i).template writable<T>();
      T* x = static_cast<T*>(to.data) + first * width() + i;
      const bool has_cells = support(i).has_cells;
      for (Index row = 0; row < rows; ++row) {
        if (bad[row]) continue;
        const double value = h.value(line(i, from[row]));
        T written = static_cast<T>(std::clamp(value, range.low, range.high));
        if (has_cells) written = whole ? std::floor(written) : off_whole(written);
        x[row * width()] = written;
        if (moved)
          moved[row] |= (whole && has_cells) || !range.holds(value) || !ends<T>(i).holds(written) ||
                        is_rounded<T>(written, scale(i) * h.rough_slope(written), from[row]);
      }
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
  // in float64. All states whose x is on a bound, or where the range of its type ends, are one: dstate is 0.
  template <class Scalar>
  void read_grad(const Table& dx, const double* dlog_det, bool is_double, Index first, Index rows, const Index* columns,
                 Columns<Scalar> state, Columns<Scalar> dstate, bool* bad) const {
    read_columns(dx, first, rows, scale_grad_, columns, dstate, bad);
    for_each_bounded(is_double, [&](auto type, Index i, const Bijection& h, const Support::Range&) {
      using T = decltype(type);
      const auto range = support(i).template writable<T>();
      for (Index row = 0; row < rows; ++row) {
        if (bad[row]) continue;
        const double y = line(i, state[columns[i]][row]), value = h.value(y);
        const bool stands = range.holds(value) && ends<T>(i).holds(static_cast<T>(value));
        const double dy = value_of(dx, first + row, i) * h.slope(y) + dlog_det[first + row] * h.bend(y);
        dstate[columns[i]][row] = stands ? detail::within_reach<Scalar>(scale(i) * dy) : Scalar(0);
      }
    });
  }

  // The adjoint of x -> (state, log|det dstate/dx|): writes dx from dstate. It is 0 for values on a bound. That by a
  // whole number is that by its point in the cell. key: that of `read`.
  template <class Scalar>
  void write_grad(Columns<Scalar> dstate, const Scalar* dlog_det, const Table& x, Index first, Index rows,
                  const Index* columns, const bool* bad, Output dx, std::uint64_t key) const {
    write_columns(dstate, first, rows, width(), unscale_grad_, columns, bad, dx);
    auto noise = noise_of(x, first, rows, key);
    for_each_bounded(x.is_double, [&](auto type, Index i, const Bijection& h, const Support::Range&) {
      using T = decltype(type);
      const double factor = to_standard_.factor[static_cast<std::size_t>(i)];
      const CellNoise* cells = begin_cells(noise, i);
      for (Index row = 0; row < rows; ++row) {
        if (bad[row]) continue;
        const double read = x.row<T>(first + row)[i * x.column_stride];
        const Position at = position(i, h, ends<T>(i), cells ? cells->point(row, read) : read);
        const double dy = static_cast<double>(dstate[columns[i]][row]) * factor;
        const double value = at.on_bound ? 0 : (dy - static_cast<double>(dlog_det[row]) * h.bend(at.y)) / h.slope(at.y);
        const Index entry = (first + row) * width() + i;
        if (dx.is_double)
          static_cast<double*>(dx.data)[entry] = narrowed<double>(value);
        else
          static_cast<float*>(dx.data)[entry] = narrowed<float>(value);
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
    auto noise = noise_of(x, first, rows, 0);
    for_each_bounded(x.is_double, [&](auto, Index i, const Bijection& h, const Support::Range& range) {
      const CellNoise* cells = begin_cells(noise, i);
      for (Index row = 0; row < rows; ++row) {
        double& value = y[(first + row) * width() + i];
        const double point = cells ? cells->point(row, value) : value;
        value = range.holds(value) ? h.inverse(std::clamp(point, support(i).low, support(i).high)) : NAN;
      }
    });
  }

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  // The point on the line, and the state, of a value within its support.
  struct Position {
    double y, state;
    bool on_bound;
  };

  // The noise of the rows of a tile, if any feature has cells.
  std::optional<CellNoise> noise_of(const Table& x, Index first, Index rows, std::uint64_t key) const {
    if (celled_.empty()) return std::nullopt;
    std::optional<CellNoise> noise(std::in_place, key);
    for (const Index i : celled_)
      for (Index row = 0; row < rows; ++row) noise->add(row, value_of(x, first + row, i));
    return noise;
  }

  // The noise of a feature; null if it has no cells.
  const CellNoise* begin_cells(std::optional<CellNoise>& noise, Index feature) const {
    if (!support(feature).has_cells) return nullptr;
    noise->begin(feature);
    return &*noise;
  }

  // A point in a cell that is no whole number, which would stand for any other: the next number in its place.
  template <class T>
  static T off_whole(T point) {
    return point == std::floor(point) ? std::nextafter(point, std::numeric_limits<T>::max()) : point;
  }

  Position position(Index feature, const Bijection& h, const Ends& ends, double value) const {
    double y;
    if (value < ends.least)
      y = ends.low_y;
    else if (value > ends.most)
      y = ends.high_y;
    else  // a value on a bound of a box or a circle that was rounded to float32 may be slightly outside
      y = h.inverse(std::clamp(value, support(feature).low, support(feature).high));
    const auto i = static_cast<std::size_t>(feature);
    return {y, (y - to_standard_.shift[i]) * to_standard_.factor[i], !ends.holds(value)};
  }

  template <class T>
  static Ends ends_of(const Support& support, const Cells& cells) {
    Ends ends{-kInfinity, kInfinity, 0, 0};
    if (!support.bijection) return ends;
    const Bijection& h = *support.bijection;
    const auto range = support.template readable<T>();
    const double middle = 0.5 * (support.high - support.low);
    // distance: of the next number of T from the rounded bound, which is `beyond` the bound. The cell of the bound ends
    // half way to it. It is not empty, although a bound may be rounded to nearly half of that distance outside.
    const auto middle_of_cell = [&](double distance, double beyond, double cell) {
      return std::min(middle, 0.5 * std::max({0.5 * distance + beyond, 0.125 * distance, cell}));
    };
    if (h.low_is_infinite()) {
      ends.least = next_number<T>(range.low, kInfinity);
      ends.low_y = h.above_low(middle_of_cell(ends.least - range.low, range.low - support.low, cells.low));
    }
    if (h.high_is_infinite()) {
      ends.most = next_number<T>(range.high, -kInfinity);
      ends.high_y = h.below_high(middle_of_cell(range.high - ends.most, support.high - range.high, cells.high));
    }
    return ends;
  }

  // The next number of T on the way to `to`, not one that is too close to 0.
  template <class T>
  static double next_number(double from, double to) {
    const auto next = static_cast<double>(std::nextafter(static_cast<T>(from), static_cast<T>(to)));
    const double least = static_cast<double>(Support::kLeast<T>);
    return to > from ? std::max(next, from + least) : std::min(next, from - least);
  }

  template <class T>
  const Ends& ends(Index feature) const {
    return (std::is_same_v<T, float> ? float_ends_ : double_ends_)[static_cast<std::size_t>(feature)];
  }

  // Whether half a unit in the last place of x, a number of T, moves the state of its feature by so much, relative to
  // its size or to 1, with the slope dx/dstate. Few numbers but those near a bound are rounded so coarsely.
  template <class T>
  static bool is_rounded(double x, double slope, double state) {
    constexpr double kHalfUnit = 0.5 * static_cast<double>(std::numeric_limits<T>::epsilon());
    constexpr double kMost = std::is_same_v<T, float> ? 1e-4 : 1e-6;
    return std::abs(x) * kHalfUnit >= kMost * slope * std::max(1.0, std::abs(state));
  }

  // The rows of real features for `write`.
  template <class Scalar>
  void mark_moved(Columns<Scalar> state, Index rows, const Index* columns, bool is_double, bool* moved) const {
    const double most = is_double ? Support::kMost : static_cast<double>(std::numeric_limits<float>::max());
    for (Index i = 0; i < width(); ++i) {
      const Scalar* from = state[columns[i]];
      const bool is_real = support(i).bijection == nullptr;
      // In most columns no number comes near to any of it.
      Lanes<Scalar> sizes = Lanes<Scalar>::Zero();
      for (Index row = 0; row < rows; row += kLanes) sizes = sizes.max(lanes(from + row).abs());
      const auto size = static_cast<double>(sizes.maxCoeff());
      const double reach = std::abs(line(i, Scalar(0))) + size * scale(i);
      if (size <= kFarthest<Scalar> &&
          (!is_real || (reach <= most &&
                        !(is_double ? is_rounded<double>(reach, scale(i), 0) : is_rounded<float>(reach, scale(i), 0)))))
        continue;
      for (Index row = 0; row < rows; ++row) {
        const auto at = static_cast<double>(from[row]);
        moved[row] |= !(std::abs(at) <= kFarthest<Scalar>);
        if (!is_real) continue;
        const double x = line(i, from[row]);
        moved[row] |= !(std::abs(x) <= most) ||
                      (is_double ? is_rounded<double>(x, scale(i), at) : is_rounded<float>(x, scale(i), at));
      }
    }
  }

  double scale(Index feature) const { return from_standard_.factor[static_cast<std::size_t>(feature)]; }

  template <class Scalar>
  double line(Index feature, Scalar state) const {
    return static_cast<double>(state) * scale(feature) + from_standard_.shift[static_cast<std::size_t>(feature)];
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
  std::vector<Index> bounded_;                  // features that are not real
  std::vector<Index> celled_;                   // features whose whole numbers stand for cells
  std::vector<Ends> float_ends_, double_ends_;  // for tables of either type
  AffineMap to_standard_, from_standard_, scale_grad_, unscale_grad_;
  double log_scale_ = 0;  // sum of log scale over features
};

}  // namespace pushforward
