// Several flows as one density, p(x) = sum_m w_m p_m(x): loaded from a file, scored and sampled.
#pragma once

#include <cmath>
#include <limits>

#include "pushforward/flow.hpp"

namespace pushforward {

// The calls are those of Flow, over the same row-major buffers.
template <class Scalar>
class Ensemble {
 public:
  // A saved ensemble, from its file or from the bytes of one; a flow's file gives an ensemble of that flow. Throws
  // FileFormatError when the content is neither, std::filesystem::filesystem_error when the file cannot be read.
  static Ensemble load(const std::filesystem::path& path) {
    const std::string bytes = read_file(path);
    try {
      return parse(bytes);
    } catch (const FileFormatError& error) {
      throw FileFormatError(path.string() + ": " + error.what());
    }
  }

  static Ensemble parse(std::string_view bytes) {
    try {
      FileContent file(bytes);
      if (file.is_ensemble()) return read(file);
      std::vector<Flow<Scalar>> flows;
      flows.push_back(Flow<Scalar>::read({file.json(), std::move(file.tensors())}));
      return Ensemble(std::move(flows), {1.0});
    } catch (const std::invalid_argument& error) {
      throw FileFormatError(error.what());
    }
  }

  // log p(x), in nats; -infinity outside the support, NaN for a row that is not finite.
  void log_prob(Span<const Scalar> x, Span<double> log_prob, Span<const Scalar> context = {},
                int threads = default_threads()) const {
    spans::expect_size(log_prob, spans::rows_of(x, dim(), "x"), "log_prob");
    spans::expect_apart(log_prob, x, context);
    std::vector<double> part(log_prob.size());
    std::fill_n(log_prob.data(), log_prob.size(), kNone);
    for (const std::size_t m : active_) {
      flows_[m].log_prob(x, part, context, threads);
      const double log_weight = std::log(weights_[m]);
      for (std::size_t i = 0; i < part.size(); ++i)
        log_prob.data()[i] = log_sum(log_prob.data()[i], part[i] + log_weight);
    }
  }

  // log p(x), and its derivatives by x, (rows, dim()): those of the members by their shares of the density.
  void log_prob_and_grad(Span<const Scalar> x, Span<double> log_prob, Span<Scalar> gradient,
                         Span<const Scalar> context = {}, int threads = default_threads()) const {
    spans::expect_size(log_prob, spans::rows_of(x, dim(), "x"), "log_prob");
    spans::expect_size(gradient, static_cast<Index>(x.size()), "gradient");
    spans::expect_apart(log_prob, x, context, gradient);
    spans::expect_apart(gradient, x, context);
    const auto width = static_cast<std::size_t>(dim());
    std::vector<double> part(log_prob.size());
    std::vector<Scalar> slope(gradient.size());
    std::fill_n(log_prob.data(), log_prob.size(), kNone);
    std::fill_n(gradient.data(), gradient.size(), Scalar(0));
    for (const std::size_t m : active_) {
      flows_[m].log_prob_and_grad(x, part, slope, context, threads);
      const double log_weight = std::log(weights_[m]);
      for (std::size_t i = 0; i < part.size(); ++i) {
        double& total = log_prob.data()[i];
        const double before = total, added = part[i] + log_weight;
        total = log_sum(before, added);
        const double share_before = std::exp(before - total), share = std::exp(added - total);
        for (std::size_t j = i * width; j < (i + 1) * width; ++j)
          gradient.data()[j] = static_cast<Scalar>(share_before * static_cast<double>(gradient.data()[j]) +
                                                   share * static_cast<double>(slope[j]));
      }
    }
  }

  // Points drawn from the density, and log p of each unless its view is empty. A key and the number of a row determine
  // the row. The rows before the first are counted, which takes nanoseconds for each.
  void sample(const Draws& draws, Span<Scalar> x, Span<double> log_prob = {}, Span<const Scalar> context = {},
              int threads = default_threads()) const {
    const Index rows = spans::rows_of(x, dim(), "x");
    if (draws.first_row < 0) throw std::invalid_argument("rows to draw are numbered from 0");
    if (!log_prob.empty()) spans::expect_size(log_prob, rows, "log_prob");
    spans::expect_apart(x, log_prob, context);
    spans::expect_apart(log_prob, context);
    const bool one = static_cast<Index>(context.size()) == this->context();  // for all rows
    if (!one) spans::expect_size(context, rows * this->context(), "context");
    const std::vector<Index> before = counts_before(draws);
    const std::vector<std::size_t> chosen = members_of(draws, rows);
    for (const std::size_t m : active_)
      sample_member(m, {key_of(draws.key, m), before[m]}, chosen, x, context, one, threads);
    if (!log_prob.empty()) this->log_prob(x, log_prob, context, threads);
  }

  // The same calls on pointers and a number of rows. The context has a row for each; it is null for flows without.
  void log_prob(const Scalar* x, Index rows, double* log_prob, const Scalar* context = nullptr,
                int threads = default_threads()) const {
    this->log_prob(spans::view(x, rows, dim()), spans::view(log_prob, rows, 1),
                   spans::context_view(context, rows, this->context()), threads);
  }
  void log_prob_and_grad(const Scalar* x, Index rows, double* log_prob, Scalar* gradient,
                         const Scalar* context = nullptr, int threads = default_threads()) const {
    log_prob_and_grad(spans::view(x, rows, dim()), spans::view(log_prob, rows, 1), spans::view(gradient, rows, dim()),
                      spans::context_view(context, rows, this->context()), threads);
  }
  // log_prob may be null.
  void sample(const Draws& draws, Index rows, Scalar* x, double* log_prob = nullptr, const Scalar* context = nullptr,
              int threads = default_threads()) const {
    sample(draws, spans::view(x, rows, dim()), spans::maybe_view(log_prob, rows, 1),
           spans::context_view(context, rows, this->context()), threads);
  }

  Index dim() const { return flows_.front().dim(); }
  Index context() const { return flows_.front().context(); }
  const std::vector<std::string>& columns() const { return flows_.front().columns(); }
  const std::vector<std::string>& context_columns() const { return flows_.front().context_columns(); }
  const std::vector<FeatureSupport>& support() const { return flows_.front().support(); }
  std::size_t size() const { return flows_.size(); }
  const std::vector<double>& weights() const { return weights_; }
  const Flow<Scalar>& flow(std::size_t m) const { return flows_[m]; }

 private:
  Ensemble(std::vector<Flow<Scalar>> flows, std::vector<double> weights)
      : flows_(std::move(flows)), weights_(std::move(weights)) {
    for (std::size_t m = 0; m < weights_.size(); ++m)
      if (weights_[m] > 0) active_.push_back(m);
  }

  static Ensemble read(FileContent& file) {
    const Json& members = json::array_member(file.json(), "members");
    if (members.empty()) throw std::invalid_argument("an ensemble without members");
    std::vector<double> weights(members.size());
    file.tensors().take("weights", {static_cast<Index>(members.size())}, true, weights.data());
    expect_shares(weights);
    std::map<std::string, Tensors> parts = file.tensors().take_parts("members");
    std::vector<Flow<Scalar>> flows;
    for (std::size_t m = 0; m < members.size(); ++m) {
      try {
        flows.push_back(Flow<Scalar>::read({members[m], std::move(parts[std::to_string(m)])}));
        expect_alike(json::member(members[0], "model"), json::member(members[m], "model"));
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument("member " + std::to_string(m) + ": " + error.what());
      }
      parts.erase(std::to_string(m));
    }
    file.tensors().expect_all_taken();
    if (!parts.empty())
      throw std::invalid_argument("unexpected tensors of member " + json::quote(parts.begin()->first));
    return Ensemble(std::move(flows), std::move(weights));
  }

  static void expect_shares(const std::vector<double>& weights) {
    double sum = 0;
    for (const double weight : weights) {
      if (weight < 0) throw std::invalid_argument("a weight is negative");
      sum += weight;
    }
    if (!(std::abs(sum - 1) <= 1e-9)) throw std::invalid_argument("the weights do not add up to 1");
  }

  // Of the same rows: as many features and conditions, with the same support.
  static void expect_alike(const Json& first, const Json& model) {
    for (const char* name : {"dim", "context"})
      if (json::member(model, name) != json::member(first, name))
        throw std::invalid_argument(std::string("its '") + name + "' is not that of member 0");
    if (support_of(model) != support_of(first)) throw std::invalid_argument("its support is not that of member 0");
  }

  // Older files have none: their features are real.
  static Json support_of(const Json& model) {
    if (model.contains("support")) return model["support"];
    return Json(json::member(model, "dim").get<std::size_t>(), Json{{"kind", "Real"}});
  }

  static constexpr double kNone = -std::numeric_limits<double>::infinity();  // the log density of nothing

  // log(exp(a) + exp(b)); NaN if one of them is.
  static double log_sum(double a, double b) {
    const double high = a > b ? a : b, low = a > b ? b : a;
    return low == kNone ? high : high + std::log1p(std::exp(low - high));
  }

  // Each member draws by a key of its own; the first by that of the ensemble.
  static std::uint64_t key_of(std::uint64_t key, std::size_t m) { return key + 0x9E3779B97F4A7C15u * m; }

  // How many rows before the first come from each member.
  std::vector<Index> counts_before(const Draws& draws) const {
    constexpr Index kPiece = 1 << 16;
    std::vector<Index> counts(size());
    for (Index row = 0; row < draws.first_row; row += kPiece)
      for (const std::size_t m : members_of({draws.key, row}, std::min(kPiece, draws.first_row - row))) ++counts[m];
    return counts;
  }

  // The member that each row comes from.
  std::vector<std::size_t> members_of(const Draws& draws, Index rows) const {
    std::vector<double> shares(static_cast<std::size_t>(rows));
    draw_shares(draws, rows, shares.data());
    std::vector<double> ends;
    double sum = 0;
    for (const std::size_t m : active_) ends.push_back(sum += weights_[m]);
    ends.pop_back();  // what is above the last end belongs to the last member, whatever rounding made of the sum
    std::vector<std::size_t> members;
    members.reserve(shares.size());
    for (const double share : shares) {
      const auto end = std::upper_bound(ends.begin(), ends.end(), share);
      members.push_back(active_[static_cast<std::size_t>(end - ends.begin())]);
    }
    return members;
  }

  // Draws the rows that come from one member, one after the other, and writes them to their places.
  void sample_member(std::size_t m, const Draws& draws, const std::vector<std::size_t>& chosen, Span<Scalar> x,
                     Span<const Scalar> context, bool one_context, int threads) const {
    std::vector<std::size_t> rows;
    for (std::size_t i = 0; i < chosen.size(); ++i)
      if (chosen[i] == m) rows.push_back(i);
    const auto width = static_cast<std::size_t>(dim()), conditions = static_cast<std::size_t>(this->context());
    std::vector<Scalar> points(rows.size() * width), given;
    if (!one_context) {
      for (const std::size_t row : rows)
        given.insert(given.end(), context.data() + row * conditions, context.data() + (row + 1) * conditions);
      context = given;
    }
    flows_[m].sample(draws, points, {}, context, threads);
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(points.data() + i * width, width, x.data() + rows[i] * width);
  }

  std::vector<Flow<Scalar>> flows_;
  std::vector<double> weights_;
  std::vector<std::size_t> active_;  // the members with weight
};

#ifdef PUSHFORWARD_COMPILED
extern template class Ensemble<float>;
extern template class Ensemble<double>;
#endif

}  // namespace pushforward
