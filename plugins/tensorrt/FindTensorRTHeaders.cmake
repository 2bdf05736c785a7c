# sn_find_tensorrt(RESULT): the include folders to build against, one for each major version of TensorRT.
#
# Looked for in each folder of TENSORRT_ROOT (a list, or the environment's), then in the system's include paths, then,
# with SN_FETCH_TENSORRT=ON, downloaded from NVIDIA's repository. Only headers are needed.

set(TENSORRT_ROOT "$ENV{TENSORRT_ROOT}" CACHE STRING "Where TensorRT is installed; several folders for several versions")
option(SN_FETCH_TENSORRT "Download TensorRT's headers where they are not installed" OFF)
set(SN_FETCH_TENSORRT_TAGS "v10.15;v11.2" CACHE STRING "Tags of NVIDIA's TensorRT repository, one for each major version")

function(sn_fetch_tensorrt result)
  include(FetchContent)
  set(found)
  foreach(tag IN LISTS SN_FETCH_TENSORRT_TAGS)
    string(MAKE_C_IDENTIFIER "tensorrt_${tag}" name)
    FetchContent_Declare(${name} GIT_REPOSITORY https://github.com/NVIDIA/TensorRT.git GIT_TAG ${tag}
      GIT_SHALLOW ON GIT_SUBMODULES "" SOURCE_SUBDIR none)
    FetchContent_MakeAvailable(${name})
    list(APPEND found ${${name}_SOURCE_DIR}/include)
  endforeach()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

function(sn_find_tensorrt result)
  set(found)
  foreach(root IN LISTS TENSORRT_ROOT)
    if(NOT EXISTS ${root}/include/NvInferRuntime.h)
      message(FATAL_ERROR "TENSORRT_ROOT names ${root}, which has no include/NvInferRuntime.h")
    endif()
    list(APPEND found ${root}/include)
  endforeach()
  if(NOT found)
    find_path(SN_TENSORRT_SYSTEM NvInferRuntime.h)
    mark_as_advanced(SN_TENSORRT_SYSTEM)
    if(SN_TENSORRT_SYSTEM)
      set(found ${SN_TENSORRT_SYSTEM})
    elseif(SN_FETCH_TENSORRT)
      sn_fetch_tensorrt(found)
    else()
      message(FATAL_ERROR "SN_WITH_TENSORRT is on, and TensorRT's headers were not found. Install TensorRT's development "
        "package, or set TENSORRT_ROOT, or let CMake download the headers with -DSN_FETCH_TENSORRT=ON")
    endif()
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

# The major version that an include folder is of.
function(sn_tensorrt_major include result)
  file(STRINGS ${include}/NvInferVersion.h line REGEX "#define (NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) +[0-9]+")
  if(NOT line MATCHES "([0-9]+)" OR CMAKE_MATCH_1 LESS 10 OR CMAKE_MATCH_1 GREATER 11)
    message(FATAL_ERROR "${include}/NvInferVersion.h: expected TensorRT 10 or 11, got '${line}'")
  endif()
  set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
endfunction()
