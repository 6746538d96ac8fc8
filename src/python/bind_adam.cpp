// The Adam update for Python, in both precisions.
#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/core.hpp"

namespace pushforward::bindings {

namespace {

template <class Scalar>
using Flat = py::array_t<Scalar, py::array::c_style>;

template <class Scalar>
double step(Flat<Scalar>& parameters, const Flat<Scalar>& gradient, std::optional<double> length, Flat<Scalar>& mean,
            Flat<Scalar>& square, Index number, double learning_rate, double beta1, double beta2, double eps,
            double weight_decay, double clip_norm, const MaybeIndex& decayed, int threads,
            std::optional<Flat<Scalar>>& average, double average_weight) {
  const Index count = parameters.size();
  if (gradient.size() != count || mean.size() != count || square.size() != count ||
      (average && average->size() != count))
    throw std::invalid_argument("parameters, gradient, moments and average must have the same size");
  const AdamSettings settings{learning_rate, beta1, beta2, eps, weight_decay, clip_norm};
  static_assert(sizeof(ParameterRange) == 2 * sizeof(std::int64_t));
  Decayed runs;
  if (decayed) {
    runs = {false, reinterpret_cast<const ParameterRange*>(decayed->data()), decayed->size() / 2};
    Index end = 0;
    for (Index i = 0; i < runs.count; ++i) {
      if (runs.runs[i].first < end || runs.runs[i].last < runs.runs[i].first || runs.runs[i].last > count)
        throw std::invalid_argument("decayed");
      end = runs.runs[i].last;
    }
  }
  Scalar *p = parameters.mutable_data(), *m = mean.mutable_data(), *v = square.mutable_data();
  const Scalar* g = gradient.data();
  const MovingAverage<Scalar> moving{average ? average->mutable_data() : nullptr, average_weight};
  const WithoutGil released;
  const double norm_of_gradient = length ? *length : norm(count, g, threads);
  adam_step(settings, number, count, p, g, norm_of_gradient, m, v, runs, threads, moving);
  return norm_of_gradient;
}

template <class Scalar>
void bind(py::module_& module) {
  module.def("adam_step", &step<Scalar>, py::arg("parameters").noconvert(), py::arg("gradient").noconvert(),
             py::arg("norm"), py::arg("mean").noconvert(), py::arg("square").noconvert(), py::arg("number"),
             py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"),
             py::arg("clip_norm"), py::arg("decayed"), py::arg("threads"), py::arg("average").noconvert() = py::none(),
             py::arg("average_weight") = 0.0);
}

}  // namespace

void bind_adam(py::module_& module) {
  bind<float>(module);
  bind<double>(module);
}

}  // namespace pushforward::bindings
