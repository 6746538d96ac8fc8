# The header-only libraries of the core, as imported targets: an installed package where CMake finds a new enough one,
# else the headers that a Python package of the build requirements carries. Nothing is downloaded.

# Sets `result` to the folder `folder` inside the Python package `package`, or leaves it empty.
function(pushforward_python_headers result package folder)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "from importlib.util import find_spec; s = find_spec('${package}'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE root
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET)
  if(root AND EXISTS "${root}/${folder}")
    set(${result}
        "${root}/${folder}"
        PARENT_SCOPE)
  endif()
endfunction()

# Eigen 5: only since then is select() vectorised, which the elementwise kernels live on.
find_package(Eigen3 5.0 CONFIG QUIET)
if(NOT TARGET Eigen3::Eigen)
  pushforward_python_headers(PUSHFORWARD_EIGEN_DIR eigency eigen)
  if(NOT EXISTS "${PUSHFORWARD_EIGEN_DIR}/Eigen/Core")
    message(FATAL_ERROR "Eigen 5.0 or newer was not found: install it, or the Python package eigency 5.0.1.1")
  endif()
  add_library(Eigen3::Eigen INTERFACE IMPORTED)
  target_include_directories(Eigen3::Eigen SYSTEM INTERFACE "${PUSHFORWARD_EIGEN_DIR}")
  message(STATUS "Eigen headers: ${PUSHFORWARD_EIGEN_DIR}")
endif()

find_package(nlohmann_json 3.11 CONFIG QUIET)
if(NOT TARGET nlohmann_json::nlohmann_json)
  pushforward_python_headers(PUSHFORWARD_JSON_DIR nlohmann_json include)
  if(NOT EXISTS "${PUSHFORWARD_JSON_DIR}/nlohmann/json.hpp")
    message(FATAL_ERROR "nlohmann-json 3.11 or newer was not found: install it, or the Python package nlohmann-json")
  endif()
  add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
  target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE "${PUSHFORWARD_JSON_DIR}")
  message(STATUS "nlohmann-json headers: ${PUSHFORWARD_JSON_DIR}")
endif()
