// The support Positive: values above 0, by x = exp(y).
#pragma once

#include <limits>

#include "pushforward/data/support.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

class Exponential final : public Bijection {
 public:
  double value(double y) const override { return std::exp(y); }
  double inverse(double x) const override { return std::log(x); }
  double log_slope(double y) const override { return y; }
  double slope(double y) const override { return std::exp(y); }
  double bend(double) const override { return 1; }
  double above_low(double distance) const override { return std::log(distance); }
  double below_high(double) const override { return std::numeric_limits<double>::infinity(); }
  double rough_slope(double x) const override { return x; }
  bool low_is_infinite() const override { return true; }
  bool high_is_infinite() const override { return false; }
};

inline Support make_positive(const Json& description, bool /*boxed*/) {
  json::expect_names(description, {"kind"});
  return {0, Support::kMost, false, Domain::line, std::make_shared<Exponential>()};
}

}  // namespace pushforward
