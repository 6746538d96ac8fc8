// x = low + (high - low) (y + reach) / (2 reach): a box or a circle of [low, high] onto [-reach, reach].
#pragma once

#include "pushforward/data/support.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

class Linear final : public Bijection {
 public:
  // periodic: y counts modulo 2 reach.
  Linear(double low, double high, double reach, bool periodic)
      : low_(low),
        high_(high),
        reach_(reach),
        periodic_(periodic),
        width_(high - low),
        stretch_(width_ / (2 * reach)),
        log_stretch_(std::log(stretch_)) {}

  double value(double y) const override {
    double part = y / (2 * reach_);
    if (periodic_) part -= std::floor(part + 0.5);
    return part < 0 ? low_ + width_ * (part + 0.5) : high_ - width_ * (0.5 - part);
  }
  double inverse(double x) const override { return reach_ * (((x - low_) - (high_ - x)) / width_); }
  double log_slope(double) const override { return log_stretch_; }
  double slope(double) const override { return stretch_; }
  double bend(double) const override { return 0; }
  double above_low(double distance) const override { return reach_ * (2 * distance / width_ - 1); }
  double below_high(double distance) const override { return -above_low(distance); }
  double rough_slope(double) const override { return stretch_; }
  bool low_is_infinite() const override { return false; }
  bool high_is_infinite() const override { return false; }

 private:
  double low_, high_, reach_;
  bool periodic_;
  double width_, stretch_, log_stretch_;
};

// "low" and "high" of a description.
inline Support::Range bounds_of(const Json& description) {
  json::expect_names(description, {"kind", "low", "high"});
  constexpr limits::Range<double> kAny{-Support::kMost, Support::kMost};
  const Support::Range bounds{json::number_member(description, "low", kAny),
                              json::number_member(description, "high", kAny)};
  const double width = bounds.high - bounds.low;
  if (!(width > 0) || !std::isfinite(width) || !std::isfinite(1 / width))
    throw std::invalid_argument("a support needs low < high with a finite width");
  return bounds;
}

}  // namespace pushforward
