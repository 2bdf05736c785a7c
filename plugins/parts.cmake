# Which parts that need CUDA are built: sets SN_BUILD_CUDA, SN_BUILD_ORT_CUDA and SN_BUILD_TENSORRT.
#
# Each has three settings. AUTO builds the part where everything it needs is found; it never downloads, and never
# stops. ON stops where something is missing. OFF leaves it out. A path that is named (SN_CUDA_ROOT, TENSORRT_ROOT) asks
# for its part, so that a typing error in it isn't passed over.
set(SN_WITH_CUDA AUTO CACHE STRING "The CUDA kernels as a library of their own: ON, OFF, AUTO (with a part that needs them)")
set(SN_WITH_ORT_CUDA AUTO CACHE STRING "The custom-op library for ONNX Runtime's CUDA provider: ON, OFF, AUTO (with nvcc)")
set(SN_WITH_TENSORRT AUTO CACHE STRING "The TensorRT plugin: ON, OFF, AUTO (with nvcc and TensorRT's headers)")

include(cuda/find_compiler.cmake)
include(tensorrt/FindTensorRTHeaders.cmake)

foreach(part SN_WITH_CUDA SN_WITH_ORT_CUDA SN_WITH_TENSORRT)
  string(TOUPPER "${${part}}" ${part})
  if(NOT ${part} MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|YES|NO|1|0)$")
    message(FATAL_ERROR "${part} is '${${part}}'; expected ON, OFF or AUTO")
  endif()
endforeach()
if(SN_CUDA_ROOT AND SN_WITH_CUDA STREQUAL "AUTO")
  set(SN_WITH_CUDA ON)
endif()
if(TENSORRT_ROOT AND SN_WITH_TENSORRT STREQUAL "AUTO")
  set(SN_WITH_TENSORRT ON)
endif()

# sn_choose(RESULT PART PROBLEM): whether the part is built, from its setting and what is missing ('' if nothing is).
function(sn_choose result part problem)
  set(${result} OFF PARENT_SCOPE)
  if(NOT ${part})
    return()
  elseif(NOT problem)
    set(${result} ON PARENT_SCOPE)
  elseif(${part} STREQUAL "AUTO")
    message(STATUS "${part}: left out, since ${problem}")
  else()
    message(FATAL_ERROR "${part} is on, but ${problem}.\n${part}=OFF builds without it. "
      "CMake is given settings as -DNAME=VALUE, pip as -C cmake.define.NAME=VALUE")
  endif()
endfunction()

set(SN_CUDA_PROBLEM "")
if(NOT SN_WITH_CUDA)
  set(SN_CUDA_PROBLEM "SN_WITH_CUDA is off")
elseif(SN_WITH_CUDA STREQUAL "AUTO" AND NOT SN_WITH_ORT_CUDA AND NOT SN_WITH_TENSORRT)
  set(SN_WITH_CUDA OFF)
else()
  sn_find_cuda_compiler(SN_CUDA_PROBLEM)
endif()

set(SN_ORT_CUDA_PROBLEM "${SN_CUDA_PROBLEM}")
if(NOT SN_WITH_ORT)
  set(SN_ORT_CUDA_PROBLEM "SN_WITH_ORT is off")
elseif(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/onnxruntime_cuda/CMakeLists.txt)
  set(SN_ORT_CUDA_PROBLEM "its sources are missing")
endif()
sn_choose(SN_BUILD_ORT_CUDA SN_WITH_ORT_CUDA "${SN_ORT_CUDA_PROBLEM}")

set(SN_TENSORRT_PROBLEM "${SN_CUDA_PROBLEM}")
if(SN_WITH_TENSORRT AND NOT SN_TENSORRT_PROBLEM)
  sn_find_tensorrt(SN_TENSORRT_INCLUDES SN_TENSORRT_PROBLEM)
endif()
sn_choose(SN_BUILD_TENSORRT SN_WITH_TENSORRT "${SN_TENSORRT_PROBLEM}")

# By themselves the kernels are for programs that call them: minutes of compiling that nobody waits for unasked.
if(SN_WITH_CUDA STREQUAL "AUTO" AND NOT SN_BUILD_ORT_CUDA AND NOT SN_BUILD_TENSORRT)
  set(SN_WITH_CUDA OFF)
endif()
sn_choose(SN_BUILD_CUDA SN_WITH_CUDA "${SN_CUDA_PROBLEM}")
