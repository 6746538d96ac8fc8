# What the wheel carries beside the extension modules: the headers and the CMake package that finds them.
include(CMakePackageConfigHelpers)

set(third_party pushforward/include/third_party)
install(DIRECTORY include/pushforward DESTINATION pushforward/include)
install(DIRECTORY src/core DESTINATION pushforward/src)

# Headers of other libraries travel when they came from a Python package; an installed library is found again.
if(PUSHFORWARD_EIGEN_DIR)
  install(FILES "${PUSHFORWARD_EIGEN_DIR}/Eigen/Core" "${PUSHFORWARD_EIGEN_DIR}/Eigen/Version"
          DESTINATION ${third_party}/eigen/Eigen)
  # For programs on these architectures, Eigen's files for others are a sixth of its headers.
  set(foreign "")
  if(architecture MATCHES "x86_64|AMD64|arm64|aarch64|ARM64")
    set(foreign REGEX "/arch/(AltiVec|HIP|HVX|LSX|MSA|SYCL|ZVector)$" EXCLUDE)
  endif()
  install(DIRECTORY "${PUSHFORWARD_EIGEN_DIR}/Eigen/src/Core" "${PUSHFORWARD_EIGEN_DIR}/Eigen/src/plugins"
          DESTINATION ${third_party}/eigen/Eigen/src
          ${foreign})
  file(GLOB licenses "${PUSHFORWARD_EIGEN_DIR}/COPYING.*")
  install(FILES ${licenses} DESTINATION ${third_party}/eigen)
endif()
if(PUSHFORWARD_JSON_DIR)
  install(DIRECTORY "${PUSHFORWARD_JSON_DIR}/nlohmann" DESTINATION ${third_party}/nlohmann_json)
  # The Python package carries its packager's license only.
  install(FILES licenses/nlohmann-json.MIT.txt DESTINATION ${third_party}/nlohmann_json RENAME LICENSE.MIT)
endif()

write_basic_package_version_file("${PROJECT_BINARY_DIR}/pushforwardConfigVersion.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES cmake/pushforwardConfig.cmake "${PROJECT_BINARY_DIR}/pushforwardConfigVersion.cmake"
        DESTINATION pushforward/cmake)
