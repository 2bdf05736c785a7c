# sn_fetch_tensorrt(RESULT PROBLEM): downloads TensorRT's headers, and nothing else, from NVIDIA's repository.
option(SN_FETCH_TENSORRT "Download TensorRT's headers where they are not installed" OFF)
set(SN_FETCH_TENSORRT_URL https://github.com/NVIDIA/TensorRT.git CACHE STRING "The repository, or a mirror of it")
set(SN_FETCH_TENSORRT_TAGS "v10.15;v11.1" CACHE STRING "Tags of that repository, one for each major version")

# FetchContent would only say which of its steps failed.
function(sn_ask_for_tag git tag problem)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env GIT_TERMINAL_PROMPT=0
    ${git} ls-remote --exit-code ${SN_FETCH_TENSORRT_URL} refs/tags/${tag}
    OUTPUT_QUIET ERROR_VARIABLE said RESULT_VARIABLE failed TIMEOUT 60)
  set(${problem} "" PARENT_SCOPE)
  if(failed)
    string(STRIP "${said}" said)
    set(${problem} "TensorRT's headers are not installed, and ${tag} of ${SN_FETCH_TENSORRT_URL} can't be downloaded \
(${said}). Name the folder of a TensorRT with TENSORRT_ROOT (the one that holds include/NvInferRuntime.h), or a mirror \
with SN_FETCH_TENSORRT_URL" PARENT_SCOPE)
  endif()
endfunction()

function(sn_fetch_tensorrt result problem)
  include(FetchContent)
  find_program(git git NO_CACHE)
  if(NOT git)
    set(${problem} "TensorRT's headers are not installed, and git, to download them, isn't either" PARENT_SCOPE)
    return()
  endif()
  set(found)
  foreach(tag IN LISTS SN_FETCH_TENSORRT_TAGS)
    string(MAKE_C_IDENTIFIER "tensorrt_${tag}" name)
    set(folder ${FETCHCONTENT_BASE_DIR}/${name}-src)
    if(NOT EXISTS ${folder}/include/NvInferVersion.h)
      sn_ask_for_tag(${git} ${tag} why)
      if(why)
        set(${problem} "${why}" PARENT_SCOPE)
        return()
      endif()
      # The whole tree has 280 MB, its headers 1 MB. SOURCE_SUBDIR: nothing of it is configured.
      FetchContent_Declare(${name} SOURCE_DIR ${folder} SOURCE_SUBDIR none
        DOWNLOAD_COMMAND ${CMAKE_COMMAND} -E rm -rf <SOURCE_DIR>
        COMMAND ${git} clone --quiet --depth 1 --filter=blob:none --sparse --branch ${tag}
          ${SN_FETCH_TENSORRT_URL} <SOURCE_DIR>
        COMMAND ${git} -C <SOURCE_DIR> sparse-checkout set include)
      FetchContent_MakeAvailable(${name})
    endif()
    list(APPEND found ${folder}/include)
  endforeach()
  set(${result} ${found} PARENT_SCOPE)
endfunction()
