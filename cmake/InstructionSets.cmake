# One extension module per instruction set, from the same sources; the package imports the best the machine can run.
# Separate modules, because objects built with different flags in one module would merge their inline symbols.

# Where the compiler may fuse a product and a sum as it likes, the same expression rounds differently from one inlining
# to the next, and results would depend on a row's place. The matrix kernel asks for fused operations by name.
if(MSVC)
  if(MSVC_VERSION LESS 1930)
    message(FATAL_ERROR "pushforward needs Visual Studio 2022 or newer: older compilers fuse products and sums")
  endif()
  set(PUSHFORWARD_COMPILE_OPTIONS /fp:precise)
  # 4068: pragmas of GCC and Clang
  set(PUSHFORWARD_WARNINGS /W3 /wd4068)
  set(warnings_as_errors /WX)
  # There is no option between SSE2, which is always on, and AVX.
  set(flags_of_v2)
  set(flags_of_v3 /arch:AVX2)
  set(flags_of_v4 /arch:AVX512)
else()
  # The kernels unroll and inline by themselves what has to be. -O3 does so everywhere: modules are a fifth larger, and
  # no faster. GCC 12 vectorises at -O2 only what makes the code no larger, unless it is told to.
  set(PUSHFORWARD_COMPILE_OPTIONS -O2 -ffp-contract=off)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND PUSHFORWARD_COMPILE_OPTIONS -fvect-cost-model=dynamic)
  endif()
  set(PUSHFORWARD_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wpedantic)
  set(warnings_as_errors -Werror)
  foreach(level v2 v3 v4)
    set(flags_of_${level} -march=x86-64-${level})
  endforeach()
endif()
if(PUSHFORWARD_WARNINGS_AS_ERRORS)
  list(APPEND PUSHFORWARD_WARNINGS ${warnings_as_errors})
endif()

# The architecture to build for; on macOS it need not be that of the machine.
set(architecture "${CMAKE_SYSTEM_PROCESSOR}")
if(APPLE AND CMAKE_OSX_ARCHITECTURES)
  set(architecture "${CMAKE_OSX_ARCHITECTURES}")
  if(architecture MATCHES ";")
    message(FATAL_ERROR "pushforward is built for one architecture at a time, not for ${architecture}: "
                        "its modules differ from one to the other")
  endif()
endif()

set(bindings src/python/module.cpp src/python/bind_flow.cpp src/python/bind_adam.cpp src/python/bind_mixture.cpp
             src/python/bind_masses.cpp src/python/bind_sums.cpp)

function(pushforward_add_level level)
  set(module _core_${level})
  # The bindings have no loop over rows. pybind11 compiles faster for size, and a call takes 0.15 microseconds longer.
  # A target of their own, because CMake leaves files that have options of their own out of a unit, and one unit
  # compiles pybind11 once.
  add_library(${module}_bindings OBJECT ${bindings})
  set_target_properties(
    ${module}_bindings
    PROPERTIES UNITY_BUILD ON
               UNITY_BUILD_BATCH_SIZE 0
               POSITION_INDEPENDENT_CODE ON
               CXX_VISIBILITY_PRESET hidden)
  target_link_libraries(${module}_bindings PRIVATE pybind11::module)
  pybind11_add_module(${module} MODULE ${PUSHFORWARD_SOURCES})
  target_link_libraries(${module} PRIVATE ${module}_bindings)
  foreach(target ${module} ${module}_bindings)
    target_link_libraries(${target} PRIVATE pushforward_core)
    target_compile_options(${target} PRIVATE ${PUSHFORWARD_WARNINGS} ${PUSHFORWARD_COMPILE_OPTIONS} ${ARGN})
    target_compile_definitions(${target} PRIVATE PUSHFORWARD_COMPILED)
  endforeach()
  if(NOT MSVC)
    target_compile_options(${module}_bindings PRIVATE -Os)
  endif()
  target_compile_definitions(
    ${module}_bindings
    PRIVATE PUSHFORWARD_MODULE=${module} PUSHFORWARD_SIMD_LEVEL="${level}" PUSHFORWARD_VERSION="${PROJECT_VERSION}"
            PUSHFORWARD_COMPILER="${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
  install(TARGETS ${module} LIBRARY DESTINATION pushforward)
endfunction()

if(architecture MATCHES "x86_64|AMD64" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(PUSHFORWARD_LEVELS v2 v3 v4 CACHE STRING "Instruction sets to build modules for; a wheel has all")
  foreach(level IN LISTS PUSHFORWARD_LEVELS)
    if(NOT level MATCHES "^v[234]$")
      message(FATAL_ERROR "PUSHFORWARD_LEVELS has '${level}'; v2, v3 and v4 are expected")
    endif()
    pushforward_add_level(${level} ${flags_of_${level}})
  endforeach()
  if(TARGET _core_v4
     AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU"
     AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC's own AVX-512 header warns about the registers it leaves undefined on purpose (GCC bug 105593).
    foreach(target _core_v4 _core_v4_bindings)
      target_compile_options(${target} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
    endforeach()
  endif()
else()
  pushforward_add_level(base)
endif()

python_add_library(_cpu MODULE WITH_SOABI src/python/cpu.cpp)
target_compile_options(_cpu PRIVATE ${PUSHFORWARD_WARNINGS})
install(TARGETS _cpu LIBRARY DESTINATION pushforward)
