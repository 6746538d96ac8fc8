// The fit of a mixture of Gaussians for Python.
#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/base/expectation_maximization.hpp"

namespace pushforward::bindings {

namespace {

py::tuple fit_mixture(const Vector& rows, const std::optional<Vector>& weights, Index components, bool full,
                      double ridge, int max_iterations, double tolerance, int restarts, std::uint64_t seed,
                      int threads, int mode, double prior) {
  if (rows.ndim() != 2 || rows.shape(0) < 1 || rows.shape(1) < 1) throw std::invalid_argument("rows");
  if (weights && weights->size() != rows.shape(0)) throw std::invalid_argument("weights");
  const Index count = rows.shape(0), dim = rows.shape(1);
  MixtureSettings settings{components, full, ridge, max_iterations, tolerance, restarts, seed};
  settings.mode = mode; settings.prior = prior;
  const double *at = rows.data(), *weight = data_or_null(weights);
  FittedMixture fitted;
  {
    const WithoutGil released;
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
  module.def("expectation_maximization", &fit_mixture, py::arg("rows"), py::kw_only(), py::arg("weights"),
             py::arg("components"), py::arg("full"), py::arg("ridge"), py::arg("max_iterations"), py::arg("tolerance"),
             py::arg("restarts"), py::arg("seed"), py::arg("threads"), py::arg("mode")=0, py::arg("prior")=1.0,
             "Fit a mixture");
}

}  // namespace pushforward::bindings
