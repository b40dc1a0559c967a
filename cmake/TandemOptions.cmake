# Language level, warnings, sanitizers and build accelerators for every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -O3 only where loops are what users wait for (tandem_module's FAST): elsewhere it costs a sixth of the build and gains nothing.
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

# -DTANDEM_CCACHE=OFF does without.
find_program(TANDEM_CCACHE ccache)
if(TANDEM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${TANDEM_CCACHE}")
endif()
# Two thirds of a build's time go into reading other projects' headers and instantiating their templates again for each file. ccache saves more
# than what follows and cannot be had together with it: so this is for machines without ccache. Both hide a forgotten #include; builds with
# ccache or sanitizers find it.
#   TANDEM_PRECOMPILED_HEADERS  those headers are compiled once (TandemPrecompiled)
#   TANDEM_UNITY_BUILD          a module's files are compiled some at a time (TandemModule)
foreach(option TANDEM_PRECOMPILED_HEADERS TANDEM_UNITY_BUILD)
  if(NOT DEFINED ${option})
    set(${option} ON)
    if(TANDEM_CCACHE OR TANDEM_SANITIZE)
      set(${option} OFF)
    endif()
  endif()
endforeach()

add_library(tandem_options INTERFACE)
target_compile_options(tandem_options INTERFACE -Wall -Wextra -Werror)
# GCC 12 takes what its own std::string does with short texts for overlaps and overruns (GCC bugs 105329, 105651; mended in 13).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(tandem_options INTERFACE -Wno-restrict -Wno-array-bounds)
endif()
# A unity build's main file includes the sources: GCC takes their unnamed namespaces for a header's.
if(TANDEM_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(tandem_options INTERFACE -Wno-subobject-linkage)
endif()
# One set of flags for libraries, programs and tests, so that all of them can read one precompiled header.
target_compile_options(tandem_options INTERFACE -fPIC -fno-semantic-interposition -pthread)
target_link_options(tandem_options INTERFACE -pthread)
# Quoted includes are written from the repository's root: #include "lib/base/fd.h".
target_include_directories(tandem_options INTERFACE "${PROJECT_SOURCE_DIR}")

if(TANDEM_SANITIZE)
  add_compile_options(-fsanitize=${TANDEM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TANDEM_SANITIZE})
  if(TANDEM_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio has fences, which this sanitizer does not see. What they order is under its mutexes, too.
    add_compile_options(-Wno-tsan)
  endif()
  if(TANDEM_SANITIZE MATCHES "thread")
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include ${CMAKE_CURRENT_LIST_DIR}/tsan_protobuf.h>")
  endif()
endif()

find_program(TANDEM_MOLD mold)
if(TANDEM_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12.1)
  add_link_options(-fuse-ld=mold)
endif()
