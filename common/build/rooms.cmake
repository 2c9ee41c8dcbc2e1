# The house as libraries. A room is a folder of sources, and a static library in two builds:
#   kv_<folder>           for programs
#   kv_<folder>_checked   for tests: shapes and indices are checked at every access
# Which rooms a program needs is read from its includes, where a header stands for the source beside it. So the tests of
# a chapter build what they reach and nothing else, and a new file, folder or test needs no line in any CMake file.

# Reading the tensor's headers takes most compilers longer than the code behind them: done once for each build.
# Not with a compiler cache, which cannot look into the result.
option(KV_PRECOMPILED_HEADERS "Read the tensor's headers once" ON)
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(KV_PRECOMPILED_HEADERS OFF)
endif()
function(kv_precompile target build)
  if(KV_PRECOMPILED_HEADERS AND target STREQUAL "kv_common_tensor${build}")
    target_precompile_headers(${target} PRIVATE ${PROJECT_SOURCE_DIR}/common/tensor/tensor.hpp)
  elseif(KV_PRECOMPILED_HEADERS)
    target_precompile_headers(${target} REUSE_FROM kv_common_tensor${build})
  endif()
endfunction()

# A file that is compiled in place of the source that its first line names: an exercise, which by itself is a room that no
# program reaches, or a planted mistake. See tests/exercise and tests/break.
set(KV_EXERCISE "" CACHE STRING "Files that take the place of the book's sources, by their paths")

# kv_take_places(LIST): puts the chosen exercises into a list of sources.
function(kv_take_places list)
  set(sources ${${list}})
  foreach(exercise ${KV_EXERCISE})
    file(STRINGS ${PROJECT_SOURCE_DIR}/${exercise} place LIMIT_COUNT 1 REGEX "in place of ")
    string(REGEX REPLACE ".* in place of ([a-z0-9_/.]+[a-z]).*" "\\1" place "${place}")
    list(TRANSFORM sources REPLACE "^${PROJECT_SOURCE_DIR}/${place}$" "${PROJECT_SOURCE_DIR}/${exercise}")
  endforeach()
  set(${list} ${sources} PARENT_SCOPE)
endfunction()

# kv_room(PATH): the room of a folder, if it holds C++ sources, or that of a single one.
function(kv_room path)
  set(sources ${PROJECT_SOURCE_DIR}/${path})
  if(NOT path MATCHES "\\.cpp$")
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${path}/*.cpp)
    list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  endif()
  if(NOT sources)
    return()
  endif()
  kv_take_places(sources)
  kv_room_name(name ${path})
  foreach(build "" _checked)
    add_library(${name}${build} STATIC EXCLUDE_FROM_ALL ${sources})
    target_link_libraries(${name}${build} PUBLIC kv_flags${build})
    kv_precompile(${name}${build} "${build}")
  endforeach()
endfunction()

# "common/tensor" and "tests/support/oracle.cpp" are kv_common_tensor and kv_tests_support_oracle.
function(kv_room_name result path)
  string(REGEX REPLACE "\\.[a-z]+$" "" path ${path})
  string(REPLACE "/" "_" path ${path})
  set(${result} kv_${path} PARENT_SCOPE)
endfunction()

# kv_reach(RESULT FILE...): the FILEs and all that they include, directly or through others, with the sources beside it.
function(kv_reach result)
  set(reached "")
  set(todo "")
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file)
    cmake_path(RELATIVE_PATH file BASE_DIRECTORY ${PROJECT_SOURCE_DIR})
    list(APPEND todo ${file})
  endforeach()
  while(todo)
    list(POP_BACK todo file)
    if(DEFINED seen_${file})
      continue()
    endif()
    set(seen_${file} YES)
    list(APPEND reached ${file})
    get_property(known GLOBAL PROPERTY kv_next_to_${file} SET)
    if(NOT known)
      kv_next_to(${file})
    endif()
    get_property(next GLOBAL PROPERTY kv_next_to_${file})
    list(APPEND todo ${next})
  endwhile()
  set(${result} ${reached} PARENT_SCOPE)
endfunction()

# The files one step from a file.
function(kv_next_to file)
  file(STRINGS ${PROJECT_SOURCE_DIR}/${file} next REGEX "^#include \"[a-z]+/")
  list(TRANSFORM next REPLACE "^#include \"([^\"]+)\".*" "${PROJECT_SOURCE_DIR}/\\1")
  if(file MATCHES "^(.*)\\.hpp$")
    list(APPEND next ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_1}.cpp ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_1}.cu)
  endif()
  set(there "")
  foreach(path ${next})
    if(EXISTS ${path})                 # not those of optional libraries
      list(APPEND there ${path})
    endif()
  endforeach()
  list(TRANSFORM there REPLACE "^${PROJECT_SOURCE_DIR}/" "")
  set_property(GLOBAL PROPERTY kv_next_to_${file} "${there}")
endfunction()

# kv_link(TARGET BUILD KERNELS FILE...): links the rooms that the FILEs reach, in one BUILD ("" or _checked). KERNELS is the
# object library with chapter 6's kernels that is linked when they are reached, or NONE when TARGET brings its own, compiled
# with flags of its own.
function(kv_link target build kernels)
  kv_reach(reached ${ARGN})
  set(rooms "")
  if(NOT kernels STREQUAL "NONE" AND reached MATCHES "\\.cu(;|$)")
    kv_reach(reached ${ARGN} ${KV_KERNEL_FILES})
    target_link_libraries(${target} PRIVATE ${kernels})
    if(kernels MATCHES "cpu")
      list(APPEND rooms kv_simt)
    endif()
  endif()
  list(FILTER reached INCLUDE REGEX "\\.cpp$")
  foreach(file ${reached})
    get_filename_component(folder ${file} DIRECTORY)
    kv_room_name(own ${file})
    kv_room_name(shared ${folder})
    foreach(room ${own}${build} ${shared}${build})
      if(TARGET ${room} AND NOT room STREQUAL target)
        list(APPEND rooms ${room})
        break()
      endif()
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES rooms)
  if(NOT APPLE)                        # whose linker needs no order
    set(rooms -Wl,--start-group ${rooms} -Wl,--end-group)
  endif()
  if("stdc++" IN_LIST CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    list(PREPEND rooms stdc++)         # or a room's copy of std::string would do, and bring what nobody asked for
  endif()
  target_link_libraries(${target} PRIVATE kv_flags${build} ${rooms})
  if(NOT kernels STREQUAL "NONE")
    kv_precompile(${target} "${build}")
  endif()
endfunction()
