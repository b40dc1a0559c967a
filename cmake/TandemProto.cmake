# tandem_proto_library(FILES ...): C++ messages and gRPC services from proto/, generated at build time. Declares module `proto`.
function(tandem_proto_library)
  cmake_parse_arguments(A "" "" "FILES" ${ARGN})
  set(out "${PROJECT_BINARY_DIR}/generated")
  set(sources)
  set(services)
  foreach(file IN LISTS A_FILES)
    string(REGEX REPLACE "\\.proto$" "" stem "${file}")
    set(made "${out}/${stem}.pb.cc" "${out}/${stem}.pb.h" "${out}/${stem}.grpc.pb.cc" "${out}/${stem}.grpc.pb.h")
    add_custom_command(OUTPUT ${made}
      COMMAND ${CMAKE_COMMAND} -E make_directory "${out}"
      COMMAND protobuf::protoc -I "${CMAKE_CURRENT_SOURCE_DIR}" --cpp_out=${out} --grpc_out=${out}
              --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin> "${file}"
      DEPENDS ${A_FILES} WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" VERBATIM
      COMMENT "Generating ${stem}.pb.{h,cc}")
    list(APPEND sources ${made})
    list(APPEND services "${out}/${stem}.grpc.pb.cc")
  endforeach()
  add_library(tandem_proto STATIC ${sources})
  # gRPC's headers are read once for all services. Messages have names in common and stay by themselves.
  set_source_files_properties(${services} PROPERTIES UNITY_GROUP services)
  set_target_properties(tandem_proto PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # Generated code is not ours to warn about.
  target_include_directories(tandem_proto SYSTEM PUBLIC "${out}")
  # Not grpc++_reflection: linking it alone adds a service to every server of the program.
  target_link_libraries(tandem_proto PUBLIC gRPC::grpc++ protobuf::libprotobuf)
  set_target_properties(tandem_proto PROPERTIES TANDEM_LAYER 0 TANDEM_GROUP lib)
endfunction()
