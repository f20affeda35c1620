# Installs the build into a fresh prefix, and builds and runs a stranger's project against that alone.
file(REMOVE_RECURSE "${WORK}")
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    string(REPLACE ";" " " command "${ARGN}")
    message(FATAL_ERROR "${command}: ${code}\n${output}")
  endif()
endfunction()

run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix")
file(COPY "${SOURCE}/tests/install/consumer/" DESTINATION "${WORK}/source")

# The README's example, word for word.
file(READ "${SOURCE}/README.md" readme)
string(REPLACE ";" "@SEMICOLON@" readme "${readme}")
if(NOT readme MATCHES "```cpp\n(#include[^`]*)```")
  message(FATAL_ERROR "README.md has no cpp example that starts with #include")
endif()
string(REPLACE "@SEMICOLON@" ";" example "${CMAKE_MATCH_1}")
file(WRITE "${WORK}/source/readme_example.cc" "${example}")
# And what it says to write into a CMakeLists.txt.
if(NOT readme MATCHES "```cmake\n([^`]*)```")
  message(FATAL_ERROR "README.md has no cmake example")
endif()
file(WRITE "${WORK}/source/readme_example.cmake" "${CMAKE_MATCH_1}")

set(flags "")
if(SANITIZE)
  set(flags "-fsanitize=${SANITIZE}")
endif()
run("${CMAKE_COMMAND}" -S "${WORK}/source" -B "${WORK}/build" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
    "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_CXX_FLAGS=${flags}")
run("${CMAKE_COMMAND}" --build "${WORK}/build")
# A server of this test's own, in place of the user's.
set(ENV{COORD_URL} "embedded://?private")
run("${WORK}/build/consumer")
run("${WORK}/build/app")
if(HTTP)
  run("${WORK}/build/http_consumer")
endif()
file(REMOVE_RECURSE "${WORK}")
