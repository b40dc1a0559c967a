# The Debian package: `cpack -G DEB` in the build folder. Programs, manual pages, completion, systemd's units and a configuration file. What is only
# for the package is installed under its own component, so that `cmake --install` and the bundle stay as they are.
set(units "${PROJECT_SOURCE_DIR}/deploy/systemd")
file(GLOB unit_files CONFIGURE_DEPENDS "${units}/*.service" "${units}/*.target")
install(FILES ${unit_files} DESTINATION /usr/lib/systemd/system COMPONENT package EXCLUDE_FROM_ALL)
install(FILES "${units}/tandem.sysusers" DESTINATION /usr/lib/sysusers.d RENAME tandem.conf COMPONENT package EXCLUDE_FROM_ALL)
install(FILES "${units}/tandem.tmpfiles" DESTINATION /usr/lib/tmpfiles.d RENAME tandem.conf COMPONENT package EXCLUDE_FROM_ALL)
install(FILES "${units}/tandem.yaml" DESTINATION /etc/tandem COMPONENT package EXCLUDE_FROM_ALL)
install(FILES "${PROJECT_SOURCE_DIR}/packaging/copyright" DESTINATION /usr/share/doc/tandem COMPONENT package EXCLUDE_FROM_ALL)
install(FILES "${PROJECT_SOURCE_DIR}/packaging/lintian-overrides" DESTINATION /usr/share/lintian/overrides RENAME tandem COMPONENT package EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tandem)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(TANDEM_PACKAGE_CONTACT "Tandem maintainers <tandem@example.org>" CACHE STRING "Who made the Debian package")
set(CPACK_PACKAGE_CONTACT "${TANDEM_PACKAGE_CONTACT}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR OFF)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL programs package)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers | systemd-sysusers")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "mesa-vulkan-drivers")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/packaging/postinst" "${PROJECT_SOURCE_DIR}/packaging/prerm"
    "${PROJECT_SOURCE_DIR}/packaging/postrm" "${PROJECT_SOURCE_DIR}/packaging/conffiles")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "inference cluster for Gemma 3 on an NPU and a GPU together
Tandem serves Gemma 3 language models on the NPU and the integrated GPU of
one machine behind the OpenAI API and gRPC. A gateway tokenises and schedules,
a worker owns each device, and a loader holds the weights in shared memory;
activations pass between the workers without a copy. It also runs on any
Vulkan GPU, and on machines with neither device.")
# What cpack stages is finished there: see the script.
set(CPACK_PRE_BUILD_SCRIPTS "${PROJECT_SOURCE_DIR}/cmake/FinishPackage.cmake")
set(CPACK_TANDEM_SOURCE "${PROJECT_SOURCE_DIR}")
include(CPack)
