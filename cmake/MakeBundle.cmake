# Run by the `bundle` target: installs into a folder, adds the shared libraries that a bare Linux system lacks, packs it.
cmake_minimum_required(VERSION 3.25)
set(stage "${BUILD_DIR}/bundle/tandem")
file(REMOVE_RECURSE "${BUILD_DIR}/bundle")
execute_process(COMMAND ${CMAKE_COMMAND} --install "${BUILD_DIR}" --prefix "${stage}" --component programs --strip
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --install "${BUILD_DIR}" --prefix "${stage}" --component benchmarks --strip
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(GLOB programs "${stage}/${BINDIR}/*" "${stage}/bench/*")

# Left to the system: the C library and its kin, and the Vulkan loader's drivers. The loader itself travels along; it finds the system's drivers.
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${programs} RESOLVED_DEPENDENCIES_VAR libraries UNRESOLVED_DEPENDENCIES_VAR missing
     PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv)\\.so")
if(missing)
  message(FATAL_ERROR "bundle: libraries that cannot be found: ${missing}")
endif()
file(MAKE_DIRECTORY "${stage}/${LIBDIR}/tandem")
foreach(library IN LISTS libraries)
  file(REAL_PATH "${library}" real)
  get_filename_component(name "${library}" NAME)
  file(COPY_FILE "${real}" "${stage}/${LIBDIR}/tandem/${name}")
endforeach()
# Bundled libraries must find each other, and not the system's: a relative RUNPATH on each.
find_program(patchelf patchelf REQUIRED)
file(GLOB bundled "${stage}/${LIBDIR}/tandem/*")
foreach(library IN LISTS bundled)
  execute_process(COMMAND ${patchelf} --set-rpath "$ORIGIN" "${library}" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND ${CMAKE_COMMAND} -E tar cf "${OUTPUT}" --zstd tandem WORKING_DIRECTORY "${BUILD_DIR}/bundle" COMMAND_ERROR_IS_FATAL ANY)
list(LENGTH bundled count)
file(SIZE "${OUTPUT}" bytes)
math(EXPR megabytes "${bytes} / 1000000")
message(STATUS "bundle: ${OUTPUT}, ${count} libraries, ${megabytes} MB")
