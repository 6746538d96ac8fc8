// What each binding file registers.
#pragma once

#include <pybind11/pybind11.h>

namespace pushforward::bindings {

void bind_flow(pybind11::module_& module);
void bind_adam(pybind11::module_& module);
void bind_mixture(pybind11::module_& module);
void bind_masses(pybind11::module_& module);
void bind_sums(pybind11::module_& module);

}  // namespace pushforward::bindings
