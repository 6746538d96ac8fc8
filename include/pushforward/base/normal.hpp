// The normal base, the default.
#pragma once

#include <utility>

#include "pushforward/base/base.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

// Independent standard normals: log p(z) = -sum_i z_i^2 / 2 - (dim / 2) log(2 pi).
template <class Scalar>
class Normal final : public Base<Scalar> {
 public:
  explicit Normal(LatentFeatures features)
      : features_(std::move(features)),
        constant_(features_.log_density() - 0.91893853320467274178 * static_cast<double>(features_.on_line().size())) {}

  void log_prob(const Scalar*, double temperature, Index padded, Columns<const Scalar> z, double* log_prob,
                Columns<double>) const override {
    const double constant = constant_ - std::log(temperature) * static_cast<double>(features_.on_line().size());
    const double factor = 0.5 / (temperature * temperature);
    for (Index row = 0; row < padded; row += kLanes) {
      Lanes<double> sum = Lanes<double>::Constant(constant);
      for (const Index i : features_.on_line()) sum -= factor * lanes(z[i] + row).template cast<double>().square();
      lanes(log_prob + row) += sum;
    }
  }

  void vjp(const Scalar*, Index padded, Columns<const Scalar> z, const Scalar* dlog_prob, Columns<Scalar> dz, Scalar*,
           Columns<double>) const override {
    features_.clear(padded, dz);
    for (const Index i : features_.on_line())
      for (Index row = 0; row < padded; row += kLanes) lanes(dz[i] + row) = -lanes(z[i] + row) * lanes(dlog_prob + row);
  }

  void sample(const Scalar*, double temperature, const Draws& draws, Index padded, Columns<Scalar> z,
              Columns<double>) const override {
    features_.sample(draws, padded, z);
    const auto& lines = features_.on_line();
    for (std::size_t k = 0; k < lines.size(); k += 2) {
      alignas(64) Scalar spare[kTileRows];
      Scalar* second = k + 1 < lines.size() ? z[lines[k + 1]] : spare;
      draw_normals(draws, static_cast<std::uint32_t>(k / 2), padded, z[lines[k]], second);
    }
    features_.heat(temperature, padded, z);
  }

 private:
  LatentFeatures features_;
  double constant_;
};

template <class Scalar>
std::unique_ptr<Base<Scalar>> make_normal(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind"});
  return std::make_unique<Normal<Scalar>>(LatentFeatures(domains));
}

}  // namespace pushforward
