// Fits a mixture of Gaussians to rows by expectation-maximisation (Dempster, Laird, Rubin 1977), in float64. The result
// does not depend on the number of threads.
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "pushforward/base/gaussian.hpp"
#include "pushforward/threads/parallel.hpp"

namespace pushforward {

struct MixtureSettings {
  Index components = 1;
  bool full = true;         // full covariances, or diagonal ones
  double ridge = 1e-6;      // added to every variance
  int max_iterations = 100;
  double tolerance = 1e-5;  // a fit ends when the mean log density grows by less, relative to its size or to 1
  int restarts = 1;         // starts, of which the best goes on
  std::uint64_t seed = 0;
  int mode = 0; double prior = 1;
};

// A fitted mixture, in the parameters of the base Mixture.
struct FittedMixture {
  std::vector<double> weights;        // (components,), sum to 1
  std::vector<double> means;          // (components, dim)
  std::vector<double> log_diagonals;  // (components, dim)
  std::vector<double> shears;         // (components, dim (dim - 1) / 2), or empty for diagonal covariances
  double mean_log_density = 0;        // of the rows, weighted
};

class ExpectationMaximization {
 public:
  // rows: (count, dim) in row-major order; weights: (count,), or null for 1 each. Both must be finite, and the weights
  // not negative and not all 0. At least one row, and one feature.
  ExpectationMaximization(Index count, Index dim, const double* rows, const double* weights,
                          const MixtureSettings& settings, int threads)
      : count_(count),
        dim_(dim),
        stride_(whole_lanes(dim)),
        tiles_((count + kTileRows - 1) / kTileRows),
        threads_(threads),
        settings_(settings),
        rows_(static_cast<std::size_t>(tiles_ * dim * kTileRows), 0.0),
        weights_(static_cast<std::size_t>(tiles_ * kTileRows), 0.0),
        random_(settings.seed) {
    double sum = 0, squares = 0;
    for (Index row = 0; row < count; ++row) {
      const double weight = weights ? weights[row] : 1.0;
      sum += weight;
      squares += weight * weight;
    }
    // Weights sum to the effective number of rows (Kish 1965): priors are counted in rows.
    effective_ = sum * sum / squares;
    for (Index row = 0; row < count; ++row) {
      weights_[static_cast<std::size_t>(row)] = (weights ? weights[row] : 1.0) * (effective_ / sum);
      double* tile = rows_.data() + row / kTileRows * dim * kTileRows + row % kTileRows;
      for (Index i = 0; i < dim; ++i) tile[i * kTileRows] = rows[row * dim + i];
    }
  }

  FittedMixture fit() {
    pooled_ = one_gaussian();
    if (settings_.components == 1) return result(pooled_, expectation(pooled_, false).log_density);
    Model best;
    double best_density = -std::numeric_limits<double>::infinity();
    for (int start = 0; start < settings_.restarts; ++start) {
      Model model = first_model();
      const bool only = settings_.restarts == 1;
      const double density = iterate(model, only ? settings_.max_iterations : kTrialIterations);
      if (density > best_density) {
        best_density = density;
        best = std::move(model);
      }
    }
    if (settings_.restarts > 1) best_density = iterate(best, settings_.max_iterations);
    return result(best, best_density);
  }

 private:
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static constexpr int kTrialIterations = 10, kLloydIterations = 5;
  static constexpr Index kMostSlots = 8;

  struct Model {
    std::vector<double> log_weights, constants;  // constants: the log weight and the normalisation
    Matrix means;                                // (components, dim)
    std::vector<Matrix> factors;                 // of the precisions: lower triangles, or (1, dim) diagonals
    std::vector<Matrix> covariances;
  };

  // Sums over rows, by the components' responsibilities.
  struct Sums {
    double log_density = 0;
    std::vector<double> counts;       // (components,)
    std::vector<double> differences;  // (components, dim), of rows from the means
    std::vector<double> products;     // (components, dim, stride), of two features, or their squares (components, dim)
    double lowest = std::numeric_limits<double>::infinity();  // the least log density of a row
    Index lowest_row = 0;

    void add(const Sums& other) {
      log_density += other.log_density;
      add(counts, other.counts);
      add(differences, other.differences);
      add(products, other.products);
      if (other.lowest < lowest) {
        lowest = other.lowest;
        lowest_row = other.lowest_row;
      }
    }
    static void add(std::vector<double>& to, const std::vector<double>& from) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    }
  };

  struct Memory {
    std::vector<double, Eigen::aligned_allocator<double>> data;
    Columns<double> delta, y, log_joint, transposed, products;

    Memory(Index dim, Index stride, Index components) {
      ColumnLayout layout;
      const Region a = layout.take(dim), b = layout.take(dim), c = layout.take(components), d = layout.take(stride),
                   e = layout.take((dim * stride + kTileRows - 1) / kTileRows);
      data.resize(static_cast<std::size_t>(layout.count() * kTileRows));
      const Columns<double> all(data.data());
      delta = all[a];
      y = all[b];
      log_joint = all[c];
      transposed = all[d];
      products = all[e];
    }
  };

  Index components() const { return settings_.components; }
  Columns<const double> tile(Index index) const {
    return Columns<const double>(rows_.data() + index * dim_ * kTileRows);
  }

  void subtract(Index tile_index, const double* mean, Columns<double> delta) const {
    const auto z = tile(tile_index);
    for_each_lanes(kTileRows, dim_, [&](Index i, Index row) { lanes(delta[i] + row) = lanes(z[i] + row) - mean[i]; });
  }

  // log(w_k N_k) of the rows of a tile.
  void log_joint(const Model& model, Index tile_index, std::size_t k, Memory& memory) const {
    const auto index = static_cast<Index>(k);
    subtract(tile_index, model.means.row(index).data(), memory.delta);
    gaussian::whiten(settings_.full, dim_, kTileRows, model.factors[k].data(), memory.delta, memory.y);
    for (Index row = 0; row < kTileRows; row += kLanes) {
      Lanes<double> total = Lanes<double>::Constant(model.constants[k]);
      for (Index i = 0; i < dim_; ++i) total -= 0.5 * lanes(memory.y[i] + row).square();
      lanes(memory.log_joint[index] + row) = total;
    }
  }

  // The step that gives rows to components. hard: each row to one alone, the likeliest.
  Sums expectation(const Model& model, bool hard) const {
    const Index slots = std::min(tiles_, kMostSlots);
    std::vector<Sums> parts(static_cast<std::size_t>(slots));
    parallel_for(slots, threads_, [&](Index slot, int) {
      Sums& sums = parts[static_cast<std::size_t>(slot)];
      clear(model, sums);
      Memory memory(dim_, stride_, static_cast<Index>(model.factors.size()));
      for (Index index = slot; index < tiles_; index += slots) add_tile(model, hard, index, memory, sums);
    });
    for (std::size_t slot = 1; slot < parts.size(); ++slot) parts[0].add(parts[slot]);
    return std::move(parts[0]);
  }

  void clear(const Model& model, Sums& sums) const {
    const std::size_t k = model.factors.size(), d = static_cast<std::size_t>(dim_);
    sums.counts.assign(k, 0.0);
    sums.differences.assign(k * d, 0.0);
    sums.products.assign(k * d * (settings_.full ? static_cast<std::size_t>(stride_) : 1), 0.0);
  }

  void add_tile(const Model& model, bool hard, Index index, Memory& memory, Sums& sums) const {
    using V = Vec<double>;
    const auto count = static_cast<Index>(model.factors.size());
    const double* weight = weights_.data() + index * kTileRows;
    for (Index k = 0; k < count; ++k) log_joint(model, index, static_cast<std::size_t>(k), memory);
    alignas(64) double density[kTileRows];
    for (Index row = 0; row < kTileRows; row += V::kWidth) {
      const gaussian::LogSum total(count, memory.log_joint, row);
      total.value().store(density + row);
      for (Index k = 0; k < count; ++k) {
        double* at = memory.log_joint[k] + row;
        const V term = V::load(at), share = hard ? V::select(term >= total.greatest, V(1), V(0)) : total.share(term);
        share.store(at);
      }
    }
    for (Index row = 0; row < kTileRows; ++row) {
      sums.log_density += weight[row] * density[row];
      if (weight[row] > 0 && density[row] < sums.lowest) {
        sums.lowest = density[row];
        sums.lowest_row = index * kTileRows + row;
      }
      for (Index k = 0; k < count; ++k) memory.log_joint[k][row] *= weight[row];
    }
    for (Index k = 0; k < count; ++k) add_products(model, index, k, memory, sums);
  }

  // Adds the rows' differences from a component's mean, and their products.
  void add_products(const Model& model, Index index, Index k, Memory& memory, Sums& sums) const {
    const double* share = memory.log_joint[k];
    if (count_ > kTileRows || components() > 1) subtract(index, model.means.row(k).data(), memory.delta);
    for (Index row = 0; row < kTileRows; ++row) sums.counts[static_cast<std::size_t>(k)] += share[row];
    double* differences = sums.differences.data() + k * dim_;
    for (Index i = 0; i < dim_; ++i) {
      Lanes<double> sum = Lanes<double>::Zero(), squares = Lanes<double>::Zero();
      for (Index row = 0; row < kTileRows; row += kLanes) {
        const Lanes<double> weighted = lanes(share + row) * lanes(memory.delta[i] + row);
        lanes(memory.y[i] + row) = weighted;
        sum += weighted;
        squares += weighted * lanes(memory.delta[i] + row);
      }
      differences[i] += sum.sum();
      if (!settings_.full) sums.products[static_cast<std::size_t>(k * dim_ + i)] += squares.sum();
    }
    if (!settings_.full) return;
    gaussian::lower_products(dim_, kTileRows, memory.y, memory.delta, memory.transposed.data(),
                             memory.products.data());
    double* to = sums.products.data() + k * dim_ * stride_;
    const double* from = memory.products.data();
    for (Index i = 0; i < dim_; ++i)
      for (Index j = 0; j <= i; ++j) to[i * stride_ + j] += from[i * stride_ + j];
  }

  // The scatter of a component about its own mean, (dim, dim), or its diagonal (1, dim).
  Matrix scatter(const Sums& sums, Index k) const {
    const double n = sums.counts[static_cast<std::size_t>(k)];
    const Eigen::Map<const Eigen::VectorXd> shift(sums.differences.data() + k * dim_, dim_);
    if (!settings_.full) {
      Matrix diagonal = Eigen::Map<const Matrix>(sums.products.data() + k * dim_, 1, dim_);
      if (n > 0) diagonal.row(0) -= (shift.array().square() / n).matrix().transpose();
      return diagonal.cwiseMax(0.0);
    }
    Matrix lower = Eigen::Map<const Matrix>(sums.products.data() + k * dim_ * stride_, dim_, stride_).leftCols(dim_);
    lower.triangularView<Eigen::StrictlyUpper>() = lower.transpose();
    if (n > 0) lower -= shift * shift.transpose() / n;
    return lower;
  }

  void set_covariance(Model& model, std::size_t k, Matrix covariance) const {
    model.covariances[k] = covariance;
    if (!settings_.full) {
      covariance.array() += settings_.ridge;
      model.factors[k] = covariance.cwiseSqrt().cwiseInverse();
      return;
    }
    double ridge = settings_.ridge;
    for (;; ridge *= 10) {
      Matrix raised = covariance;
      raised.diagonal().array() += ridge;
      const Eigen::LLT<Matrix> cholesky(raised);
      if (cholesky.info() == Eigen::Success) {
        model.factors[k] = cholesky.matrixL().solve(Matrix::Identity(dim_, dim_));
        // The solver may leave rounding errors there.
        model.factors[k].triangularView<Eigen::StrictlyUpper>().setZero();
        return;
      }
    }
  }

  void set_constants(Model& model) const {
    for (std::size_t k = 0; k < model.factors.size(); ++k) {
      double log_det = 0;
      for (Index i = 0; i < dim_; ++i) log_det += std::log(diagonal(model.factors[k], i));
      model.constants[k] = model.log_weights[k] + log_det - gaussian::kLogRootTwoPi * static_cast<double>(dim_);
    }
  }
  double diagonal(const Matrix& factor, Index i) const { return settings_.full ? factor(i, i) : factor(0, i); }

  Model empty_model(Index count) const {
    const auto k = static_cast<std::size_t>(count);
    Model model;
    model.log_weights.assign(k, -std::log(static_cast<double>(count)));
    model.constants.assign(k, 0.0);
    model.means = Matrix::Zero(count, dim_);
    model.factors.resize(k);
    model.covariances.resize(k);
    return model;
  }

  Matrix identity() const { return settings_.full ? Matrix(Matrix::Identity(dim_, dim_)) : Matrix(Matrix::Ones(1, dim_)); }

  // One Gaussian for all rows, with the covariance of Ledoit and Wolf (2004): shrunk to a multiple of the identity by
  // as much as the rows' scatter says. A diagonal one is not shrunk.
  Model one_gaussian() const {
    Model model = empty_model(1);
    for (Index row = 0; row < count_; ++row)
      for (Index i = 0; i < dim_; ++i) model.means(0, i) += weights_[static_cast<std::size_t>(row)] / effective_ * value(row, i);
    set_covariance(model, 0, identity());
    set_constants(model);
    Matrix covariance = scatter(expectation(model, false), 0) / effective_;
    set_covariance(model, 0, settings_.full ? shrunk(model.means.row(0).data(), std::move(covariance)) : covariance);
    set_constants(model);
    return model;
  }

  double value(Index row, Index i) const {
    return rows_[static_cast<std::size_t>((row / kTileRows * dim_ + i) * kTileRows + row % kTileRows)];
  }

  // With the share p of each row, S the covariance and m its mean variance: the distance of S from m times the identity
  // is |S - m|^2, of which sum p^2 |x x^T - S|^2 is chance.
  Matrix shrunk(const double* mean, Matrix covariance) const {
    const double m = covariance.trace() / static_cast<double>(dim_);
    double chance = 0;
    Eigen::VectorXd x(dim_);
    const double size = covariance.squaredNorm();
    for (Index row = 0; row < count_; ++row) {
      for (Index i = 0; i < dim_; ++i) x[i] = value(row, i) - mean[i];
      const double p = weights_[static_cast<std::size_t>(row)] / effective_;
      chance += p * p * (std::pow(x.squaredNorm(), 2) - 2 * x.dot(covariance * x) + size);
    }
    const double distance = (covariance - m * Matrix::Identity(dim_, dim_)).squaredNorm();
    const double share = distance > 0 ? std::clamp(chance / distance, 0.0, 1.0) : 1.0;
    covariance *= 1 - share;
    covariance.diagonal().array() += share * m;
    return covariance;
  }

  double uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  // Means by k-means++ (Arthur and Vassilvitskii 2007) and a few steps of Lloyd, in the metric of the one Gaussian.
  Model first_model() {
    Model model = empty_model(components());
    std::vector<double> distance(static_cast<std::size_t>(count_), std::numeric_limits<double>::infinity());
    Model center = pooled_;
    for (Index k = 0; k < components(); ++k) {
      const Index row = k == 0 ? pick(weights_.data(), nullptr) : pick(weights_.data(), distance.data());
      for (Index i = 0; i < dim_; ++i) model.means(k, i) = center.means(0, i) = value(row, i);
      nearest(center, distance);
    }
    for (std::size_t k = 0; k < model.factors.size(); ++k) {
      model.factors[k] = pooled_.factors[0];
      model.covariances[k] = pooled_.covariances[0];
    }
    set_constants(model);
    for (int i = 0; i < kLloydIterations; ++i) {
      const Sums sums = expectation(model, true);
      move_means(model, sums);
    }
    maximize(model, expectation(model, true));
    return model;
  }

  // A row, with a probability proportional to its weight times its squared distance.
  Index pick(const double* weights, const double* distance) {
    double total = 0;
    const auto share = [&](Index row) { return weights[row] * (distance ? distance[row] : 1.0); };
    for (Index row = 0; row < count_; ++row) total += share(row);
    double left = uniform() * total;
    Index last = 0;
    for (Index row = 0; row < count_; ++row) {
      if (share(row) > 0) last = row;
      left -= share(row);
      if (left < 0) return row;
    }
    return last;
  }

  // Lowers each row's squared distance to the nearest mean by that of one more.
  void nearest(const Model& center, std::vector<double>& distance) const {
    parallel_for(std::min(tiles_, kMostSlots), threads_, [&](Index slot, int) {
      Memory memory(dim_, stride_, 1);
      for (Index index = slot; index < tiles_; index += std::min(tiles_, kMostSlots)) {
        log_joint(center, index, 0, memory);
        for (Index row = 0; row < kTileRows && index * kTileRows + row < count_; ++row) {
          double& at = distance[static_cast<std::size_t>(index * kTileRows + row)];
          at = std::min(at, 2 * std::max(0.0, center.constants[0] - memory.log_joint[0][row]));
        }
      }
    });
  }

  void move_means(Model& model, const Sums& sums) const {
    for (Index k = 0; k < components(); ++k) {
      const double n = sums.counts[static_cast<std::size_t>(k)];
      if (n > 0)
        for (Index i = 0; i < dim_; ++i)
          model.means(k, i) += sums.differences[static_cast<std::size_t>(k * dim_ + i)] / n;
    }
  }

  double iterate(Model& model, int iterations) const {
    double before = -std::numeric_limits<double>::infinity();
    for (int i = 0;; ++i) {
      const Sums sums = expectation(model, false);
      const double density = sums.log_density / effective_;
      if (i == iterations || density - before <= settings_.tolerance * std::max(1.0, std::abs(density))) return density;
      before = density;
      maximize(model, sums);
    }
  }

  // The step that moves the components to their rows.
  void maximize(Model& model, const Sums& sums) const {
    const double d = static_cast<double>(dim_), K = static_cast<double>(components());
    std::vector<Matrix> scatters;
    Matrix within = identity() * 0.0;
    for (Index k = 0; k < components(); ++k) {
      scatters.push_back(scatter(sums, k));
      within += scatters.back();
    }
    within /= effective_;
    move_means(model, sums);
    for (std::size_t k = 0; k < model.factors.size(); ++k) {
      const double n = sums.counts[k];
      double nu = 0;
      Matrix target = within;
      if (settings_.mode == 1) nu = settings_.prior;
      if (settings_.mode == 2) nu = settings_.prior * (d + 1);
      if (settings_.mode == 3) {nu = settings_.prior * (d + 1); target = pooled_.covariances[0] * std::pow(K, -2 / d);}
      if (settings_.mode == 4) {nu = settings_.prior * (d + 1); target = identity() * (settings_.full ? within.trace() : within.sum()) / d;}
      if (settings_.mode == 5) {nu = settings_.prior * (d + 1); target = settings_.full ? Matrix(within.diagonal().asDiagonal()) : within;}
      if (settings_.mode == 6) {nu = settings_.prior * (d + 1);  // own scale
        const double s = settings_.full ? scatters[k].trace() : scatters[k].sum(), w = settings_.full ? within.trace() : within.sum();
        if (s > 0 && w > 0) target *= (s / n) / w; }
      set_covariance(model, k, (scatters[k] + nu * target) / (n + nu + 1e-300));
      model.log_weights[k] = std::log((n + 0.1) / (effective_ + 0.1 * K));
    }
    set_constants(model);
  }

  FittedMixture result(const Model& model, double density) const {
    FittedMixture fitted;
    fitted.mean_log_density = components() == 1 ? density / effective_ : density;
    for (std::size_t k = 0; k < model.factors.size(); ++k) {
      fitted.weights.push_back(std::exp(model.log_weights[k]));
      for (Index i = 0; i < dim_; ++i) {
        fitted.means.push_back(model.means(static_cast<Index>(k), i));
        const double scale = diagonal(model.factors[k], i);
        fitted.log_diagonals.push_back(std::log(scale));
        if (settings_.full)
          for (Index j = 0; j < i; ++j) fitted.shears.push_back(model.factors[k](i, j) / scale);
      }
    }
    return fitted;
  }

  Index count_, dim_, stride_, tiles_;
  int threads_;
  MixtureSettings settings_;
  std::vector<double, Eigen::aligned_allocator<double>> rows_;  // tiles of (dim, kTileRows)
  std::vector<double, Eigen::aligned_allocator<double>> weights_;
  double effective_ = 0;
  std::mt19937_64 random_;
  Model pooled_;
};

}  // namespace pushforward
