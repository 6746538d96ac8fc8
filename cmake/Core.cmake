# pushforward_core: the header-only library with all that it needs, for the modules and for the C++ tests.
# The default number of threads is taken from OpenMP's settings where the compiler has it, unless PUSHFORWARD_OPENMP is OFF.
option(PUSHFORWARD_OPENMP "Take the default number of threads from OpenMP's settings" ON)
set(PUSHFORWARD_THREADS "pool" CACHE STRING "What runs the threads: pool (its own) or openmp (parallel for)")
set_property(CACHE PUSHFORWARD_THREADS PROPERTY STRINGS pool openmp)

include("${CMAKE_CURRENT_LIST_DIR}/HeaderLibraries.cmake")

# What a compiled library of the core is made of; see core.hpp.
set(PUSHFORWARD_SOURCES)
foreach(name layers_float32 layers_float64 engine)
  list(APPEND PUSHFORWARD_SOURCES "${CMAKE_CURRENT_LIST_DIR}/../src/core/${name}.cpp")
endforeach()

add_library(pushforward_core INTERFACE)
target_include_directories(pushforward_core INTERFACE "${CMAKE_CURRENT_LIST_DIR}/../include")
find_package(Threads REQUIRED)
target_link_libraries(pushforward_core INTERFACE Eigen3::Eigen nlohmann_json::nlohmann_json Threads::Threads)
# Eigen's own threads would nest inside ours; its products run within one tile.
target_compile_definitions(pushforward_core INTERFACE EIGEN_DONT_PARALLELIZE)
# The pool's threads run its code until the process ends: it must not be unloaded before.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_options(pushforward_core INTERFACE LINKER:-z,nodelete)
endif()
if(PUSHFORWARD_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    target_link_libraries(pushforward_core INTERFACE OpenMP::OpenMP_CXX)
  endif()
endif()
if(PUSHFORWARD_THREADS STREQUAL "openmp")
  if(NOT OpenMP_CXX_FOUND)
    message(FATAL_ERROR "PUSHFORWARD_THREADS=openmp needs PUSHFORWARD_OPENMP=ON and a compiler with OpenMP")
  endif()
  target_compile_definitions(pushforward_core INTERFACE PUSHFORWARD_THREADS_OPENMP)
elseif(NOT PUSHFORWARD_THREADS STREQUAL "pool")
  message(FATAL_ERROR "PUSHFORWARD_THREADS is '${PUSHFORWARD_THREADS}'; pool or openmp is expected")
endif()
