# Makes C++ of the examples in README files, so that each is compiled as it stands: every block fenced as ```cpp that is no whole
# program becomes a function that takes a connected client.
#   cmake -DREADME=README.md[,...] -DHEADERS=coord/a.h,coord/b.h -DOUT=... [-DONLY=REGEX | -DEXCEPT=REGEX] [-DORIGIN=URL] -P ...
# ONLY and EXCEPT choose blocks by their text. String literals that begin with ORIGIN are made to begin with ExampleOrigin(), which
# the test defines: what an example calls by a name of the world is a server of the test's.
cmake_minimum_required(VERSION 3.25)
set(number 0)
set(functions "")
set(table "")
set(names "")
set(begin "\n```cpp\n")
set(end "\n```\n")
# Steps over the first `length` characters of what is left.
macro(skip length)
  string(SUBSTRING "${rest}" 0 ${length} passed)
  string(SUBSTRING "${rest}" ${length} -1 rest)
  string(REGEX REPLACE "[^\n]" "" passed "${passed}")
  string(LENGTH "${passed}" lines)
  math(EXPR line "${line} + ${lines}")
endmacro()
string(REPLACE "," ";" readmes "${README}")
foreach(readme IN LISTS readmes)
  file(READ "${readme}" rest)
  file(RELATIVE_PATH name "${CMAKE_CURRENT_LIST_DIR}/.." "${readme}")
  string(APPEND names " ${name}")
  set(line 1)
  while(TRUE)
    string(FIND "${rest}" "${begin}" at)
    if(at EQUAL -1)
      break()
    endif()
    math(EXPR at "${at} + 8")
    skip(${at})
    string(FIND "${rest}" "${end}" length)
    if(length EQUAL -1)
      message(FATAL_ERROR "${name}, line ${line}: a block that does not end")
    endif()
    string(SUBSTRING "${rest}" 0 ${length} block)
    set(wanted TRUE)
    # A whole program is built and run by install.consumer.
    if(block MATCHES "^#include" OR (ONLY AND NOT block MATCHES "${ONLY}") OR (EXCEPT AND block MATCHES "${EXCEPT}"))
      set(wanted FALSE)
    endif()
    if(wanted)
      math(EXPR number "${number} + 1")
      set(code "${block}")
      if(ORIGIN)
        string(REPLACE "\"${ORIGIN}" "coord::testing::ExampleOrigin() + \"" code "${code}")
      endif()
      string(APPEND functions "void Example${number}([[maybe_unused]] const coord::Client& client) {\n#line ${line} \"${name}\"\n${code}\n}\n\n")
      string(APPEND table "    {${line}, Example${number}, R\"README(${block})README\"},\n")
    endif()
    skip(${length})
  endwhile()
endforeach()
string(REPLACE "," ";" headers "${HEADERS}")
set(includes "")
foreach(header IN LISTS headers)
  string(APPEND includes "#include \"${header}\"\n")
endforeach()
file(WRITE "${OUT}" "// Made of${names} by tests/readme_examples.cmake.
#include <iostream>
${includes}#include \"tests/support/readme_example.h\"

namespace {

${functions}}  // namespace

const std::vector<coord::testing::ReadmeExample>& coord::testing::ReadmeExamples() {
  static const std::vector<ReadmeExample> examples = {
${table}  };
  return examples;
}
")
