// The interface of a base density: the distribution of the latent side.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "pushforward/base/noise.hpp"
#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/domain.hpp"
#include "pushforward/tile/parameters.hpp"

namespace pushforward {

template <class Scalar>
class Base {
 public:
  virtual ~Base() = default;
  virtual std::vector<ParameterBlock> parameters() const { return {}; }
  // Tile columns of float64 that each of the calls needs as scratch memory.
  virtual Index scratch_columns() const { return 0; }
  // A temperature is what the scale of every feature on the line is multiplied with: 1 is the base itself. Components
  // of a mixture keep their weights and means. Features on a box or a circle are uniform at any temperature.

  // Adds log p(z) of each row to log_prob.
  virtual void log_prob(const Scalar* parameters, double temperature, Index padded, Columns<const Scalar> z,
                        double* log_prob, Columns<double> scratch) const = 0;
  // dz = dlog_prob * d log p / dz at the temperature 1, written. dparameters: added to; null if not wanted.
  virtual void vjp(const Scalar* parameters, Index padded, Columns<const Scalar> z, const Scalar* dlog_prob,
                   Columns<Scalar> dz, Scalar* dparameters, Columns<double> scratch) const = 0;
  // Draws points of the base and writes them to z.
  virtual void sample(const Scalar* parameters, double temperature, const Draws& draws, Index padded, Columns<Scalar> z,
                      Columns<double> scratch) const = 0;
};

// The features of the latent side, by domain. Those on a box or a circle are uniform under every base.
class LatentFeatures {
 public:
  explicit LatentFeatures(const std::vector<Domain>& domains) {
    for (Index i = 0; i < static_cast<Index>(domains.size()); ++i) {
      const Domain domain = domains[static_cast<std::size_t>(i)];
      if (domain == Domain::line) {
        on_line_.push_back(i);
      } else {
        uniform_.push_back(i);
        halves_.push_back(domain == Domain::box ? 1 : kPi);
        log_density_ -= std::log(2 * halves_.back());
      }
    }
  }

  const std::vector<Index>& on_line() const { return on_line_; }
  // The log density of the other features together.
  double log_density() const { return log_density_; }

  // Multiplies the features on the line by a temperature.
  template <class Scalar>
  void heat(double temperature, Index padded, Columns<Scalar> z) const {
    if (temperature == 1) return;
    constexpr double kMost = static_cast<double>(std::numeric_limits<Scalar>::max());
    for (const Index i : on_line_)
      for (Index row = 0; row < padded; ++row)
        z[i][row] = static_cast<Scalar>(std::clamp(static_cast<double>(z[i][row]) * temperature, -kMost, kMost));
  }

  // The derivatives by the other features are 0.
  template <class Scalar>
  void clear(Index padded, Columns<Scalar> dz) const {
    for (const Index i : uniform_) std::fill_n(dz[i], padded, Scalar(0));
  }

  // Draws the other features.
  template <class Scalar>
  void sample(const Draws& draws, Index padded, Columns<Scalar> z) const {
    for (std::size_t k = 0; k < uniform_.size(); ++k)
      draw_uniform(draws, kUniformStreams + static_cast<std::uint32_t>(k), padded, halves_[k], z[uniform_[k]]);
  }

 private:
  static constexpr std::uint32_t kUniformStreams = 1u << 31;  // smaller numbers are for the features on the line

  std::vector<Index> on_line_, uniform_;
  std::vector<double> halves_;  // half the width of each uniform feature's domain
  double log_density_ = 0;
};

}  // namespace pushforward
