# One extension module per instruction set, from the same sources; the package imports the best the machine can run.
# Separate modules, because objects built with different flags in one module would merge their inline symbols.

# -ffp-contract=off: where the compiler may fuse a product and a sum as it likes, the same expression rounds
# differently from one inlining to the next, and results would depend on a row's place. The matrix kernel asks for
# fused operations by name.
set(PUSHFORWARD_COMPILE_OPTIONS -O3 -ffp-contract=off)
set(PUSHFORWARD_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wpedantic)
if(PUSHFORWARD_WARNINGS_AS_ERRORS)
  list(APPEND PUSHFORWARD_WARNINGS -Werror)
endif()

function(pushforward_add_module name)
  pybind11_add_module(${name} MODULE ${ARGN})
  target_compile_options(${name} PRIVATE ${PUSHFORWARD_WARNINGS})
  install(TARGETS ${name} LIBRARY DESTINATION pushforward)
endfunction()

function(pushforward_add_level level)
  set(module _core_${level})
  pushforward_add_module(${module} src/module.cpp src/bind_flow.cpp src/bind_adam.cpp)
  target_link_libraries(${module} PRIVATE pushforward_core)
  target_compile_options(${module} PRIVATE ${PUSHFORWARD_COMPILE_OPTIONS} ${ARGN})
  target_compile_definitions(
    ${module}
    PRIVATE PUSHFORWARD_MODULE=${module} PUSHFORWARD_SIMD_LEVEL="${level}" PUSHFORWARD_VERSION="${PROJECT_VERSION}"
            PUSHFORWARD_COMPILER="${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  foreach(level v2 v3 v4)
    pushforward_add_level(${level} -march=x86-64-${level})
  endforeach()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC's own AVX-512 header warns about the registers it leaves undefined on purpose (GCC bug 105593).
    target_compile_options(_core_v4 PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
else()
  pushforward_add_level(base)
endif()
pushforward_add_module(_cpu src/cpu.cpp)
