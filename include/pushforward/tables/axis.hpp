// The line on which a flow models a number: where its values lie, and what density or mass they have there.
//
// A rounded number is on a grid, whose points stand for the cells of all numbers that are rounded to them. The cells of
// the atoms are taken out, and the others closed up. The mass of a cell is the difference of the flow's distribution
// function at its ends.
#pragma once

#include <optional>

#include "pushforward/tables/warp.hpp"

namespace pushforward::tables {

// The standard normal's distribution function.
inline double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

class Axis {
 public:
  Axis(const TableColumn& column, std::optional<Warp> warp)
      : warp_(std::move(warp)),
        low_(column.low),
        high_(column.high),
        step_(column.step),
        is_whole_(column.has_masses()) {
    const bool has_low = std::isfinite(low_), has_high = std::isfinite(high_);
    // From the only end, or from the lower one, inwards.
    is_down_ = has_high && !has_low;
    origin_ = is_down_ ? high_ : has_low ? low_ : 0;
    is_shifted_ = column.kind == "Above" || column.kind == "Below";
    from_end_ = has_low || has_high;
    own_ = {is_shifted_ ? "Positive" : column.kind, low_, high_};
    if (is_shifted_) own_ = {"Positive", 0, kInfinity};
    if (!is_rounded()) return;
    for (const double atom : column.atoms) atoms_.push_back(index(atom));
    std::sort(atoms_.begin(), atoms_.end());
    own_ = from_end_ ? Line{"Positive", 0, kInfinity} : Line{"Real", -kInfinity, kInfinity};
    if (!has_low || !has_high) return;
    cells_ = std::nearbyint((high_ - low_) / step_) + 1 - static_cast<double>(atoms_.size());
    if (!std::isfinite(cells_)) throw std::invalid_argument("a number has more cells than a double can count");
    own_ = {"Interval", 0, std::max(cells_, 1.0)};
  }

  // How many cells there are beside the atoms; infinite without a step, or without two ends.
  double cells() const { return cells_; }
  bool is_rounded() const { return step_ > 0; }
  double step() const { return step_; }

  // The support of the flow: a kind with its ends.
  struct Line {
    std::string kind;
    double low, high;
  };
  Line support() const { return warp_ ? Line{"Real", -kInfinity, kInfinity} : own_; }

  // Which of some atoms a value is; -1 if it is none.
  Index atom_of(double value, const std::vector<double>& atoms) const {
    const auto place = [&](double number) {
      if (!is_rounded()) return number;
      return is_down_ ? -index(number) : index(number);  // in the order of the values
    };
    const double at = place(value);
    const auto found = std::lower_bound(atoms.begin(), atoms.end(), at,
                                        [&](double atom, double wanted) { return place(atom) < wanted; });
    return found != atoms.end() && place(*found) == at ? static_cast<Index>(found - atoms.begin()) : -1;
  }

  // Whether a value that is no atom is on the line.
  bool allows(double value) const {
    if (!is_rounded()) return value >= low_ && value <= high_;
    const double number = cell(value);
    return (!from_end_ || (number >= 0 && number < cells_)) && (!is_whole_ || value == std::nearbyint(value));
  }

  // The cell of a value that is no atom.
  double cell(double value) const {
    const double at = index(value);
    return at - static_cast<double>(std::lower_bound(atoms_.begin(), atoms_.end(), at) - atoms_.begin());
  }

  // Whether a point of the line is its lower or its upper end, where the flow's latent point is infinite.
  bool is_low_end(double point) const { return from_end_ && point <= 0; }
  bool is_high_end(double point) const { return point >= cells_; }

  // What the flow models of a point.
  double to_flow(double point) const { return warp_ ? warp_->score(to_line(point)) : point; }

  // The log derivative of that by the point.
  double log_slope(double point) const {
    if (!warp_) return 0;
    const double at = to_line(point), slope = warp_->log_slope(at, warp_->score(at));
    return is_log() ? slope - at : slope;
  }

  // The point of a number that is not rounded.
  double point(double value) const { return is_shifted_ ? (is_down_ ? origin_ - value : value - origin_) : value; }

  // The log mass of a cell between two latent points, or the log density in it of a number that is no whole one. NaN if
  // the mass is so small that it has lost digits.
  double log_mass(double low, double high) const {
    constexpr double kLeastMass = 1e-290;
    // The tail in which the numbers are small keeps their digits.
    const double mass = low > 0 ? normal_cdf(-low) - normal_cdf(-high) : normal_cdf(high) - normal_cdf(low);
    return mass > kLeastMass ? in_cell(std::log(mass)) : std::numeric_limits<double>::quiet_NaN();
  }

  // The log density of a value of a cell by its log mass.
  double in_cell(double log_mass) const { return is_whole_ ? log_mass : log_mass - std::log(step_); }

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  // The point of the grid, counted from the origin.
  double index(double value) const { return std::nearbyint((is_down_ ? origin_ - value : value - origin_) / step_); }

  // Whether the warp takes the logarithms of points: there is one end.
  bool is_log() const { return std::isfinite(own_.low) && !std::isfinite(own_.high); }

  // What the warp takes.
  double to_line(double point) const {
    if (!is_log()) return point;
    // The end itself may be a value.
    const double least = std::max(std::exp(warp_->first_edge() - 1), std::numeric_limits<double>::min());
    return std::log(std::max(point, least));
  }

  std::optional<Warp> warp_;
  double low_, high_, step_, origin_ = 0, cells_ = kInfinity;
  bool is_whole_, is_down_ = false, is_shifted_ = false, from_end_ = false;
  Line own_;
  std::vector<double> atoms_;  // their points of the grid, in order
};

}  // namespace pushforward::tables
