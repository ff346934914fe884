# The program's own parts; see gateway/cli.
coppice_test(settings_test LABEL unit TIMEOUT 30 SOURCES settings_test.cpp LIBRARIES coppice_cli)
target_compile_definitions(settings_test PRIVATE COPPICE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
coppice_test(cli_test LABEL unit TIMEOUT 60 SOURCES cli_test.cpp LIBRARIES coppice_cli)

# The program itself, without a daemon; with one: tests/integration.
coppice_test(program_test LABEL integration TIMEOUT 120 SOURCES program_test.cpp
  LIBRARIES coppice_cli)
target_compile_definitions(program_test PRIVATE COPPICE_PROGRAM="$<TARGET_FILE:coppice>")
add_dependencies(program_test coppice)
