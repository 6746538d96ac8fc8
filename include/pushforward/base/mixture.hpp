// The mixture base: Gaussians with learned weights, means and covariances.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "pushforward/base/base.hpp"
#include "pushforward/base/gaussian.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

// p(z) = sum_k w_k N(z; mean_k, (A_k^T A_k)^-1), with w the softmax of `log_weights` and A = diag(exp(log_diagonals))
// (I + S), where S is strictly lower triangular: row i of it is shears[i (i - 1) / 2 ...]. Without S, for a diagonal
// covariance, A is diagonal. Parameters of zero are the standard normal.
template <class Scalar>
class Mixture final : public Base<Scalar> {
 public:
  Mixture(LatentFeatures features, Index components, bool full)
      : features_(std::move(features)), components_(components), full_(full) {}

  std::vector<ParameterBlock> parameters() const override {
    // Components that start alike have the same gradients, and would stay alike.
    const double apart = components_ > 1 ? 0.5 : 0.0;
    std::vector<ParameterBlock> blocks{{"log_weights", {components_}, 0.0},
                                       {"means", {components_, dim()}, apart},
                                       {"log_diagonals", {components_, dim()}, 0.0}};
    if (full_) blocks.push_back({"shears", {components_, shears()}, 0.0});
    return blocks;
  }

  Index scratch_columns() const override { return layout_.count(); }

  void log_prob(const Scalar* parameters, double temperature, Index padded, Columns<const Scalar> z, double* log_prob,
                Columns<double> memory) const override {
    using V = Vec<double>;
    log_joints(parameters, temperature, padded, z, memory);
    const Columns<const double> log_joint = memory[log_joint_];
    for (Index row = 0; row < padded; row += V::kWidth) {
      const V value =
          components_ == 1 ? V::load(log_joint[0] + row) : gaussian::LogSum(components_, log_joint, row).value();
      (V::load(log_prob + row) + value).store(log_prob + row);
    }
  }

  // With the responsibility r_k of component k for a row, w = r_k dlog_prob and y = A_k (z - mean_k):
  // dz = -sum_k w A_k^T y, dmean_k = sum_rows w A_k^T y, dlog_weights_k = sum_rows w - w_k sum_rows dlog_prob,
  // dlog_diagonals_i = sum_rows w (1 - y_i^2), dS_ij = -exp(log_diagonals_i) sum_rows w y_i (z - mean)_j.
  void vjp(const Scalar* parameters, Index padded, Columns<const Scalar> z, const Scalar* dlog_prob, Columns<Scalar> dz,
           Scalar* dparameters, Columns<double> memory) const override {
    features_.clear(padded, dz);
    const auto delta = memory[delta_], y = memory[y_], weighted = memory[weighted_], dvalue = memory[dvalue_];
    double* factor = memory[factor_].data();
    log_joints(parameters, 1, padded, z, memory);
    responsibilities(padded, memory);
    std::fill_n(dvalue.data(), dim() * kTileRows, 0.0);
    const WeightSum weights(parameters, components_);
    double all = 0;  // the sum of dlog_prob
    for (Index row = 0; row < padded; ++row) all += static_cast<double>(dlog_prob[row]);
    for (Index k = 0; k < components_; ++k) {
      double* w = memory[log_joint_][k];
      for (Index row = 0; row < padded; row += kLanes) lanes(w + row) *= lanes(dlog_prob + row).template cast<double>();
      whiten(parameters, 1, k, padded, z, memory);
      for_each_lanes(padded, dim(),
                     [&](Index i, Index row) { lanes(weighted[i] + row) = lanes(w + row) * lanes(y[i] + row); });
      gaussian::add_whiten_transposed(full_, dim(), padded, factor, weighted, dvalue);
      if (!dparameters) continue;
      const double share = sum(padded, w);
      add(dparameters[k], share - weights.weight(parameters, k) * all);
      if (full_)
        gaussian::lower_products(dim(), padded, weighted, delta, memory[transposed_].data(), memory[products_].data());
      add_component(parameters, k, padded, share, memory, dparameters);
    }
    Index i = 0;
    for (const Index column : features_.on_line()) {
      constexpr double kMost = static_cast<double>(std::numeric_limits<Scalar>::max());
      for (Index row = 0; row < padded; row += kLanes)
        lanes(dz[column] + row) = (-lanes(dvalue[i] + row)).max(-kMost).min(kMost).template cast<Scalar>();
      ++i;
    }
  }

  // A uniform number picks the component. Standard normals e give z = mean + A^-1 e, by forward substitution.
  void sample(const Scalar* parameters, double temperature, const Draws& draws, Index padded, Columns<Scalar> z,
              Columns<double> memory) const override {
    features_.sample(draws, padded, z);
    const auto& lines = features_.on_line();
    for (std::size_t i = 0; i < lines.size(); i += 2) {
      alignas(64) Scalar spare[kTileRows];
      Scalar* second = i + 1 < lines.size() ? z[lines[i + 1]] : spare;
      draw_normals(draws, static_cast<std::uint32_t>(i / 2), padded, z[lines[i]], second);
    }
    alignas(64) double picked[kTileRows];  // between -1/2 and 1/2; float64, so that both precisions pick the same
    draw_uniform(draws, kComponentStream, padded, 0.5, picked);
    const WeightSum weights(parameters, components_);
    double* cumulative = memory[log_joint_].data();
    double below = 0;
    for (Index k = 0; k < components_; ++k) cumulative[k] = below += weights.weight(parameters, k);
    double* delta = memory[delta_].data();
    for (Index row = 0; row < padded; ++row) {
      Index k = 0;
      while (k + 1 < components_ && picked[row] + 0.5 > cumulative[k]) ++k;
      const Scalar* shear = shears_of(parameters, k);
      for (Index i = 0; i < dim(); ++i) {
        double value =
            static_cast<double>(z[lines[static_cast<std::size_t>(i)]][row]) / std::exp(log_diagonal(parameters, k, i));
        if (full_)
          for (Index j = 0; j < i; ++j) value -= held(*shear++, kMostShear) * delta[j];
        delta[i] = std::clamp(value, -kFar, kFar);
      }
      for (Index i = 0; i < dim(); ++i) {
        constexpr double kMost = static_cast<double>(std::numeric_limits<Scalar>::max());
        const double value = static_cast<double>(means_of(parameters, k)[i]) + temperature * delta[i];
        z[lines[static_cast<std::size_t>(i)]][row] = static_cast<Scalar>(std::clamp(value, -kMost, kMost));
      }
    }
  }

 private:
  // Smaller numbers are for the features on the line, greater ones for the others.
  static constexpr std::uint32_t kComponentStream = (1u << 31) - 1;
  // Where they are used, log_diagonals, shears and distances are held within these, so that every product is finite.
  static constexpr double kMostLog = 60, kMostShear = 1e30, kFar = 1e60;

  // The logarithm of the sum of exp(log_weights).
  struct WeightSum {
    double value;

    WeightSum(const Scalar* log_weights, Index count) {
      const auto greatest = static_cast<double>(*std::max_element(log_weights, log_weights + count));
      double sum = 0;
      for (Index k = 0; k < count; ++k) sum += std::exp(static_cast<double>(log_weights[k]) - greatest);
      value = greatest + std::log(sum);
    }
    double log_weight(const Scalar* log_weights, Index k) const { return static_cast<double>(log_weights[k]) - value; }
    double weight(const Scalar* log_weights, Index k) const { return std::exp(log_weight(log_weights, k)); }
  };

  Index dim() const { return static_cast<Index>(features_.on_line().size()); }
  Index shears() const { return dim() * (dim() - 1) / 2; }

  // Where the parameters of component k begin; they are those of the gradient too.
  Index mean_start(Index k) const { return components_ + k * dim(); }
  Index log_diagonal_start(Index k) const { return components_ + (components_ + k) * dim(); }
  Index shear_start(Index k) const { return components_ + 2 * components_ * dim() + k * shears(); }

  const Scalar* means_of(const Scalar* parameters, Index k) const { return parameters + mean_start(k); }
  const Scalar* shears_of(const Scalar* parameters, Index k) const { return parameters + shear_start(k); }
  static double held(Scalar value, double most) { return std::clamp(static_cast<double>(value), -most, most); }
  double log_diagonal(const Scalar* parameters, Index k, Index i) const {
    return held(parameters[log_diagonal_start(k) + i], kMostLog);
  }

  // Fills `factor` with A_k over the temperature, and the columns delta = z - mean_k and y = A_k delta. Returns the
  // log-determinant of `factor`.
  double whiten(const Scalar* parameters, double temperature, Index k, Index padded, Columns<const Scalar> z,
                Columns<double> memory) const {
    double* factor = memory[factor_].data();
    const Scalar* shear = shears_of(parameters, k);
    const double log_temperature = std::log(temperature);
    double log_det = 0;
    for (Index i = 0; i < dim(); ++i) {
      const double log_scale = log_diagonal(parameters, k, i) - log_temperature, scale = std::exp(log_scale);
      log_det += log_scale;
      if (!full_) {
        factor[i] = scale;
        continue;
      }
      double* row = factor + i * dim();
      for (Index j = 0; j < i; ++j) row[j] = scale * held(*shear++, kMostShear);
      row[i] = scale;
      std::fill(row + i + 1, row + dim(), 0.0);
    }
    const Scalar* mean = means_of(parameters, k);
    const auto delta = memory[delta_];
    Index i = 0;
    for (const Index column : features_.on_line()) {
      const auto center = static_cast<double>(mean[i]);
      for (Index row = 0; row < padded; row += kLanes)
        lanes(delta[i] + row) = (lanes(z[column] + row).template cast<double>() - center).max(-kFar).min(kFar);
      ++i;
    }
    gaussian::whiten(full_, dim(), padded, factor, delta, memory[y_]);
    return log_det;
  }

  // log(w_k N_k) of each component and row, with the log density of the other features.
  void log_joints(const Scalar* parameters, double temperature, Index padded, Columns<const Scalar> z,
                  Columns<double> memory) const {
    const double constant = features_.log_density() - gaussian::kLogRootTwoPi * static_cast<double>(dim());
    const WeightSum weights(parameters, components_);
    const auto y = memory[y_];
    for (Index k = 0; k < components_; ++k) {
      const double log_det = whiten(parameters, temperature, k, padded, z, memory);
      const double start =
          components_ == 1 ? constant + log_det : constant + log_det + weights.log_weight(parameters, k);
      for (Index row = 0; row < padded; row += kLanes) {
        Lanes<double> total = Lanes<double>::Constant(start);
        for (Index i = 0; i < dim(); ++i) total -= 0.5 * lanes(y[i] + row).square();
        lanes(memory[log_joint_][k] + row) = total;
      }
    }
  }

  // Turns the log joint densities into the components' shares of each row.
  void responsibilities(Index padded, Columns<double> memory) const {
    using V = Vec<double>;
    const auto log_joint = memory[log_joint_];
    for (Index row = 0; row < padded; row += V::kWidth) {
      const gaussian::LogSum total(components_, log_joint, row);
      for (Index k = 0; k < components_; ++k) total.share(V::load(log_joint[k] + row)).store(log_joint[k] + row);
    }
  }

  static double sum(Index padded, const double* values) {
    Lanes<double> total = Lanes<double>::Zero();
    for (Index row = 0; row < padded; row += kLanes) total += lanes(values + row);
    return total.sum();
  }

  static void add(Scalar& to, double value) {
    constexpr double kMost = static_cast<double>(std::numeric_limits<Scalar>::max());
    to += static_cast<Scalar>(std::isnan(value) ? value : std::clamp(value, -kMost, kMost));
  }

  // The derivatives by the mean, the diagonal and the shears of component k. share: the sum of its weights.
  void add_component(const Scalar* parameters, Index k, Index padded, double share, Columns<double> memory,
                     Scalar* dparameters) const {
    const auto y = memory[y_], weighted = memory[weighted_];
    const double *factor = memory[factor_].data(), *products = memory[products_].data();
    double* dmean = memory[delta_].data();
    std::fill_n(dmean, dim(), 0.0);
    Scalar *dlog = dparameters + log_diagonal_start(k), *dshear = dparameters + shear_start(k);
    for (Index i = 0; i < dim(); ++i) {
      Lanes<double> squares = Lanes<double>::Zero();
      for (Index row = 0; row < padded; row += kLanes) squares += lanes(weighted[i] + row) * lanes(y[i] + row);
      add(dlog[i], std::abs(parameters[log_diagonal_start(k) + i]) < Scalar(kMostLog) ? share - squares.sum() : 0.0);
      const double total = sum(padded, weighted[i]);
      if (!full_) {
        dmean[i] = factor[i] * total;
        continue;
      }
      const double* row = factor + i * dim();
      for (Index j = 0; j <= i; ++j) dmean[j] += row[j] * total;
      for (Index j = 0; j < i; ++j) add(*dshear++, -row[i] * products[i * whole_lanes(dim()) + j]);
    }
    for (Index i = 0; i < dim(); ++i) add(dparameters[mean_start(k) + i], dmean[i]);
  }

  // Columns that hold `count` numbers.
  static Index columns_for(Index count) { return (count + kTileRows - 1) / kTileRows; }

  LatentFeatures features_;
  Index components_;
  bool full_;

  ColumnLayout layout_;
  Region delta_ = layout_.take(dim());     // z - mean
  Region y_ = layout_.take(dim());         // A (z - mean)
  Region weighted_ = layout_.take(dim());  // y times the weight of the row
  Region dvalue_ = layout_.take(dim());    // -dz
  Region log_joint_ = layout_.take(components_);
  Region factor_ = layout_.take(columns_for(dim() * (full_ ? dim() : 1)));
  Region transposed_ = layout_.take(full_ ? whole_lanes(dim()) : 0);
  Region products_ = layout_.take(full_ ? columns_for(dim() * whole_lanes(dim())) : 0);
};

template <class Scalar>
std::unique_ptr<Base<Scalar>> make_mixture(const Json& description, const std::vector<Domain>& domains) {
  json::expect_names(description, {"kind", "components", "covariance", "background"});
  const Index components = json::integer_member(description, "components", limits::kComponents);
  const std::string covariance = json::string_member(description, "covariance");
  if (covariance != "full" && covariance != "diagonal")
    throw std::invalid_argument("unknown covariance " + json::quote(covariance));
  // Which component is the background matters to fits alone.
  if (description.contains("background") && json::boolean_member(description, "background") && components < 2)
    throw std::invalid_argument("a mixture with a background needs at least 2 components");
  return std::make_unique<Mixture<Scalar>>(LatentFeatures(domains), components, covariance == "full");
}

}  // namespace pushforward
