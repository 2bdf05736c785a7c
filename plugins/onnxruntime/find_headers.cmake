# Sets ORT_INCLUDE_DIR, the folder of onnxruntime_c_api.h, of 1.18 or later. In this order: what the caller gave, the
# system's include paths, a Go module that carries the header (where go is installed), and, if SN_FETCH_ORT_HEADERS is
# on, ONNX Runtime's repository.
set(ORT_INCLUDE_DIR "" CACHE PATH "Folder of onnxruntime_c_api.h; empty to look for it")
option(SN_FETCH_ORT_HEADERS "Download onnxruntime_c_api.h where it isn't found" OFF)

set(SN_ORT_GO_MODULE github.com/yalue/onnxruntime_go@v1.27.0)
set(SN_ORT_HEADER_URL
  https://raw.githubusercontent.com/microsoft/onnxruntime/v1.18.1/include/onnxruntime/core/session/onnxruntime_c_api.h)

function(sn_ort_headers_of_system result)
  find_path(SN_ORT_SYSTEM_INCLUDE onnxruntime_c_api.h
    PATH_SUFFIXES onnxruntime onnxruntime/core/session core/session NO_CACHE)
  set(${result} "${SN_ORT_SYSTEM_INCLUDE}" PARENT_SCOPE)
endfunction()

# `go mod download` puts the module into Go's own cache, checked against its checksum database, and says where.
function(sn_ort_headers_of_go result)
  set(${result} "" PARENT_SCOPE)
  find_program(SN_GO go NO_CACHE)
  if(NOT SN_GO)
    return()
  endif()
  execute_process(COMMAND ${SN_GO} mod download -json ${SN_ORT_GO_MODULE}
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} OUTPUT_VARIABLE answer ERROR_VARIABLE errors RESULT_VARIABLE failed)
  if(failed)
    message(STATUS "go mod download ${SN_ORT_GO_MODULE} failed: ${answer}${errors}")
    return()
  endif()
  string(JSON folder ERROR_VARIABLE no_folder GET "${answer}" Dir)
  if(NOT no_folder)
    set(${result} "${folder}" PARENT_SCOPE)
  endif()
endfunction()

function(sn_ort_headers_of_download result)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/headers)
  file(DOWNLOAD ${SN_ORT_HEADER_URL} ${folder}/onnxruntime_c_api.h TLS_VERIFY ON STATUS status)
  list(GET status 0 code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${SN_ORT_HEADER_URL} can't be downloaded: ${status}")
  endif()
  set(${result} ${folder} PARENT_SCOPE)
endfunction()

if(NOT ORT_INCLUDE_DIR)
  sn_ort_headers_of_system(SN_ORT_FOUND)
  if(NOT SN_ORT_FOUND)
    sn_ort_headers_of_go(SN_ORT_FOUND)
  endif()
  if(NOT SN_ORT_FOUND AND SN_FETCH_ORT_HEADERS)
    sn_ort_headers_of_download(SN_ORT_FOUND)
  endif()
  # Forced: an empty cache entry is there already.
  set(ORT_INCLUDE_DIR "${SN_ORT_FOUND}" CACHE PATH "Folder of onnxruntime_c_api.h; empty to look for it" FORCE)
endif()
if(NOT EXISTS "${ORT_INCLUDE_DIR}/onnxruntime_c_api.h")
  message(FATAL_ERROR "The custom-op library needs onnxruntime_c_api.h of ONNX Runtime 1.18 or later, which is not in "
    "'${ORT_INCLUDE_DIR}': set ORT_INCLUDE_DIR to its folder, or install Go, or let CMake download it with "
    "-DSN_FETCH_ORT_HEADERS=ON, or leave the library out with -DSN_WITH_ORT=OFF")
endif()
message(STATUS "onnxruntime_c_api.h: ${ORT_INCLUDE_DIR}")
