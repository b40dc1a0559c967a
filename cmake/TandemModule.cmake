# Declares the project's libraries, programs and tests, and refuses upward dependencies at configure time.
#
#   tandem_module(NAME text LAYER 3 [GROUP lib] SRCS a.cc ... [HDRS a.h ...] [DEPS base model] [LIBS absl::status] [PROTO])
#
# NAME    the module; the target is tandem_<NAME>.
# LAYER   a module may depend only on modules of a strictly lower layer. The layers stand in ARCHITECTURE.md.
# GROUP   `lib` (default) or the executable that the module belongs to. A module may depend on `lib` and on its own group.
# DEPS    modules of this project. LIBS: outside libraries. PROTO: may include *.pb.h (only the edges do).
include_guard(GLOBAL)

set(TANDEM_PROTO_ALLOWED proto wire wire_weights worker gateway_ingress gateway_dispatch loader_serve cli tests
    CACHE INTERNAL "modules that may include generated protocol headers")

function(_tandem_check_dependency name layer group dep)
  if(NOT TARGET tandem_${dep})
    message(FATAL_ERROR "module '${name}' depends on '${dep}', which is not declared (yet): declare it first, or mend the order of add_subdirectory")
  endif()
  get_target_property(dep_layer tandem_${dep} TANDEM_LAYER)
  get_target_property(dep_group tandem_${dep} TANDEM_GROUP)
  if(NOT dep_layer LESS layer)
    message(FATAL_ERROR "upward dependency: module '${name}' (layer ${layer}) may not import '${dep}' (layer ${dep_layer})")
  endif()
  if(NOT dep_group STREQUAL "lib" AND NOT dep_group STREQUAL group)
    message(FATAL_ERROR "module '${name}' of '${group}' may not import '${dep}' of '${dep_group}': executables never import each other")
  endif()
  get_target_property(dep_edge tandem_${dep} TANDEM_DEVICE_SIDE)
  if(group STREQUAL "gateway" AND dep_edge)
    message(FATAL_ERROR "module '${name}': the gateway imports neither device nor weights ('${dep}')")
  endif()
endfunction()

function(tandem_module)
  cmake_parse_arguments(A "PROTO;DEVICE_SIDE" "NAME;LAYER;GROUP" "SRCS;HDRS;DEPS;LIBS" ${ARGN})
  if(A_UNPARSED_ARGUMENTS OR NOT A_NAME OR NOT DEFINED A_LAYER)
    message(FATAL_ERROR "tandem_module(${ARGN}): NAME and LAYER are needed; not understood: '${A_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT A_GROUP)
    set(A_GROUP lib)
  endif()
  foreach(dep IN LISTS A_DEPS)
    _tandem_check_dependency(${A_NAME} ${A_LAYER} ${A_GROUP} ${dep})
  endforeach()
  if(A_PROTO AND NOT A_NAME IN_LIST TANDEM_PROTO_ALLOWED)
    message(FATAL_ERROR "module '${A_NAME}' may not include generated protocol headers: only the edges do (${TANDEM_PROTO_ALLOWED})")
  endif()

  if(A_SRCS)
    add_library(tandem_${A_NAME} STATIC ${A_SRCS} ${A_HDRS})
    set(scope PUBLIC)
  else()
    add_library(tandem_${A_NAME} INTERFACE)
    set(scope INTERFACE)
  endif()
  set_target_properties(tandem_${A_NAME} PROPERTIES TANDEM_LAYER ${A_LAYER} TANDEM_GROUP ${A_GROUP}
                        TANDEM_DEVICE_SIDE "${A_DEVICE_SIDE}" TANDEM_DEPS "${A_DEPS}")
  target_link_libraries(tandem_${A_NAME} ${scope} tandem_options)
  foreach(dep IN LISTS A_DEPS)
    target_link_libraries(tandem_${A_NAME} ${scope} tandem_${dep})
  endforeach()
  target_link_libraries(tandem_${A_NAME} ${scope} ${A_LIBS})
  if(A_PROTO)
    target_link_libraries(tandem_${A_NAME} ${scope} tandem_proto)
  endif()
  # For tools/checks/includes.py: which module owns which files and what it declared.
  string(REPLACE ";" "," deps "${A_DEPS}")
  string(REPLACE ";" "," files "${A_SRCS};${A_HDRS}")
  set_property(GLOBAL APPEND PROPERTY TANDEM_MODULES
    "${A_NAME}|${A_LAYER}|${A_GROUP}|${CMAKE_CURRENT_SOURCE_DIR}|${deps}|${A_PROTO}|${files}")
endfunction()

# tandem_executable(NAME tandem-gateway GROUP gateway SRCS main.cc DEPS gateway_ingress ... [LIBS ...]): an installed program.
function(tandem_executable)
  cmake_parse_arguments(A "" "NAME;GROUP" "SRCS;DEPS;LIBS" ${ARGN})
  foreach(dep IN LISTS A_DEPS)
    _tandem_check_dependency(${A_NAME} 100 ${A_GROUP} ${dep})
  endforeach()
  add_executable(${A_NAME} ${A_SRCS})
  list(TRANSFORM A_DEPS PREPEND tandem_)
  target_link_libraries(${A_NAME} PRIVATE tandem_options ${A_DEPS} ${A_LIBS})
  # All programs stand in one folder, as they do once installed: they find each other there.
  set_target_properties(${A_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  set_property(GLOBAL APPEND PROPERTY TANDEM_PROGRAMS ${A_NAME})
endfunction()

# tandem_test(NAME text_tokenizer_test SRCS x_test.cc DEPS text [LIBS ...] [LABELS unit] [ARGS ...] [TIMEOUT 120]): a GoogleTest program.
function(tandem_test)
  cmake_parse_arguments(A "NO_GTEST_MAIN" "NAME;TIMEOUT" "SRCS;DEPS;LIBS;LABELS;ARGS" ${ARGN})
  if(NOT A_LABELS)
    set(A_LABELS unit)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  list(TRANSFORM A_DEPS PREPEND tandem_)
  target_link_libraries(${A_NAME} PRIVATE tandem_options ${A_DEPS} ${A_LIBS} GTest::gmock GTest::gtest)
  if(NOT A_NO_GTEST_MAIN)
    target_link_libraries(${A_NAME} PRIVATE GTest::gtest_main)
  endif()
  set_target_properties(${A_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  add_test(NAME ${A_NAME} COMMAND ${A_NAME} ${A_ARGS} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties(${A_NAME} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
endfunction()

# Writes modules.txt into the build folder, for tools/checks/includes.py. Called once, after all modules are declared.
function(tandem_write_module_list)
  get_property(modules GLOBAL PROPERTY TANDEM_MODULES)
  list(JOIN modules "\n" text)
  file(WRITE "${PROJECT_BINARY_DIR}/modules.txt" "${text}\n")
endfunction()
