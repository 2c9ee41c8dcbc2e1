# The program that makes the book's numbers and figures. Not part of `all`: docs/measure/run builds and runs it.
file(GLOB KV_MEASURE_SOURCES CONFIGURE_DEPENDS docs/measure/*.cpp)
add_executable(kvbook-measure EXCLUDE_FROM_ALL ${KV_MEASURE_SOURCES} chapters/commands/table.cpp)
target_link_libraries(kvbook-measure PRIVATE kv_chapters)
target_compile_definitions(kvbook-measure PRIVATE KV_DATA="${PROJECT_SOURCE_DIR}/data")
