# What the server's room needs beside its sources: Boost's headers, and its page as a string.
find_path(KV_BOOST boost/beast/http.hpp DOC "Boost's headers, 1.74 or later")
if(NOT KV_BOOST)
  message(FATAL_ERROR "Boost's headers are missing (boost/beast/http.hpp; Debian and Ubuntu: libboost-dev). "
    "The server speaks HTTP with them. Elsewhere than usual: -DKV_BOOST=the folder that holds boost/")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS chapters/server/page.html)
file(READ chapters/server/page.html KV_PAGE)
configure_file(chapters/server/page.cpp.in ${PROJECT_BINARY_DIR}/page.cpp @ONLY)
foreach(build "" _checked)
  target_include_directories(kv_chapters_server${build} SYSTEM PRIVATE ${KV_BOOST})
  target_link_libraries(kv_chapters_server${build} PRIVATE nlohmann_json::nlohmann_json)
  target_sources(kv_chapters_server${build} PRIVATE ${PROJECT_BINARY_DIR}/page.cpp)
endforeach()
