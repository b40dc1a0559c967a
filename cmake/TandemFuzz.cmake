# tandem_fuzzer(NAME fuzz_tokenizer_json SRCS fuzz_tokenizer_json.cc DEPS text [LIBS ...]): a libFuzzer program. Clang
# only, and only with TANDEM_BUILD_FUZZERS. DEPS names every module that is under test: what these modules need beside is built as usual.
# Its corpus lies in tests/fuzz/corpus/NAME. Run it as
#   build/fuzz/fuzz/NAME -max_total_time=30 SCRATCH_FOLDER tests/fuzz/corpus/NAME
# (new inputs go to the first folder).
include_guard(GLOBAL)

# What a module that a fuzz target needs is compiled with.
set(TANDEM_FUZZ_OPTIONS -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)

function(tandem_fuzzer)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS;LIBS" ${ARGN})
  if(NOT TANDEM_BUILD_FUZZERS)
    return()
  endif()
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "fuzz target '${A_NAME}': expected Clang, found ${CMAKE_CXX_COMPILER_ID}: use the preset `fuzz`")
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  list(TRANSFORM A_DEPS PREPEND tandem_)
  target_link_libraries(${A_NAME} PRIVATE tandem_options ${A_DEPS} ${A_LIBS})
  target_compile_options(${A_NAME} PRIVATE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined)
  target_link_options(${A_NAME} PRIVATE -fsanitize=fuzzer,address,undefined)
  set_target_properties(${A_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
  if(NOT TARGET tandem_fuzzers)
    add_custom_target(tandem_fuzzers)
  endif()
  add_dependencies(tandem_fuzzers ${A_NAME})
  # The code under test is what must be watched: its modules get the sanitizers and the coverage too.
  foreach(dep IN LISTS A_DEPS)
    _tandem_fuzz_instrument(${dep})
  endforeach()
  _tandem_compile_together(${A_NAME})
endfunction()

# Instruments a module, once.
function(_tandem_fuzz_instrument target)
  get_target_property(done ${target} TANDEM_FUZZ_INSTRUMENTED)
  if(done)
    return()
  endif()
  set_target_properties(${target} PROPERTIES TANDEM_FUZZ_INSTRUMENTED ON DISABLE_PRECOMPILE_HEADERS OFF)
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL "INTERFACE_LIBRARY")
    target_compile_options(${target} PRIVATE ${TANDEM_FUZZ_OPTIONS})
    # Programs that link an instrumented module need the run-time libraries.
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
  endif()
endfunction()
