// What values a feature may take, and the bijection that carries them to where the layers work: h takes a point y there
// to the feature, x = h(y). Everything here is float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "pushforward/model/json.hpp"
#include "pushforward/tile/domain.hpp"

namespace pushforward {

// Phi^-1(u) of a standard normal, given u and v = 1 - u so that both tails keep their digits (Wichura 1988, algorithm
// AS 241, PPND16: relative error about 1e-16). -infinity and infinity at u = 0 and v = 0.
inline double normal_quantile(double u, double v) {
  const auto ratio = [](double r, const double (&top)[8], const double (&bottom)[8]) {
    double numerator = top[7], denominator = bottom[7];
    for (int i = 6; i >= 0; --i) {
      numerator = numerator * r + top[i];
      denominator = denominator * r + bottom[i];
    }
    return numerator / denominator;
  };
  const double q = 0.5 * (u - v);
  if (std::abs(q) <= 0.425) {
    constexpr double kTop[] = {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                               1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                               3.3430575583588128105e4, 2.5090809287301226727e3};
    constexpr double kBottom[] = {1.0,
                                  4.2313330701600911252e1,
                                  6.8718700749205790830e2,
                                  5.3941960214247511077e3,
                                  2.1213794301586595867e4,
                                  3.9307895800092710610e4,
                                  2.8729085735721942674e4,
                                  5.2264952788528545610e3};
    return q * ratio(0.180625 - q * q, kTop, kBottom);
  }
  const double tail = std::min(u, v);
  const double r = std::sqrt(-std::log(tail));
  double size;
  if (!(tail > 0)) {
    size = std::numeric_limits<double>::infinity();
  } else if (r <= 5) {
    constexpr double kTop[] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                               3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                               2.27238449892691845833e-2, 7.74545014278341407640e-4};
    constexpr double kBottom[] = {1.0,
                                  2.05319162663775882187e0,
                                  1.67638483018380384940e0,
                                  6.89767334985100004550e-1,
                                  1.48103976427480074590e-1,
                                  1.51986665636164571966e-2,
                                  5.47593808499534494600e-4,
                                  1.05075007164441684324e-9};
    size = ratio(r - 1.6, kTop, kBottom);
  } else {
    constexpr double kTop[] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                               2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                               2.71155556874348757815e-5, 2.01033439929228813265e-7};
    constexpr double kBottom[] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};
    size = ratio(r - 5, kTop, kBottom);
  }
  return q < 0 ? -size : size;
}

// The bijections. Each has h and its inverse; log h'; h'; and the bend h'' / h' = (log h')', which is all that adjoints
// need of the second derivative. kLowEnd and kHighEnd tell on which sides a finite x is y at infinity.
namespace bijection {

// x = exp(y), of (0, infinity)
struct Exponential {
  static constexpr bool kLowEnd = true, kHighEnd = false;
  double inverse(double x) const { return std::log(x); }
  double value(double y) const { return std::exp(y); }
  double log_slope(double y) const { return y; }
  double slope(double y) const { return std::exp(y); }
  double bend(double) const { return 1; }
};

// x = low + (high - low) Phi(y), of (low, high)
struct Probit {
  static constexpr bool kLowEnd = true, kHighEnd = true;
  double low, high, width = high - low, log_width = std::log(width);
  double inverse(double x) const { return normal_quantile((x - low) / width, (high - x) / width); }
  double value(double y) const {
    const double tail = 0.5 * width * std::erfc(std::abs(y) / std::sqrt(2.0));
    return y < 0 ? low + tail : high - tail;
  }
  double log_slope(double y) const {
    constexpr double kHalfLogTwoPi = 0.91893853320467274178;
    return log_width - 0.5 * y * y - kHalfLogTwoPi;
  }
  double slope(double y) const { return std::exp(log_slope(y)); }
  double bend(double y) const { return -y; }
};

// x = low + (high - low) (y + reach) / (2 reach), of [low, high] onto [-reach, reach]
struct Linear {
  static constexpr bool kLowEnd = false, kHighEnd = false;
  double low, high, reach;
  bool joined;  // whether y counts modulo 2 reach
  double width = high - low, stretch = width / (2 * reach), log_stretch = std::log(stretch);
  double inverse(double x) const { return reach * (((x - low) - (high - x)) / width); }
  double value(double y) const {
    double part = y / (2 * reach);
    if (joined) part -= std::floor(part + 0.5);
    return part < 0 ? low + width * (part + 0.5) : high - width * (0.5 - part);
  }
  double log_slope(double) const { return log_stretch; }
  double slope(double) const { return stretch; }
  double bend(double) const { return 0; }
};

}  // namespace bijection

// The values that one feature may take.
class Support {
 public:
  enum class Kind { real, positive, interval, circle };

  Support() = default;  // every real number

  explicit Support(const Json& description) {
    const std::string kind = json::string_member(description, "kind");
    if (kind == "Real" || kind == "Positive") {
      json::expect_names(description, {"kind"});
      kind_ = kind == "Real" ? Kind::real : Kind::positive;
      if (kind == "Positive") low_ = 0;
    } else if (kind == "Interval" || kind == "Circle") {
      json::expect_names(description, {"kind", "low", "high"});
      kind_ = kind == "Interval" ? Kind::interval : Kind::circle;
      low_ = json::number_member(description, "low", -kMost, kMost);
      high_ = json::number_member(description, "high", -kMost, kMost);
      const double width = high_ - low_;
      if (!(width > 0) || !std::isfinite(width) || !std::isfinite(1 / width))
        throw std::invalid_argument("a support needs low < high with a finite width");
    } else {
      throw std::invalid_argument("unknown support " + json::quote(kind));
    }
  }

  Domain domain(bool uniform_base) const {
    if (kind_ == Kind::circle) return Domain::circle;
    return kind_ == Kind::interval && uniform_base ? Domain::box : Domain::line;
  }

  Kind kind() const { return kind_; }
  bool is_real() const { return kind_ == Kind::real; }
  double low() const { return low_; }
  double high() const { return high_; }

  struct Range {
    double low, high;
    bool holds(double value) const { return value >= low && value <= high; }
  };

  // Values of a table of T that belong: those between the bounds as T rounds them.
  template <class T>
  Range readable() const {
    return {rounded<T>(low_), rounded<T>(high_)};
  }

  // The least and the greatest value of T that may be written. Bounds too close for T have none between them: then it
  // is the nearest.
  template <class T>
  Range writable() const {
    constexpr T kLargest = std::numeric_limits<T>::max();
    if (kind_ == Kind::positive) return {std::numeric_limits<T>::min(), kLargest};
    auto low = static_cast<T>(rounded<T>(low_)), high = static_cast<T>(rounded<T>(high_));
    if (low < low_) low = std::nextafter(low, kLargest);
    if (high > high_) high = std::nextafter(high, -kLargest);
    if (low > high) low = high = static_cast<T>(rounded<T>(low_));
    return {low, high};
  }

  // Calls f with the bijection; not for a real feature, which has none.
  template <class F>
  void visit(bool uniform_base, F&& f) const {
    if (kind_ == Kind::positive)
      f(bijection::Exponential{});
    else if (domain(uniform_base) == Domain::line)
      f(bijection::Probit{low_, high_});
    else if (kind_ == Kind::interval)
      f(bijection::Linear{low_, high_, 1.0, false});
    else
      f(bijection::Linear{low_, high_, kPi, true});
  }

 private:
  static constexpr double kMost = std::numeric_limits<double>::max();

  template <class T>
  static double rounded(double bound) {
    return static_cast<T>(std::clamp<double>(bound, std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max()));
  }

  Kind kind_ = Kind::real;
  double low_ = -kMost, high_ = kMost;
};

// The "support" of a flow's description, one entry per feature; without it every feature is real.
inline std::vector<Support> supports(const Json& description, Index dim) {
  if (!description.contains("support")) return std::vector<Support>(static_cast<std::size_t>(dim));
  const Json& entries = json::array_member(description, "support");
  if (entries.size() != static_cast<std::size_t>(dim))
    throw std::invalid_argument("'support' needs one entry per feature");
  std::vector<Support> result;
  for (const Json& entry : entries) result.emplace_back(entry);
  return result;
}

}  // namespace pushforward
