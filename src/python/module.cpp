// The extension module of one instruction set; the package imports one of its siblings.
#include <Eigen/Core>

#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/description/limits.hpp"
#include "pushforward/network/activation.hpp"
#include "pushforward/threads/parallel.hpp"

namespace py = pybind11;

namespace {

// The limits of a description, by name: (least, greatest).
py::dict limits() {
  namespace in = pushforward::limits;
  py::dict table;
  const auto add = [&](const char* name, auto range) { table[name] = py::make_tuple(range.low, range.high); };
  add("width", in::kWidth);
  add("blocks", in::kBlocks);
  add("reflections", in::kReflections);
  add("dropout", in::kDropout);
  add("max_log_scale", in::kMaxLogScale);
  add("bound", in::kBound);
  add("fraction", in::kFraction);
  add("bins", in::kBins);
  add("df", in::kDegrees);
  add("learned_df", in::kLearnedDegrees);
  add("components", in::kComponents);
  add("categories", in::kCategories);
  add("levels", in::kLevels);
  add("alpha", in::kAlpha);
  add("extent", in::kExtent);
  add("channels", in::kChannels);
  add("convolutions", in::kConvolutions);
  add("kernel", in::kKernel);
  return table;
}

py::tuple activations() {
  py::list names;
  for (const auto& named : pushforward::kActivations) names.append(named.name);
  return py::tuple(names);
}

}  // namespace

PYBIND11_MODULE(PUSHFORWARD_MODULE, module) {
  module.doc() = "The compiled core of pushforward for one instruction set.";
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const pushforward::bindings::Interrupted&) {
      // Python's exception is set already.
    }
  });
  pushforward::bindings::bind_flow(module);
  pushforward::bindings::bind_adam(module);
  pushforward::bindings::bind_mixture(module);
  pushforward::bindings::bind_masses(module);
  pushforward::bindings::bind_sums(module);
  module.def("default_threads", &pushforward::default_threads,
             "The default number of threads, taken from OpenMP's settings.");
  module.def("processors", &pushforward::processors, "How many processors the calling thread and its helpers may use.");
  module.attr("threading") = pushforward::kThreads;

  module.attr("file_format") = pushforward::limits::kFileFormat;
  module.attr("limits") = limits();
  module.attr("activations") = activations();
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
