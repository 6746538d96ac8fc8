// The Student t base: heavier tails than the normal, with fixed or learned degrees of freedom.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "pushforward/base/base.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

// Independent Student t with n degrees of freedom:
// log p(z) = sum_i lgamma((n_i + 1) / 2) - lgamma(n_i / 2) - log(n_i pi) / 2 - (n_i + 1) / 2 log(1 + z_i^2 / n_i).
// If they are learned, each feature has its own, n = kLeast + (df - kLeast) exp(u), where u starts at 0.
template <class Scalar>
class StudentT final : public Base<Scalar> {
 public:
  StudentT(LatentFeatures features, double df, bool learned)
      : features_(std::move(features)), df_(df), learned_(learned) {}

  std::vector<ParameterBlock> parameters() const override {
    if (!learned_) return {};
    return {{"log_df", {static_cast<Index>(features_.on_line().size())}, 0.0}};
  }

  void log_prob(const Scalar* parameters, double temperature, Index padded, Columns<const Scalar> z, double* log_prob,
                Columns<double>) const override {
    const double log_temperature = std::log(temperature), variance = temperature * temperature;
    for (Index row = 0; row < padded; row += kLanes) lanes(log_prob + row) += features_.log_density();
    Index k = 0;
    for (const Index i : features_.on_line()) {
      const double n = df(parameters, k++);
      const double constant = log_gamma_ratio(n) - 0.5 * std::log(n * kPi) - log_temperature;
      for (Index row = 0; row < padded; row += kLanes) {
        const Lanes<double> square = lanes(z[i] + row).template cast<double>().square();
        lanes(log_prob + row) += constant - 0.5 * (n + 1) * (1 + square / (n * variance)).log();
      }
    }
  }

  void vjp(const Scalar* parameters, Index padded, Columns<const Scalar> z, const Scalar* dlog_prob, Columns<Scalar> dz,
           Scalar* dparameters, Columns<double>) const override {
    features_.clear(padded, dz);
    Index k = 0;
    for (const Index i : features_.on_line()) {
      const double n = df(parameters, k);
      const double slope = learned_ && dparameters ? log_gamma_ratio_slope(n) - 0.5 / n : 0.0;
      Lanes<double> sum = Lanes<double>::Zero();
      for (Index row = 0; row < padded; row += kLanes) {
        const Lanes<double> value = lanes(z[i] + row).template cast<double>();
        const Lanes<double> seed = lanes(dlog_prob + row).template cast<double>();
        const Lanes<double> square = value.square();
        const Lanes<double> dvalue = -(n + 1) * value / (n + square) * seed;
        lanes(dz[i] + row) = dvalue.template cast<Scalar>();
        if (learned_ && dparameters)
          sum += seed * (slope - 0.5 * (1 + square / n).log() + 0.5 * (n + 1) / n * square / (n + square));
      }
      // dn / du = n - kLeast
      if (learned_ && dparameters && std::abs(parameters[k]) < Scalar(kMostLog))
        dparameters[k] += static_cast<Scalar>(sum.sum() * (n - kLeast));
      ++k;
    }
  }

  void sample(const Scalar* parameters, double temperature, const Draws& draws, Index padded, Columns<Scalar> z,
              Columns<double>) const override {
    features_.sample(draws, padded, z);
    Index k = 0;
    for (const Index i : features_.on_line()) {
      draw_student_t(draws, static_cast<std::uint32_t>(k), padded, df(parameters, k), z[i]);
      ++k;
    }
    features_.heat(temperature, padded, z);
  }

 private:
  // Far below 1, where a Student t has no mean, a fit does not recover.
  static constexpr double kLeast = 0.5;
  static constexpr double kMostLog = 30;  // bound of |u|, so that exp(u) is finite

  double df(const Scalar* parameters, Index k) const {
    if (!learned_) return df_;
    return kLeast + (df_ - kLeast) * std::exp(std::clamp(static_cast<double>(parameters[k]), -kMostLog, kMostLog));
  }

  // lgamma((n + 1) / 2) - lgamma(n / 2). For large n its series is used, in which nothing cancels.
  static double log_gamma_ratio(double n) {
    if (n > 1e4) return 0.5 * std::log(0.5 * n) - 0.25 / n + 1 / (24 * n * n * n);
    return log_gamma(0.5 * (n + 1)) - log_gamma(0.5 * n);
  }
  static double log_gamma_ratio_slope(double n) {
    if (n > 1e4) return 0.5 / n + 0.25 / (n * n) - 1 / (8 * n * n * n * n);
    return 0.5 * (digamma(0.5 * (n + 1)) - digamma(0.5 * n));
  }

  // The recurrence up to 10, and the asymptotic series from there (Abramowitz and Stegun 1964, 6.1.15 and 6.1.41; 6.3.5
  // and 6.3.18). std::lgamma is not used: it writes to a global variable, a data race between threads.
  static double log_gamma(double a) {
    double sum = 0;
    for (; a < 10; ++a) sum -= std::log(a);
    const double r = 1 / (a * a);
    return sum + (a - 0.5) * std::log(a) - a + 0.5 * std::log(2 * kPi) +
           (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r * (1.0 / 1188))))) / a;
  }
  static double digamma(double a) {
    double sum = 0;
    for (; a < 10; ++a) sum -= 1 / a;
    const double r = 1 / (a * a);
    return sum + std::log(a) - 0.5 / a -
           r * (1.0 / 12 - r * (1.0 / 120 - r * (1.0 / 252 - r * (1.0 / 240 - r * (1.0 / 132)))));
  }

  LatentFeatures features_;
  double df_;
  bool learned_;
};

template <class Scalar>
std::unique_ptr<Base<Scalar>> make_student_t(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind", "df", "learned"});
  const bool learned = json::boolean_member(description, "learned");
  const double df = json::number_member(description, "df", learned ? limits::kLearnedDegrees : limits::kDegrees);
  return std::make_unique<StudentT<Scalar>>(LatentFeatures(domains), df, learned);
}

}  // namespace pushforward
