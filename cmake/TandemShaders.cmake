# tandem_kernels(NAME gpu_kernels LAYER 11 GROUP gpu-worker DEPS gpu_vulkan KERNELS <row> ...)
#
# Compiles GLSL to SPIR-V at build time (with dependency files) and embeds it. Each row is one kernel:
#   "name | source | storage buffers | parameter struct | define,define | needs"
# The struct S of <folder>/<header>.h is the kernel's push constants; rows name it as folder/header.h:S, or have none. Needs are one of
# vulkan::KernelNeeds without its k, or nothing. Kernels that need Matrix or Fragments are written in the NV dialect of cooperative matrices, which Debian 12's
# glslc knows; gpu-worker/kernels/rewrite makes the KHR dialect of it. Makes the module and the table that kernel_table.h declares, in the order of
# the rows.
include_guard(GLOBAL)

function(_tandem_split_row row)
  string(REPLACE "|" ";" fields "${row}")
  list(LENGTH fields count)
  if(NOT count EQUAL 6)
    message(FATAL_ERROR "kernel row '${row}': expected 6 fields split by '|', found ${count}")
  endif()
  set(names KERNEL_NAME KERNEL_SOURCE KERNEL_BINDINGS KERNEL_PARAMS KERNEL_DEFINES KERNEL_NEEDS)
  foreach(name field IN ZIP_LISTS names fields)
    string(STRIP "${field}" field)
    set(${name} "${field}" PARENT_SCOPE)
  endforeach()
endfunction()

function(tandem_kernels)
  cmake_parse_arguments(A "" "NAME;LAYER;GROUP" "DEPS;KERNELS" ${ARGN})
  set(out "${CMAKE_CURRENT_BINARY_DIR}/spirv")
  set(includes)
  set(arrays)
  set(rows)
  set(made)
  file(RELATIVE_PATH here "${PROJECT_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}")
  foreach(row IN LISTS A_KERNELS)
    _tandem_split_row("${row}")
    string(REPLACE "," ";" defines "${KERNEL_DEFINES}")
    list(TRANSFORM defines PREPEND "-D")
    set(array "${out}/${KERNEL_NAME}.inc")
    set(compile ${TANDEM_GLSLC} --target-env=vulkan1.2 -O -Werror ${defines} -I "${PROJECT_SOURCE_DIR}" -MD -MF "${array}.d" -MT "${array}")
    if(KERNEL_NEEDS MATCHES "^(Matrix|Fragments)$")
      set(commands COMMAND ${compile} -o "${array}.nv" "${CMAKE_CURRENT_SOURCE_DIR}/${KERNEL_SOURCE}"
                   COMMAND tandem_matrix_dialect "${array}.nv" "${array}")
      set(tools tandem_matrix_dialect)
    else()
      set(commands COMMAND ${compile} -mfmt=num -o "${array}" "${CMAKE_CURRENT_SOURCE_DIR}/${KERNEL_SOURCE}")
      set(tools)
    endif()
    add_custom_command(OUTPUT "${array}"
      COMMAND ${CMAKE_COMMAND} -E make_directory "${out}"
      ${commands}
      MAIN_DEPENDENCY "${CMAKE_CURRENT_SOURCE_DIR}/${KERNEL_SOURCE}" DEPENDS ${tools} DEPFILE "${array}.d" VERBATIM
      COMMENT "Compiling kernel ${KERNEL_NAME}")
    list(APPEND made "${array}")
    set(push_bytes 0)
    if(KERNEL_PARAMS)
      string(REPLACE ":" ";" params "${KERNEL_PARAMS}")
      list(GET params 0 header)
      list(GET params 1 struct)
      list(APPEND includes "#include \"${here}/${header}\"")
      set(push_bytes "sizeof(${struct})")
    endif()
    if(NOT KERNEL_NEEDS)
      set(KERNEL_NEEDS Nothing)
    endif()
    string(APPEND arrays "constexpr std::uint32_t k_${KERNEL_NAME}[] = {\n#include \"${array}\"\n};\n")
    string(APPEND rows "    {\"${KERNEL_NAME}\", k_${KERNEL_NAME}, ${KERNEL_BINDINGS}, ${push_bytes},\n     vulkan::KernelNeeds::k${KERNEL_NEEDS}},\n")
  endforeach()
  list(REMOVE_DUPLICATES includes)
  list(JOIN includes "\n" includes)
  set(table "${CMAKE_CURRENT_BINARY_DIR}/kernel_spirv.cc")
  file(CONFIGURE OUTPUT "${table}" @ONLY CONTENT [[
// Generated from the list of kernels; do not edit.
#include "@here@/kernel_table.h"

#include <cstdint>

@includes@

namespace tandem::kernels {
namespace {

@arrays@
constexpr vulkan::ShaderCode kTable[] = {
@rows@};

}  // namespace

std::span<const vulkan::ShaderCode> All() { return kTable; }

}  // namespace tandem::kernels
]])
  set_source_files_properties("${table}" PROPERTIES OBJECT_DEPENDS "${made}")
  tandem_module(NAME ${A_NAME} LAYER ${A_LAYER} GROUP ${A_GROUP} DEVICE_SIDE
    SRCS kernel_table.cc "${table}" HDRS kernel_table.h DEPS ${A_DEPS})
  # The generated file stands in the build folder; quoted includes of arrays are absolute.
endfunction()
