# Headers of other projects that most sources read, compiled once (TANDEM_PRECOMPILED_HEADERS, set by TandemOptions).
#
#   tandem_precompiled(TARGET [TEST] [PROTO])
#
# In a build of fuzz targets they are instrumented as every module is that a fuzz target names; the other modules do without.
# TEST: with GoogleTest, and compiled as tests are. PROTO: with gRPC and the generated messages.
include_guard(GLOBAL)

set(TANDEM_PRECOMPILED_BASE <algorithm> <array> <atomic> <chrono> <condition_variable> <filesystem> <fstream> <functional> <map> <memory>
    <mutex> <optional> <random> <set> <span> <sstream> <string> <string_view> <thread> <unordered_map> <utility> <variant> <vector>
    <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/strings/str_join.h>
    <absl/strings/str_split.h> <absl/time/time.h> <nlohmann/json.hpp>)
set(TANDEM_PRECOMPILED_TEST <gmock/gmock.h> <gtest/gtest.h>)
set(TANDEM_PRECOMPILED_PROTO <grpcpp/grpcpp.h> <tandem/v1/worker.grpc.pb.h> <tandem/v1/inference.grpc.pb.h>)

function(tandem_precompiled target)
  if(NOT TANDEM_PRECOMPILED_HEADERS)
    return()
  endif()
  cmake_parse_arguments(A "TEST;PROTO" "" "" ${ARGN})
  set(name tandem_precompiled)
  set(headers ${TANDEM_PRECOMPILED_BASE})
  set(libraries tandem_options absl::status absl::statusor absl::strings absl::str_format absl::time nlohmann_json::nlohmann_json)
  if(A_PROTO)
    string(APPEND name _proto)
    list(APPEND headers ${TANDEM_PRECOMPILED_PROTO})
    list(APPEND libraries tandem_proto)
  endif()
  if(A_TEST)
    string(APPEND name _test)
    list(APPEND headers ${TANDEM_PRECOMPILED_TEST})
    list(APPEND libraries GTest::gmock GTest::gtest)
  endif()
  if(NOT TARGET ${name})
    # Written where it differs alone, so that a configuration leaves it built.
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/${name}.cc" CONTENT "// Carries the precompiled headers of ${name}.\n")
    add_library(${name} OBJECT "${PROJECT_BINARY_DIR}/${name}.cc")
    target_link_libraries(${name} PRIVATE ${libraries})
    if(A_TEST)
      tandem_compile_as_test(${name})
    endif()
    if(TANDEM_BUILD_FUZZERS)
      target_compile_options(${name} PRIVATE ${TANDEM_FUZZ_OPTIONS})
    endif()
    target_precompile_headers(${name} PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${name})
  if(TANDEM_BUILD_FUZZERS)
    # _tandem_fuzz_instrument takes that back.
    set_target_properties(${target} PROPERTIES DISABLE_PRECOMPILE_HEADERS ON)
  endif()
endfunction()
