# What `cmake --install` makes of the libraries: files, their headers, and a package for find_package(sn_deploy), whose
# targets are sn_deploy::ort and so on. Only what was built is in it.
include(CMakePackageConfigHelpers)

# sn_install(TARGET NAME [HEADER]): a library that others use as sn_deploy::NAME, and its header, included as
# <sn_deploy/…>.
function(sn_install target name)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS ${target} EXPORT sn_deploy LIBRARY DESTINATION ${SN_LIBRARY_DIR})
  add_library(sn_deploy::${name} ALIAS ${target}) # for who takes this folder by add_subdirectory
  set_property(GLOBAL APPEND PROPERTY SN_INSTALLED ${name})
  if(ARGN)
    install(FILES ${ARGN} DESTINATION ${SN_INCLUDE_DIR}/sn_deploy)
    target_include_directories(${target} INTERFACE
      $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${SN_INCLUDE_DIR}>)
  endif()
endfunction()

# Once all libraries are known.
function(sn_install_package)
  get_property(installed GLOBAL PROPERTY SN_INSTALLED)
  if(NOT installed)
    return()
  endif()
  set(folder ${SN_LIBRARY_DIR}/cmake/sn_deploy)
  install(EXPORT sn_deploy FILE sn_deployTargets.cmake NAMESPACE sn_deploy:: DESTINATION ${folder})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/sn_deployConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_SOURCE_DIR}/package/sn_deployConfig.cmake ${PROJECT_BINARY_DIR}/sn_deployConfigVersion.cmake
    DESTINATION ${folder})
endfunction()
