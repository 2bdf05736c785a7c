# find_package(sn_deploy REQUIRED COMPONENTS ort): the targets of package.cmake, of what was built.
include(${CMAKE_CURRENT_LIST_DIR}/sn_deployTargets.cmake)

foreach(component IN LISTS sn_deploy_FIND_COMPONENTS)
  if(TARGET sn_deploy::${component})
    set(sn_deploy_${component}_FOUND ON)
  elseif(sn_deploy_FIND_REQUIRED_${component})
    set(sn_deploy_FOUND OFF)
    string(APPEND sn_deploy_NOT_FOUND_MESSAGE "sn_deploy was built without '${component}'. ")
  endif()
endforeach()
