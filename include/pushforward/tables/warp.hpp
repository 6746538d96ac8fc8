// The map from a column's line to normal scores: a number's place among the rows of the fit, as a normal quantile.
#pragma once

#include "pushforward/data/normal_quantile.hpp"
#include "pushforward/tables/column.hpp"

namespace pushforward::tables {

// Between two ends it is the normal quantile of a distribution function that is linear in each bin. On a line it is
// linear itself in each bin, and beyond the outer ones.
class Warp {
 public:
  // Throws std::invalid_argument when the description is not one of a warp.
  explicit Warp(const Json& description) {
    json::expect_names(description, {"kind", "edges", "shares"});
    if (json::string_member(description, "kind") != "Warp") throw std::invalid_argument("not a Warp");
    edges_ = detail::finite_numbers(description, "edges");
    places_ = detail::finite_numbers(description, "shares");
    detail::expect_increasing(edges_, "edges");
    detail::expect_increasing(places_, "shares");
    if (edges_.size() < 2 || places_.size() != edges_.size() || places_.front() < 0 || places_.back() > 1)
      throw std::invalid_argument("a warp needs a share from 0 to 1 for each of at least two edges");
    has_ends_ = places_.front() == 0;
    if (has_ends_ != (places_.back() == 1)) throw std::invalid_argument("a warp has two ends or none");
    if (!has_ends_)
      for (double& place : places_) place = quantile(place);
  }

  double first_edge() const { return edges_.front(); }

  // The score of a point of the line.
  double score(double point) const {
    const std::size_t bin = bin_of(point);
    const double value = places_[bin] + slope(bin) * (point - edges_[bin]);
    return has_ends_ ? std::clamp(quantile(std::clamp(value, 0.0, 1.0)), -kMostScore, kMostScore) : value;
  }

  // The log derivative of the score by the point.
  double log_slope(double point, double score) const {
    constexpr double kHalfLogTwoPi = 0.918938533204672741780;
    const double result = std::log(slope(bin_of(point)));
    return has_ends_ ? result + 0.5 * score * score + kHalfLogTwoPi : result;
  }

 private:
  // The normal's distribution function is 1 there, to the last digit.
  static constexpr double kMostScore = 8;

  static double quantile(double share) {
    constexpr double kLeast = std::numeric_limits<double>::min(), kGap = std::numeric_limits<double>::epsilon() / 2;
    const double u = std::clamp(share, kLeast, 1 - kGap);
    return normal_quantile(u, 1 - u);
  }

  // The outer bins go on beyond their ends.
  std::size_t bin_of(double point) const {
    const auto above = std::upper_bound(edges_.begin() + 1, edges_.end() - 1, point);
    return static_cast<std::size_t>(above - edges_.begin()) - 1;
  }

  double slope(std::size_t bin) const { return (places_[bin + 1] - places_[bin]) / (edges_[bin + 1] - edges_[bin]); }

  std::vector<double> edges_, places_;  // places: shares between two ends, else scores
  bool has_ends_;
};

}  // namespace pushforward::tables
