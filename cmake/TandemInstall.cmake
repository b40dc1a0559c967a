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

set(bundle "${PROJECT_BINARY_DIR}/tandem-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}.tar.zst")
add_custom_target(bundle
  COMMAND ${CMAKE_COMMAND} -DBUILD_DIR=${PROJECT_BINARY_DIR} -DOUTPUT=${bundle} -DLIBDIR=${CMAKE_INSTALL_LIBDIR} -DBINDIR=${CMAKE_INSTALL_BINDIR}
          -P "${PROJECT_SOURCE_DIR}/cmake/MakeBundle.cmake"
  DEPENDS ${programs} VERBATIM
  COMMENT "Bundling ${bundle}")
