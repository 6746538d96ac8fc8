// The extension module of one instruction set; the package imports one of its siblings.
#include <Eigen/Core>

#include "bindings.hpp"
#include "pushforward/threads/parallel.hpp"

namespace py = pybind11;

PYBIND11_MODULE(PUSHFORWARD_MODULE, module) {
  module.doc() = "The compiled core of pushforward for one instruction set.";
  pushforward::bindings::bind_flow(module);
  pushforward::bindings::bind_adam(module);
  module.def("default_threads", &pushforward::default_threads);

  module.attr("version") = PUSHFORWARD_VERSION;
  module.attr("simd_level") = PUSHFORWARD_SIMD_LEVEL;
  module.attr("compiler") = PUSHFORWARD_COMPILER;
  module.attr("simd_in_use") = Eigen::SimdInstructionSetsInUse();
  module.attr("eigen") = std::to_string(EIGEN_MAJOR_VERSION) + "." + std::to_string(EIGEN_MINOR_VERSION) + "." +
                         std::to_string(EIGEN_PATCH_VERSION);
#ifdef _OPENMP
  module.attr("openmp") = _OPENMP;
#else
  module.attr("openmp") = py::none();
#endif
}
