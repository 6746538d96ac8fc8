// Fits a mixture of Gaussians to rows by expectation-maximisation (Dempster, Laird, Rubin 1977), in float64. The result
// does not depend on the number of threads.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "pushforward/base/gaussian.hpp"
#include "pushforward/threads/arena.hpp"
#include "pushforward/threads/parallel.hpp"

namespace pushforward {

struct MixtureSettings {
  Index components = 1;
  bool full = true;     // full covariances, or diagonal ones
  double ridge = 1e-6;  // added to every variance
  int max_iterations = 100;
  double tolerance = 1e-5;  // a fit ends when the mean log density grows by less, relative to its size or to 1
  int restarts = 1;         // starts, of which the best goes on
  std::uint64_t seed = 0;
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
        rows_(zeros(row_memory_, tiles_ * dim)),
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
      const Index tile = row / kTileRows * dim;
      for (Index i = 0; i < dim; ++i) rows_[tile + i][row % kTileRows] = rows[row * dim + i];
    }
  }

  FittedMixture fit() {
    pooled_ = one_gaussian();
    Model best = pooled_;
    if (components() > 1) {
      double best_density = -std::numeric_limits<double>::infinity();
      for (int start = 0; start < settings_.restarts; ++start) {
        Model model = first_model();
        const double density = settings_.restarts > 1 ? iterate(model, kTrialIterations) : 0;
        if (density > best_density) {
          best_density = density;
          best = std::move(model);
        }
      }
      iterate(best, settings_.max_iterations);
    }
    return result(best);
  }

 private:
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static constexpr int kTrialIterations = 10, kLloydIterations = 5;
  // Sums over rows are made in so many parts, which are added in order.
  static constexpr Index kMostSlots = 8;
  // Rows that are left out to choose a share of the identity, and the shares to choose from.
  static constexpr Index kMostLeftOut = 4096;
  static constexpr double kShares[] = {0,    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01,
                                       0.02, 0.05, 0.1,  0.2,  0.3,  0.5,  0.7,  1};
  // A component with fewer rows than this is lost.
  static constexpr double kLeastRows = 1;
  // Added to the rows of each component where its weight is made of them, so that none is 0.
  static constexpr double kLeastShare = 0.1;

  struct Model {
    std::vector<double> log_weights, constants;  // constants: the log weight and the normalisation
    Matrix means;                                // (components, dim)
    std::vector<Matrix> factors;                 // of the precisions: lower triangles, or (1, dim) diagonals
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

  // What one thread needs for a tile.
  struct Memory {
    Arena arena;
    Columns<double> delta, y, log_joint, transposed, products;

    Memory(Index dim, Index stride, Index components) {
      ColumnLayout layout;
      const Region delta_columns = layout.take(dim), y_columns = layout.take(dim),
                   joint_columns = layout.take(components), transposed_columns = layout.take(stride),
                   product_columns = layout.take((dim * stride + kTileRows - 1) / kTileRows);
      const Columns<double> all = zeros(arena, layout.count());
      delta = all[delta_columns];
      y = all[y_columns];
      log_joint = all[joint_columns];
      transposed = all[transposed_columns];
      products = all[product_columns];
    }
  };

  static Columns<double> zeros(Arena& arena, Index columns) {
    const Index count = columns * kTileRows;
    auto* data = reinterpret_cast<double*>(arena.reserve(static_cast<std::size_t>(count) * sizeof(double)));
    std::fill_n(data, count, 0.0);
    return Columns<double>(data);
  }

  Index components() const { return settings_.components; }
  Columns<const double> tile(Index index) const { return rows_.from(index * dim_); }
  double value(Index row, Index i) const { return rows_[row / kTileRows * dim_ + i][row % kTileRows]; }
  double weight(Index row) const { return weights_[static_cast<std::size_t>(row)]; }

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
      const SubnormalMode mode(Subnormals::zero);
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
    subtract(index, model.means.row(k).data(), memory.delta);
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
    gaussian::lower_products(dim_, kTileRows, memory.y, memory.delta, memory.transposed.data(), memory.products.data());
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

  void set_covariance(Model& model, Index k, Matrix covariance) const {
    Matrix& factor = model.factors[static_cast<std::size_t>(k)];
    if (!settings_.full) {
      factor = (covariance.array() + settings_.ridge).rsqrt().matrix();
      return;
    }
    // A rounding error may be larger than the ridge.
    for (double ridge = settings_.ridge;; ridge *= 10) {
      covariance.diagonal().array() += ridge;
      const Eigen::LLT<Matrix> cholesky(covariance);
      if (cholesky.info() != Eigen::Success) continue;
      factor = cholesky.matrixL().solve(Matrix::Identity(dim_, dim_));
      factor.triangularView<Eigen::StrictlyUpper>().setZero();
      return;
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
    return model;
  }

  // Shrinks a covariance to a multiple of the identity, with the same trace.
  Matrix shrunk(Matrix covariance, double share) const {
    const double variance = covariance.trace() / static_cast<double>(dim_);
    covariance *= 1 - share;
    covariance.diagonal().array() += share * variance;
    return covariance;
  }

  // One Gaussian for all rows. A full covariance is shrunk.
  Model one_gaussian() {
    Model model = empty_model(1);
    for (Index row = 0; row < count_; ++row)
      for (Index i = 0; i < dim_; ++i) model.means(0, i) += weight(row) / effective_ * value(row, i);
    model.factors[0] = settings_.full ? Matrix(Matrix::Identity(dim_, dim_)) : Matrix(Matrix::Ones(1, dim_));
    const Matrix covariance = scatter(expectation(model, false), 0) / effective_;
    if (settings_.full) share_ = best_share(model.means.row(0).data(), covariance);
    set_covariance(model, 0, settings_.full ? shrunk(covariance, share_) : covariance);
    set_constants(model);
    return model;
  }

  // The share of the identity in the covariance with the best density of rows that are left out one by one (Hoffbeck
  // and Landgrebe 1996). The shrinkage of Ledoit and Wolf (2004), best for the covariance's entries, is far too strong
  // for the density where variances differ by orders of magnitude.
  //
  // Without a row x that has the share p of all, the covariance S becomes S / (1 - p) - p x x^T / (1 - p)^2, and x is x
  // / (1 - p) away from the mean. In the basis of S's eigenvectors everything but the term of x is diagonal, and that
  // term is added by the formula of Sherman and Morrison. In the diagonal, p is that of the mean row.
  double best_share(const double* mean, const Matrix& covariance) const {
    const double p = 1 / effective_;
    if (p >= 1) return 1.0;
    const Eigen::SelfAdjointEigenSolver<Matrix> eigen(covariance);
    const double variance = covariance.trace() / static_cast<double>(dim_);
    const Index step = std::max<Index>(1, count_ / kMostLeftOut), used = (count_ + step - 1) / step;
    Matrix squares(used, dim_);  // of the rows' components along the eigenvectors
    Eigen::VectorXd weights(used);
    for (Index i = 0; i < used; ++i) {
      weights[i] = weight(i * step);
      for (Index j = 0; j < dim_; ++j) squares(i, j) = value(i * step, j) - mean[j];
    }
    squares = (squares * eigen.eigenvectors()).array().square().matrix();
    // A row that counts for nothing, however far out, must not count here either.
    const Eigen::ArrayXd shares = weights.array() * p, others = (1 - shares).square();
    double best = 1.0, best_density = -std::numeric_limits<double>::infinity();
    for (const double share : kShares) {
      const Eigen::VectorXd variances =
          (eigen.eigenvalues().array().max(0.0) * ((1 - share) / (1 - p)) + share * variance + settings_.ridge)
              .matrix();
      const Eigen::ArrayXd forms = (squares * variances.cwiseInverse()).array();  // x^T B^-1 x, with B without x's term
      const Eigen::ArrayXd left = 1 - (1 - share) * shares / others * forms;
      if (!(left > 0).all()) continue;
      const Eigen::ArrayXd densities = -0.5 * (forms / left / others + left.log());
      const double density = weights.dot(densities.matrix()) / weights.sum() - 0.5 * variances.array().log().sum();
      if (density > best_density) {
        best_density = density;
        best = share;
      }
    }
    return best;
  }

  double uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  // Means by k-means++ (Arthur and Vassilvitskii 2007) and a few steps of Lloyd, in the metric of the one Gaussian.
  Model first_model() {
    Model model = empty_model(components());
    std::vector<double> distance(static_cast<std::size_t>(count_), std::numeric_limits<double>::infinity());
    Model center = pooled_;
    for (Index k = 0; k < components(); ++k) {
      const Index row = k == 0 ? pick({}) : pick(distance);
      for (Index i = 0; i < dim_; ++i) model.means(k, i) = center.means(0, i) = value(row, i);
      nearest(center, distance);
    }
    std::fill(model.factors.begin(), model.factors.end(), pooled_.factors[0]);
    set_constants(model);
    for (int i = 0; i < kLloydIterations; ++i) move_means(model, expectation(model, true));
    maximize(model, expectation(model, true));
    return model;
  }

  // A row, with a probability proportional to its weight times its squared distance.
  Index pick(const std::vector<double>& distance) {
    const auto share = [&](Index row) {
      return distance.empty() ? weight(row) : weight(row) * distance[static_cast<std::size_t>(row)];
    };
    double total = 0;
    for (Index row = 0; row < count_; ++row) total += share(row);
    double left = uniform() * total;
    for (Index row = 0; row < count_; ++row)
      if ((left -= share(row)) < 0) return row;
    return static_cast<Index>(uniform() * static_cast<double>(count_));  // all rows are at a mean
  }

  // Lowers each row's squared distance to the nearest mean by that of one more.
  void nearest(const Model& center, std::vector<double>& distance) const {
    const Index slots = std::min(tiles_, kMostSlots);
    parallel_for(slots, threads_, [&](Index slot, int) {
      const SubnormalMode mode(Subnormals::zero);
      Memory memory(dim_, stride_, 1);
      for (Index index = slot; index < tiles_; index += slots) {
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

  // Returns the mean log density of the rows under the model as it is then.
  double iterate(Model& model, int iterations) const {
    double before = -std::numeric_limits<double>::infinity();
    Index moves = components();  // of lost components; a bound, so that they cannot go on for ever
    for (int i = 0;; ++i) {
      const Sums sums = expectation(model, false);
      const double density = sums.log_density / effective_;
      if (i == iterations || density - before <= settings_.tolerance * std::max(1.0, std::abs(density))) return density;
      maximize(model, sums);
      const bool moved = moves > 0 && move_lost(model, sums);
      moves -= moved;
      before = moved ? -std::numeric_limits<double>::infinity() : density;
    }
  }

  // The covariance of a component is that of its rows and of some more, whose covariance has the shape of the mean of
  // all components and the component's own size. Tables of one scale everywhere would do as well with the mean's size,
  // but funnels and heavy tails have components of very different sizes.
  void maximize(Model& model, const Sums& sums) const {
    const double prior = static_cast<double>(dim_) + 1;  // in rows
    std::vector<Matrix> scatters;
    Matrix within;
    for (Index k = 0; k < components(); ++k) {
      scatters.push_back(scatter(sums, k));
      within = k == 0 ? scatters[0] : Matrix(within + scatters.back());
    }
    within /= effective_;
    if (settings_.full) within = shrunk(within, share_);
    const double size = trace(within);
    move_means(model, sums);
    for (Index k = 0; k < components(); ++k) {
      const auto at = static_cast<std::size_t>(k);
      const double n = sums.counts[at];
      const double ratio = n > kLeastRows && size > 0 ? trace(scatters[at]) / n / size : 1;
      set_covariance(model, k, (scatters[at] + prior * ratio * within) / (n + prior));
      model.log_weights[at] =
          std::log((n + kLeastShare) / (effective_ + kLeastShare * static_cast<double>(components())));
    }
    set_constants(model);
  }

  double trace(const Matrix& covariance) const { return settings_.full ? covariance.trace() : covariance.sum(); }

  // Moves the first component that has lost its rows to the row of the least density; returns whether there is one.
  bool move_lost(Model& model, const Sums& sums) const {
    for (Index k = 0; k < components(); ++k) {
      if (sums.counts[static_cast<std::size_t>(k)] >= kLeastRows) continue;
      for (Index i = 0; i < dim_; ++i) model.means(k, i) = value(sums.lowest_row, i);
      model.log_weights[static_cast<std::size_t>(k)] = -std::log(effective_ + 1);
      set_constants(model);
      return true;
    }
    return false;
  }

  FittedMixture result(const Model& model) const {
    FittedMixture fitted;
    fitted.mean_log_density = expectation(model, false).log_density / effective_;
    double total = 0;
    for (const double log_weight : model.log_weights) total += std::exp(log_weight);
    for (std::size_t k = 0; k < model.factors.size(); ++k) {
      fitted.weights.push_back(std::exp(model.log_weights[k]) / total);
      for (Index i = 0; i < dim_; ++i) {
        const double scale = diagonal(model.factors[k], i);
        fitted.means.push_back(model.means(static_cast<Index>(k), i));
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
  Arena row_memory_;
  Columns<double> rows_;  // tiles of (dim, kTileRows)
  std::vector<double> weights_;
  double effective_ = 0;  // rows, by their weights
  double share_ = 0;      // of the identity in the covariance of all rows
  std::mt19937_64 random_;
  Model pooled_;  // one Gaussian
};

}  // namespace pushforward
