# The server's page, as a string of the program.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS chapters/server/page.html)
file(READ chapters/server/page.html KV_PAGE)
configure_file(chapters/server/page.cpp.in ${PROJECT_BINARY_DIR}/page.cpp @ONLY)
foreach(build "" _checked)
  target_sources(kv_chapters_server${build} PRIVATE ${PROJECT_BINARY_DIR}/page.cpp)
endforeach()
