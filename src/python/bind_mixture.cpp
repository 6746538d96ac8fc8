// The fit of a mixture of Gaussians for Python.
#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/base/expectation_maximization.hpp"

namespace pushforward::bindings {

namespace {

py::tuple fit_mixture(const Vector& rows, const std::optional<Vector>& weights, Index components,
                      const std::string& covariance, double ridge, int max_iterations, double tolerance, int restarts,
                      std::uint64_t seed, int threads) {
  if (rows.ndim() != 2 || rows.shape(0) < 1 || rows.shape(1) < 1) throw std::invalid_argument("rows");
  if (weights && weights->size() != rows.shape(0)) throw std::invalid_argument("weights");
  if (components < 1 || restarts < 1 || !(ridge > 0)) throw std::invalid_argument("settings");
  if (covariance != "full" && covariance != "diagonal") throw std::invalid_argument("covariance");
  const MixtureSettings settings{components, covariance == "full", ridge, max_iterations, tolerance, restarts, seed};
  const Index count = rows.shape(0), dim = rows.shape(1);
  const double *at = rows.data(), *weight = data_or_null(weights);
  FittedMixture fitted;
  {
    const InterruptibleWithoutGil released;
    fitted = ExpectationMaximization(count, dim, at, weight, settings, threads).fit();
  }
  const auto array = [components](const std::vector<double>& values) {
    const auto width = static_cast<Index>(values.size()) / components;
    py::array_t<double> result({components, width});
    std::copy(values.begin(), values.end(), result.mutable_data());
    return result;
  };
  py::array_t<double> shares(components);
  std::copy(fitted.weights.begin(), fitted.weights.end(), shares.mutable_data());
  return py::make_tuple(shares, array(fitted.means), array(fitted.log_diagonals), array(fitted.shears),
                        fitted.mean_log_density);
}

}  // namespace

void bind_mixture(py::module_& module) {
  using py::arg;
  module.def("expectation_maximization", &fit_mixture, arg("rows"), arg("weights"), arg("components"),
             arg("covariance"), arg("ridge"), arg("max_iterations"), arg("tolerance"), arg("restarts"), arg("seed"),
             arg("threads"),
             "Fit a mixture of Gaussians to finite rows (n, dim) with weights (n,) or None. Return its weights (k,), "
             "means (k, dim), log_diagonals (k, dim) and shears (k, dim (dim - 1) / 2), or (k, 0) for diagonal "
             "covariances, as the base Mixture has them, and the rows' mean log density.");
}

}  // namespace pushforward::bindings
