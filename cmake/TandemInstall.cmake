# Install rules, and the `bundle` target: a relocatable tar.zst that runs on another Linux machine with none of the packages.
include(GNUInstallDirs)

get_property(programs GLOBAL PROPERTY TANDEM_PROGRAMS)
foreach(program IN LISTS programs)
  # Libraries of a bundle lie beside the programs; on a system with the packages the path is simply not there.
  set_target_properties(${program} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/tandem")
endforeach()
install(TARGETS ${programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
install(FILES README.md ARCHITECTURE.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT programs)
install(DIRECTORY proto/tandem DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/proto COMPONENT programs)
install(DIRECTORY models/demo DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/models COMPONENT programs OPTIONAL)

# Manual pages, completion and the schema of configuration files, made by the programs themselves.
set(made "${PROJECT_BINARY_DIR}/share")
set(manual_commands)
foreach(program IN LISTS programs)
  if(NOT program STREQUAL "tandem")
    list(APPEND manual_commands COMMAND ${program} --man > "${made}/man/${program}.1")
  endif()
endforeach()
add_custom_command(OUTPUT "${made}/stamp"
  COMMAND ${CMAKE_COMMAND} -E rm -rf "${made}"
  COMMAND ${CMAKE_COMMAND} -E make_directory "${made}/man" "${made}/completion"
  COMMAND tandem manuals "${made}/man" ${manual_commands}
  COMMAND tandem completion bash > "${made}/completion/tandem.bash"
  COMMAND tandem completion zsh > "${made}/completion/_tandem"
  COMMAND tandem completion fish > "${made}/completion/tandem.fish"
  COMMAND tandem config schema > "${made}/config.schema.json"
  COMMAND ${CMAKE_COMMAND} -E touch "${made}/stamp"
  DEPENDS ${programs} VERBATIM COMMENT "Writing manual pages, completion and schema")
add_custom_target(tandem_share ALL DEPENDS "${made}/stamp")
install(DIRECTORY "${made}/man/" DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT programs)
install(FILES "${made}/completion/tandem.bash" DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME tandem COMPONENT programs)
install(FILES "${made}/completion/_tandem" DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions COMPONENT programs)
install(FILES "${made}/completion/tandem.fish" DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT programs)
install(FILES "${made}/config.schema.json" DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem COMPONENT programs)

# A bundle has benchmarks that need neither a cluster nor a build, where they are built; packages have none.
set(benchmarks)
foreach(benchmark IN ITEMS model_bench vulkan_bench kernel_bench)
  if(TARGET ${benchmark})
    set_target_properties(${benchmark} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/tandem")
    install(TARGETS ${benchmark} RUNTIME DESTINATION bench COMPONENT benchmarks EXCLUDE_FROM_ALL)
    list(APPEND benchmarks ${benchmark})
  endif()
endforeach()

set(bundle "${PROJECT_BINARY_DIR}/tandem-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}.tar.zst")
add_custom_target(bundle
  COMMAND ${CMAKE_COMMAND} -DBUILD_DIR=${PROJECT_BINARY_DIR} -DOUTPUT=${bundle} -DLIBDIR=${CMAKE_INSTALL_LIBDIR} -DBINDIR=${CMAKE_INSTALL_BINDIR}
          -P "${PROJECT_SOURCE_DIR}/cmake/MakeBundle.cmake"
  DEPENDS ${programs} ${benchmarks} tandem_share VERBATIM
  COMMENT "Bundling ${bundle}")

include(TandemPackage)       # the Debian package
