// The support Interval: values between two bounds, on the line by the quantile function of the standard normal, or as
// they are in a box.
#pragma once

#include <algorithm>

#include "pushforward/data/linear.hpp"
#include "pushforward/data/normal_quantile.hpp"

namespace pushforward {

// x = low + (high - low) Phi(y)
class Probit final : public Bijection {
 public:
  Probit(double low, double high) : low_(low), high_(high), width_(high - low), log_width_(std::log(width_)) {}

  double value(double y) const override {
    const double tail = 0.5 * width_ * std::erfc(std::abs(y) / std::sqrt(2.0));
    return y < 0 ? low_ + tail : high_ - tail;
  }
  double inverse(double x) const override { return normal_quantile((x - low_) / width_, (high_ - x) / width_); }
  double log_slope(double y) const override {
    constexpr double kHalfLogTwoPi = 0.91893853320467274178;
    return log_width_ - 0.5 * y * y - kHalfLogTwoPi;
  }
  double slope(double y) const override { return std::exp(log_slope(y)); }
  double bend(double y) const override { return -y; }
  double above_low(double distance) const override {
    return normal_quantile(distance / width_, (width_ - distance) / width_);
  }
  double below_high(double distance) const override { return -above_low(distance); }
  // Between y = 0 and the last number, phi(y) / Phi(-y) grows from 0.8 to 38.
  double rough_slope(double x) const override { return std::min(x - low_, high_ - x); }
  bool low_is_infinite() const override { return true; }
  bool high_is_infinite() const override { return true; }

 private:
  double low_, high_, width_, log_width_;
};

inline Support make_interval(const Json& description, bool boxed) {
  const auto [low, high] = bounds_of(description);
  if (boxed) return {low, high, true, Domain::box, std::make_shared<Linear>(low, high, 1.0, false)};
  return {low, high, true, Domain::line, std::make_shared<Probit>(low, high)};
}

}  // namespace pushforward
