# Turns lua/*.lua into typed handles: cmake -DOUTPUT_DIR=... -DSCRIPTS="a.lua|b.lua" -P embed_scripts.cmake
#
# A line "-- include part" in a script stands for the text of lua/include/part.lua.
#
# Writes OUTPUT_DIR/scripts.h and scripts.cc. Fails, naming the file and what is wrong, when a header lacks a line, when its
# KEYS and ARGV are not numbered from 1 without a gap, when the body uses a KEYS[n] or ARGV[n] that the header does not declare, or when
# the script is too long for a handshake.
cmake_minimum_required(VERSION 3.25)
string(REPLACE "|" ";" SCRIPTS "${SCRIPTS}")
set(declarations "")
set(definitions "")
set(entries "")

# Sets ${what}_COUNT to the C++ expression for how many `what` the header declares: 2, or AtLeast(2).
function(count_declared what header body where)
  string(REGEX MATCHALL "\n-- ${what}[^\n]*" lines "${header}")
  set(count 0)
  set(variadic FALSE)
  foreach(line IN LISTS lines)
    string(STRIP "${line}" line)
    math(EXPR next "${count} + 1")
    if(variadic)
      message(FATAL_ERROR "${where}: '${line}' comes after a variadic ${what} line")
    elseif(line MATCHES "^-- ${what}<${next}>  +[^ ]")
      set(count ${next})
    elseif(line MATCHES "^-- ${what}<${next}[.][.]n?>  +[^ ]" OR line MATCHES "^-- ${what}<1[.][.]n>  +[^ ]")
      set(variadic TRUE)
    else()
      message(FATAL_ERROR "${where}: cannot use '${line}' (brackets shown as <>); next is '-- ${what}<${next}>  what it is'")
    endif()
  endforeach()
  string(REGEX MATCHALL "${what}<[0-9]+>" uses "${body}")
  foreach(use IN LISTS uses)
    string(REGEX MATCH "[0-9]+" number "${use}")
    if(number GREATER count AND NOT variadic)
      message(FATAL_ERROR "${where}: the body uses ${what}[${number}], the header declares ${count}")
    endif()
  endforeach()
  if(NOT body MATCHES "${what}" AND lines)
    message(FATAL_ERROR "${where}: the header declares ${what}, the body uses none")
  endif()
  if(variadic)
    set(${what}_COUNT "AtLeast(${count})" PARENT_SCOPE)
  else()
    set(${what}_COUNT "${count}" PARENT_SCOPE)
  endif()
endfunction()

foreach(path IN LISTS SCRIPTS)
  get_filename_component(name "${path}" NAME_WE)
  set(where "lua/${name}.lua")
  file(READ "${path}" text)
  if(NOT name MATCHES "^[a-z]+(_[a-z]+)+$")
    message(FATAL_ERROR "${where}: a script is named <object>_<verb>.lua")
  endif()
  string(FIND "${text}" ")lua\"" clash)
  if(NOT clash EQUAL -1)
    message(FATAL_ERROR "${where}: contains )lua\", the end mark of the raw string it becomes")
  endif()
  # Semicolons and square brackets mean something to CMake's lists, so the checks read a copy without them.
  string(REPLACE ";" "," plain "${text}")
  string(REPLACE "[" "<" plain "${plain}")
  string(REPLACE "]" ">" plain "${plain}")
  if(NOT plain MATCHES "^-- ${name}: [^\n]+")
    message(FATAL_ERROR "${where}: must open with '-- ${name}: what it does.'")
  endif()
  string(REGEX MATCH "^(--[^\n]*\n)+" header "${plain}")
  string(LENGTH "${header}" header_length)
  string(SUBSTRING "${plain}" ${header_length} -1 body)
  if(NOT body MATCHES "[^ \n]")
    message(FATAL_ERROR "${where}: no script after the header")
  endif()
  if(NOT header MATCHES "\n-- Returns  +[^ ]")
    message(FATAL_ERROR "${where}: the header has no '-- Returns  ...' line")
  endif()
  if(NOT header MATCHES "\n-- Retry  +(safe|unsafe): ")
    message(FATAL_ERROR "${where}: the header has no '-- Retry    safe: why' or '-- Retry    unsafe: why' line")
  endif()
  if(CMAKE_MATCH_1 STREQUAL "safe")
    set(retry true)
  else()
    set(retry false)
  endif()
  count_declared(KEYS "${header}" "${body}" "${where}")
  count_declared(ARGV "${header}" "${body}" "${where}")
  if(NOT header MATCHES "\n-- KEYS<")
    message(FATAL_ERROR "${where}: the header declares no KEYS; every script says which keys it touches")
  endif()

  # What goes to the server has no comments and no indentation, but the same line numbers, which its error messages name: an included part stands on one
  # line.
  set(sent "${text}")
  while(sent MATCHES "\n[ \t]*-- include ([a-z_]+)\n")
    set(line "${CMAKE_MATCH_0}")
    get_filename_component(folder "${path}" DIRECTORY)
    set(part_path "${folder}/include/${CMAKE_MATCH_1}.lua")
    if(NOT EXISTS "${part_path}")
      message(FATAL_ERROR "${where}: there is no lua/include/${CMAKE_MATCH_1}.lua to include")
    endif()
    file(READ "${part_path}" part)
    string(REGEX REPLACE "\n[ \t]*--[^\n]*" "\n" part "\n${part}")
    string(REGEX REPLACE "[ \t]*\n[ \t\n]*" " " part "${part}")
    string(REPLACE "${line}" "\n${part}\n" sent "${sent}")
  endwhile()
  string(REGEX REPLACE "\n[ \t]*--[^\n]*" "\n" sent "\n${sent}")
  string(REGEX REPLACE "\n[ \t]+" "\n" sent "${sent}")
  string(SUBSTRING "${sent}" 1 -1 sent)
  string(SHA1 sha1 "${sent}")
  string(LENGTH "${sent}" sent_length)
  if(sent_length GREATER 16384)
    message(FATAL_ERROR "${where}: ${sent_length} bytes without comments; the most is 16384: a server takes no longer string from a client that is not signed in, and scripts follow a password in the same batch, also a wrong one")
  endif()

  string(REPLACE "_" ";" words "${name}")
  set(handle "k")
  foreach(word IN LISTS words)
    string(SUBSTRING "${word}" 0 1 first)
    string(SUBSTRING "${word}" 1 -1 rest)
    string(TOUPPER "${first}" first)
    string(APPEND handle "${first}${rest}")
  endforeach()
  string(APPEND declarations "extern const Script<${KEYS_COUNT}, ${ARGV_COUNT}> ${handle};\n")
  string(APPEND definitions
    "const Script<${KEYS_COUNT}, ${ARGV_COUNT}> ${handle}{{\"${name}\", R\"lua(${sent})lua\",\n    \"${sha1}\", ${retry}}};\n")
  string(APPEND entries "    &${handle},\n")
endforeach()

set(header_text "// Made by the build from lua/*.lua.
#ifndef COORD_SCRIPTS_H_
#define COORD_SCRIPTS_H_

#include <span>

#include \"coord/internal/script.h\"

namespace coord::internal {

${declarations}
// All of the above, as a handshake loads them.
std::span<const ScriptText* const> AllScripts();

}  // namespace coord::internal

#endif  // COORD_SCRIPTS_H_
")
set(source_text "// Made by the build from lua/*.lua.
#include \"scripts.h\"

namespace coord::internal {

${definitions}
namespace {
constexpr const ScriptText* kAll[] = {
${entries}};
}  // namespace

std::span<const ScriptText* const> AllScripts() { return kAll; }

}  // namespace coord::internal
")
file(CONFIGURE OUTPUT "${OUTPUT_DIR}/scripts.h" CONTENT "@header_text@" @ONLY)
file(CONFIGURE OUTPUT "${OUTPUT_DIR}/scripts.cc" CONTENT "@source_text@" @ONLY)
