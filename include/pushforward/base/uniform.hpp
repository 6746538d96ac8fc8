// The uniform base, for flows whose features are all bounded.
#pragma once

#include <stdexcept>
#include <utility>

#include "pushforward/base/base.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

// Uniform on the box or circle of every feature; no feature may be on the line.
template <class Scalar>
class Uniform final : public Base<Scalar> {
 public:
  explicit Uniform(LatentFeatures features) : features_(std::move(features)) {
    if (!features_.on_line().empty())
      throw std::invalid_argument("the base Uniform() needs the support Interval or Circle of every feature");
  }

  void log_prob(const Scalar*, double, Index padded, Columns<const Scalar>, double* log_prob,
                Columns<double>) const override {
    for (Index row = 0; row < padded; row += kLanes) lanes(log_prob + row) += features_.log_density();
  }

  void vjp(const Scalar*, Index padded, Columns<const Scalar>, const Scalar*, Columns<Scalar> dz, Scalar*,
           Columns<double>) const override {
    features_.clear(padded, dz);
  }

  void sample(const Scalar*, double, const Draws& draws, Index padded, Columns<Scalar> z,
              Columns<double>) const override {
    features_.sample(draws, padded, z);
  }

 private:
  LatentFeatures features_;
};

template <class Scalar>
std::unique_ptr<Base<Scalar>> make_uniform(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind"});
  return std::make_unique<Uniform<Scalar>>(LatentFeatures(domains));
}

}  // namespace pushforward
