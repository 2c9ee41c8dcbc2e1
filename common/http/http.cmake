# Boost's headers, for the one room that speaks HTTP.
find_path(KV_BOOST boost/beast/http.hpp DOC "Boost's headers, 1.74 or later")
if(NOT KV_BOOST)
  message(FATAL_ERROR "Boost's headers are missing (boost/beast/http.hpp; Debian and Ubuntu: libboost-dev): kvbook serve "
    "speaks HTTP with them. Elsewhere than usual: -DKV_BOOST=the folder that holds boost/")
endif()
foreach(build "" _checked)
  target_include_directories(kv_common_http${build} SYSTEM PRIVATE ${KV_BOOST})
endforeach()
