#include "tests/support/simulated_redis.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <unordered_map>
#include <utility>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"

extern "C" {
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
}

namespace coord::testing {
namespace {

using internal::StrCat;
using Kind = Reply::Kind;

// What a real server's scripts may name and ours may not: better no test than one that runs another
// path.
constexpr std::array kNotSimulated = {"bit",
                                      "cmsgpack",
                                      "collectgarbage",
                                      "coroutine",
                                      "encode",
                                      "gcinfo",
                                      "getmetatable",
                                      "load",
                                      "loadstring",
                                      "newproxy",
                                      "os",
                                      "rawequal",
                                      "rawget",
                                      "rawset",
                                      "random",
                                      "randomseed",
                                      "setmetatable",
                                      "struct",
                                      "xpcall",
                                      "log",
                                      "sha1hex",
                                      "set_repl",
                                      "acl_check_cmd",
                                      "setresp",
                                      "replicate_commands",
                                      "breakpoint",
                                      "debug",
                                      "REDIS_VERSION",
                                      "LOG_DEBUG",
                                      "LOG_VERBOSE",
                                      "LOG_NOTICE",
                                      "LOG_WARNING",
                                      "REPL_ALL",
                                      "REPL_NONE",
                                      "REPL_AOF",
                                      "REPL_SLAVE",
                                      "REPL_REPLICA",
                                      "REDIS_VERSION_NUM"};
constexpr std::array kGlobals = {"assert",   "error",    "ipairs", "next",   "pairs",   "select",
                                 "tonumber", "tostring", "type",   "unpack", "_VERSION"};

// Places on the Lua stack that stay for its whole life.
constexpr int kErrorHandler = 1;
constexpr int kGlobalTable = 2;
constexpr int kEnvironment = 3;

std::string_view ToView(lua_State* lua, int index) {
  std::size_t size = 0;
  const char* const text = lua_tolstring(lua, index, &size);
  return {text, size};
}

void Push(lua_State* lua, std::string_view text) { lua_pushlstring(lua, text.data(), text.size()); }

// Lua unwinds with longjmp, so the functions that it calls must own nothing when they raise an
// error.

int RefuseWrite(lua_State* lua) { return luaL_error(lua, "Attempt to modify a readonly table"); }

void EndIfNotSimulated(const char* name) {
  for (const char* const known : kNotSimulated) {
    if (std::strcmp(name, known) == 0) Fatal(StrCat("the simulated Redis has no Lua name ", name));
  }
}

int MissingGlobal(lua_State* lua) {
  const char* const name = lua_tostring(lua, 2);
  EndIfNotSimulated(name != nullptr ? name : "");
  return luaL_error(lua, "Script attempted to access nonexistent global variable '%s'",
                    name != nullptr ? name : "?");
}

// Of cjson: a script that decodes to find something quickly has another way, which gets the same
// answer, and that is what is simulated.
int DecodeNothing(lua_State* lua) { return luaL_error(lua, "cjson.decode is not simulated"); }
int DecodeInvalidNumbers(lua_State* lua) {
  lua_pushboolean(lua, 0);
  return 1;
}

// A field that a library's table does not have.
int MissingField(lua_State* lua) {
  if (lua_type(lua, 2) == LUA_TSTRING) EndIfNotSimulated(lua_tostring(lua, 2));
  lua_pushnil(lua);
  return 1;
}

// pcall, as the server's scripts have it: of an error that a command raised the caller sees the
// text.
int ProtectedCall(lua_State* lua) {
  luaL_checkany(lua, 1);
  const int count = lua_gettop(lua);
  lua_pushboolean(lua, 1);
  lua_insert(lua, 1);
  if (lua_pcall(lua, count - 1, LUA_MULTRET, 0) != 0) {
    lua_remove(lua, 1);
    if (lua_istable(lua, -1)) {
      lua_getfield(lua, -1, "err");
      if (lua_isstring(lua, -1)) lua_replace(lua, -2);
    }
    lua_pushboolean(lua, 0);
    lua_insert(lua, 1);
  }
  return lua_gettop(lua);
}

// Adds to an error where the script was when it happened.
int AddPlace(lua_State* lua) {
  lua_Debug place;
  bool known = lua_getstack(lua, 1, &place) != 0 && lua_getinfo(lua, "nSl", &place) != 0;
  if (known && std::strcmp(place.what, "C") == 0) {
    known = lua_getstack(lua, 2, &place) != 0 && lua_getinfo(lua, "nSl", &place) != 0;
  }
  if (!lua_istable(lua, 1)) {
    lua_newtable(lua);
    const char* text = lua_tostring(lua, 1);
    if (lua_isboolean(lua, 1)) text = lua_toboolean(lua, 1) != 0 ? "true" : "false";
    lua_pushfstring(lua, "ERR %s", text != nullptr ? text : luaL_typename(lua, 1));
    lua_setfield(lua, -2, "err");
    lua_replace(lua, 1);
  }
  if (known) {
    lua_pushstring(lua, place.source);
    lua_setfield(lua, 1, "source");
    lua_pushinteger(lua, place.currentline);
    lua_setfield(lua, 1, "line");
  }
  lua_settop(lua, 1);
  return 1;
}

// Pushes {field = text}.
void PushField(lua_State* lua, const char* field, std::string_view text) {
  lua_newtable(lua);
  Push(lua, text);
  lua_setfield(lua, -2, field);
}

int StatusReply(lua_State* lua) {
  if (lua_gettop(lua) != 1 || lua_type(lua, 1) != LUA_TSTRING) {
    PushField(lua, "err", "ERR wrong number or type of arguments");
    return 1;
  }
  PushField(lua, "ok", ToView(lua, 1));
  return 1;
}

// Pushes an error: a code, "ERR" where there is none, and the text. One word alone is no code.
void PushError(lua_State* lua, std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  PushField(lua, "err",
            text.find(' ') == std::string_view::npos ? StrCat("ERR ", text) : std::string(text));
}

int ErrorReply(lua_State* lua) {
  if (lua_gettop(lua) != 1 || lua_type(lua, 1) != LUA_TSTRING) {
    PushField(lua, "err", "ERR wrong number or type of arguments");
    return 1;
  }
  PushError(lua, ToView(lua, 1));
  return 1;
}

// A command's reply, as a script sees it.
void PushReply(lua_State* lua, const Reply& reply) {
  luaL_checkstack(lua, 4, "a reply nested too deep");
  switch (reply.kind()) {
    case Kind::kNil:
      return lua_pushboolean(lua, 0);
    case Kind::kStatus:
      return PushField(lua, "ok", reply.text());
    case Kind::kError:
      return PushError(lua, reply.text());
    case Kind::kInteger:
      return lua_pushnumber(lua, static_cast<lua_Number>(reply.integer()));
    case Kind::kString:
      return Push(lua, reply.text());
    case Kind::kArray: {
      lua_createtable(lua, static_cast<int>(reply.items().size()), 0);
      int number = 0;
      for (const Reply& item : reply.items()) {
        PushReply(lua, item);
        lua_rawseti(lua, -2, ++number);
      }
      return;
    }
    default:
      Fatal("the simulated Redis has a reply of a kind that RESP2 lacks");
  }
}

Reply Error(std::string text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.pop_back();
  for (char& c : text) c = c == '\r' || c == '\n' ? ' ' : c;
  return Reply::Text(Kind::kError, std::move(text));
}

// Truncated, and what does not fit becomes what a x86-64 processor makes of it.
std::int64_t ToInteger(lua_Number number) {
  constexpr lua_Number kLimit = 9223372036854775808.0;
  if (!(number >= -kLimit && number < kLimit)) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(number);
}

// Pops what a script returned, as the client sees it.
Reply PopReply(lua_State* lua) {
  Reply reply;
  switch (lua_type(lua, -1)) {
    case LUA_TSTRING:
      reply = Reply::Text(Kind::kString, std::string(ToView(lua, -1)));
      break;
    case LUA_TNUMBER:
      reply = Reply::Integer(ToInteger(lua_tonumber(lua, -1)));
      break;
    case LUA_TBOOLEAN:
      if (lua_toboolean(lua, -1) != 0) reply = Reply::Integer(1);
      break;
    case LUA_TTABLE: {
      if (lua_checkstack(lua, 4) == 0) {
        reply = Error("ERR reached lua stack limit");
        break;
      }
      const auto field = [lua](const char* name) {
        lua_pushstring(lua, name);
        lua_rawget(lua, -2);
        return lua_type(lua, -1);
      };
      if (field("err") == LUA_TSTRING) {
        reply = Error(std::string(ToView(lua, -1)));
        lua_pop(lua, 1);
        break;
      }
      lua_pop(lua, 1);
      if (field("ok") == LUA_TSTRING) {
        std::string text(ToView(lua, -1));
        for (char& c : text) c = c == '\r' || c == '\n' ? ' ' : c;
        reply = Reply::Text(Kind::kStatus, std::move(text));
        lua_pop(lua, 1);
        break;
      }
      lua_pop(lua, 1);
      for (const char* const name : {"double", "map", "set", "big_number", "verbatim_string"}) {
        if (field(name) != LUA_TNIL)
          Fatal(StrCat("the simulated Redis returns no table with ", name));
        lua_pop(lua, 1);
      }
      std::vector<Reply> items;
      for (int number = 1;; ++number) {
        lua_rawgeti(lua, -1, number);
        if (lua_isnil(lua, -1)) break;
        items.push_back(PopReply(lua));
      }
      lua_pop(lua, 1);
      reply = Reply::Items(Kind::kArray, std::move(items));
      break;
    }
    default:
      break;  // nil
  }
  lua_pop(lua, 1);
  return reply;
}

int Panic(lua_State* lua) {
  const char* const text = lua_tostring(lua, -1);
  Fatal(StrCat("Lua failed outside a script: ", text != nullptr ? text : "?"));
}

}  // namespace

// One Lua for all scripts, since none can leave anything behind in it: their globals and libraries
// are read-only.
class SimulatedRedis::Lua {
 public:
  explicit Lua(SimulatedStore& store);
  ~Lua() { lua_close(lua_); }
  Lua(const Lua&) = delete;
  Lua& operator=(const Lua&) = delete;

  Reply Run(const internal::ScriptText& script, const std::vector<std::string>& keys,
            const std::vector<std::string>& args);
  std::size_t calls() const { return calls_; }

 private:
  struct Chunk {
    std::string text;
    int reference;  // in Lua's registry
  };
  void AddLibrary(const char* name);
  void SetStrings(const char* name, const std::vector<std::string>& strings);
  const Chunk& Compiled(const internal::ScriptText& script);
  Reply ErrorReplyOf(const internal::ScriptText& script);

  template <bool kRaise>
  static int Call(lua_State* lua) {
    auto* const self = static_cast<Lua*>(lua_touserdata(lua, lua_upvalueindex(1)));
    return self->PushCallOf(lua) && kRaise ? lua_error(lua) : 1;
  }
  // Runs the command on the stack and pushes what it answered; returns whether that is an error.
  bool PushCallOf(lua_State* lua);

  SimulatedStore& store_;
  lua_State* const lua_;
  std::unordered_map<std::string, Chunk> chunks_;  // by SHA1
  std::vector<std::string> command_;               // kept for its memory
  std::size_t calls_ = 0;
};

SimulatedRedis::Lua::Lua(SimulatedStore& store) : store_(store), lua_(luaL_newstate()) {
  if (lua_ == nullptr) Fatal("no memory for Lua");
  lua_atpanic(lua_, Panic);
  constexpr std::array<std::pair<const char*, lua_CFunction>, 4> kLibraries = {{
      {"", luaopen_base},
      {LUA_TABLIBNAME, luaopen_table},
      {LUA_STRLIBNAME, luaopen_string},
      {LUA_MATHLIBNAME, luaopen_math},
  }};
  for (const auto& [name, open] : kLibraries) {
    lua_pushcfunction(lua_, open);
    lua_pushstring(lua_, name);
    lua_call(lua_, 1, 0);
  }
  lua_settop(lua_, 0);

  lua_pushcfunction(lua_, AddPlace);
  lua_newtable(lua_);  // kGlobalTable: what scripts may name
  for (const char* const name : kGlobals) {
    lua_getglobal(lua_, name);
    lua_setfield(lua_, kGlobalTable, name);
  }
  lua_pushcfunction(lua_, ProtectedCall);
  lua_setfield(lua_, kGlobalTable, "pcall");
  for (const char* const name : {LUA_TABLIBNAME, LUA_STRLIBNAME, LUA_MATHLIBNAME}) {
    lua_getglobal(lua_, name);
    if (std::strcmp(name, LUA_MATHLIBNAME) == 0) {
      // The server's own start afresh with each script.
      for (const char* const random : {"random", "randomseed"}) {
        lua_pushnil(lua_);
        lua_setfield(lua_, -2, random);
      }
    }
    AddLibrary(name);
  }
  lua_newtable(lua_);
  for (const bool raise : {false, true}) {
    lua_pushlightuserdata(lua_, this);
    lua_pushcclosure(lua_, raise ? Call<true> : Call<false>, 1);
    lua_setfield(lua_, -2, raise ? "call" : "pcall");
  }
  lua_pushcfunction(lua_, StatusReply);
  lua_setfield(lua_, -2, "status_reply");
  lua_pushcfunction(lua_, ErrorReply);
  lua_setfield(lua_, -2, "error_reply");
  AddLibrary("redis");
  lua_newtable(lua_);
  lua_pushcfunction(lua_, DecodeNothing);
  lua_setfield(lua_, -2, "decode");
  lua_pushcfunction(lua_, DecodeInvalidNumbers);
  lua_setfield(lua_, -2, "decode_invalid_numbers");
  lua_pushcfunction(lua_, DecodeInvalidNumbers);
  lua_setfield(lua_, -2, "decode_max_depth");
  AddLibrary("cjson");

  lua_newtable(lua_);  // of the global table: what is not in it
  lua_pushcfunction(lua_, MissingGlobal);
  lua_setfield(lua_, -2, "__index");
  lua_setmetatable(lua_, kGlobalTable);

  lua_newtable(lua_);  // kEnvironment: stays empty, so that all writes meet the metatable
  lua_newtable(lua_);
  lua_pushvalue(lua_, kGlobalTable);
  lua_setfield(lua_, -2, "__index");
  lua_pushcfunction(lua_, RefuseWrite);
  lua_setfield(lua_, -2, "__newindex");
  lua_setmetatable(lua_, kEnvironment);
  if (lua_gettop(lua_) != kEnvironment) Fatal("Lua's stack is not what it should be");
}

// Puts the table on top of the stack under `name`, behind an empty one that refuses writes.
void SimulatedRedis::Lua::AddLibrary(const char* name) {
  lua_newtable(lua_);
  lua_pushcfunction(lua_, MissingField);
  lua_setfield(lua_, -2, "__index");
  lua_setmetatable(lua_, -2);
  lua_newtable(lua_);
  lua_newtable(lua_);
  lua_pushvalue(lua_, -3);
  lua_setfield(lua_, -2, "__index");
  lua_pushcfunction(lua_, RefuseWrite);
  lua_setfield(lua_, -2, "__newindex");
  lua_setmetatable(lua_, -2);
  lua_setfield(lua_, kGlobalTable, name);
  lua_pop(lua_, 1);
}

void SimulatedRedis::Lua::SetStrings(const char* name, const std::vector<std::string>& strings) {
  lua_pushstring(lua_, name);
  lua_createtable(lua_, static_cast<int>(strings.size()), 0);
  int number = 0;
  for (const std::string& text : strings) {
    Push(lua_, text);
    lua_rawseti(lua_, -2, ++number);
  }
  lua_rawset(lua_, kGlobalTable);
}

const SimulatedRedis::Lua::Chunk& SimulatedRedis::Lua::Compiled(
    const internal::ScriptText& script) {
  const auto [entry, is_new] = chunks_.try_emplace(std::string(script.sha1));
  Chunk& chunk = entry->second;
  if (!is_new) {
    if (chunk.text != script.text) Fatal(StrCat("two scripts with the SHA1 of ", script.name));
    return chunk;
  }
  chunk.text = script.text;
  if (luaL_loadbuffer(lua_, script.text.data(), script.text.size(), "@user_script") != 0) {
    Fatal(StrCat(script.name, " does not compile: ", ToView(lua_, -1)));
  }
  lua_pushvalue(lua_, kEnvironment);
  lua_setfenv(lua_, -2);
  chunk.reference = luaL_ref(lua_, LUA_REGISTRYINDEX);
  return chunk;
}

bool SimulatedRedis::Lua::PushCallOf(lua_State* lua) {
  const int count = lua_gettop(lua);
  if (count == 0) {
    PushError(lua, "ERR Please specify at least one argument for this redis lib call");
    return true;
  }
  command_.resize(static_cast<std::size_t>(count));
  for (int i = 1; i <= count; ++i) {
    std::string& argument = command_[static_cast<std::size_t>(i - 1)];
    if (lua_type(lua, i) == LUA_TNUMBER) {
      std::array<char, 64> digits;
      const int size = std::snprintf(digits.data(), digits.size(), "%.17g", lua_tonumber(lua, i));
      argument.assign(digits.data(), static_cast<std::size_t>(size));
    } else if (lua_type(lua, i) == LUA_TSTRING) {
      argument.assign(ToView(lua, i));
    } else {
      PushError(lua, "ERR Lua redis lib command arguments must be strings or integers");
      return true;
    }
  }
  ++calls_;
  const Reply reply = store_.Run(command_, true);
  PushReply(lua, reply);
  return reply.is_error();
}

// Pops the error with which a script ended.
Reply SimulatedRedis::Lua::ErrorReplyOf(const internal::ScriptText& script) {
  if (!lua_istable(lua_, -1)) Fatal(StrCat(script.name, " failed without saying why"));
  lua_getfield(lua_, -1, "err");
  lua_getfield(lua_, -2, "source");
  lua_getfield(lua_, -3, "line");
  if (lua_isstring(lua_, -3) == 0) Fatal(StrCat(script.name, " raised a table without err"));
  std::string text(ToView(lua_, -3));
  if (lua_isstring(lua_, -2) != 0 && lua_isstring(lua_, -1) != 0) {
    text = StrCat(text, " script: ", script.sha1, ", on ", ToView(lua_, -2), ":", ToView(lua_, -1),
                  ".");
  }
  lua_pop(lua_, 4);
  return Error(std::move(text));
}

Reply SimulatedRedis::Lua::Run(const internal::ScriptText& script,
                               const std::vector<std::string>& keys,
                               const std::vector<std::string>& args) {
  calls_ = 0;
  const Chunk& chunk = Compiled(script);
  SetStrings("KEYS", keys);
  SetStrings("ARGV", args);
  lua_rawgeti(lua_, LUA_REGISTRYINDEX, chunk.reference);
  const bool failed = lua_pcall(lua_, 0, 1, kErrorHandler) != 0;
  Reply reply = failed ? ErrorReplyOf(script) : PopReply(lua_);
  if (lua_gettop(lua_) != kEnvironment) Fatal(StrCat(script.name, " left something on the stack"));
  return reply;
}

SimulatedRedis::SimulatedRedis(std::uint64_t now_us)
    : store_(now_us), lua_(std::make_unique<Lua>(store_)) {
  Restart(Data::kKeep);
}

SimulatedRedis::~SimulatedRedis() = default;

void SimulatedRedis::SetTime(std::uint64_t now_us) { store_.set_now_us(now_us); }

std::uint64_t SimulatedRedis::now_us() const { return store_.now_us(); }

Reply SimulatedRedis::Command(const std::vector<std::string>& args) {
  return store_.Run(args, false);
}

Reply SimulatedRedis::Run(const internal::ScriptText& script, const std::vector<std::string>& keys,
                          const std::vector<std::string>& args) {
  return lua_->Run(script, keys, args);
}

std::vector<Published> SimulatedRedis::TakePublished() {
  return std::exchange(store_.published(), {});
}

void SimulatedRedis::SetReceivers(std::function<std::int64_t(const Published&)> receivers) {
  store_.set_receivers(std::move(receivers));
}

void SimulatedRedis::FlushAll() { store_.Clear(); }

void SimulatedRedis::RemoveExpired() { store_.RemoveExpired(); }

void SimulatedRedis::Restart(Data data) {
  if (data == Data::kDrop) store_.Clear();
  std::array<char, 41> run_id;
  std::snprintf(run_id.data(), run_id.size(), "%040llx",
                static_cast<unsigned long long>(++restarts_));
  store_.set_run_id(run_id.data());
}

std::size_t SimulatedRedis::calls() const { return lua_->calls(); }

std::size_t SimulatedRedis::CommandCalls(std::string_view command) const {
  const auto found = store_.command_calls().find(command);
  return found == store_.command_calls().end() ? 0 : found->second;
}

}  // namespace coord::testing
