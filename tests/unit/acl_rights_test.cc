// README.md's list of rights against what the scripts and the library really send, and the scripts
// against the oldest server that they are for.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/acl_rights.h"

namespace coord::testing {
namespace {

namespace fs = std::filesystem;

// Of a command or a subcommand, as ACL rules name it: "get", "script|load". Each with a file that
// uses it.
using Uses = std::map<std::string, std::string>;

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string Contents(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<fs::path> Sources(const std::string& directory, std::set<std::string> extensions) {
  std::vector<fs::path> paths;
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(COORD_SOURCE_DIR) / directory)) {
    if (extensions.contains(entry.path().extension().string())) paths.push_back(entry.path());
  }
  EXPECT_FALSE(paths.empty()) << directory;
  std::ranges::sort(paths);
  return paths;
}

// One call of a script's, with all that stands in its parentheses.
struct ScriptCall {
  std::string command;
  std::string arguments;
  std::string file;
};

// `text` from behind an opening parenthesis to the one that closes it.
std::string Parenthesised(std::string_view text) {
  int depth = 1;
  std::size_t i = 0;
  for (char quote = 0; i < text.size() && depth > 0; ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '(') {
      ++depth;
    } else if (c == ')') {
      --depth;
    }
  }
  return std::string(text.substr(0, i));
}

// The one choice between two commands: a message goes to a plain channel or to a sharded one.
constexpr std::string_view kMessage = " and 'SPUBLISH' or 'PUBLISH'";

// Scripts name the command as a constant, behind redis.call, redis.pcall or a local of that name.
std::vector<ScriptCall> ScriptCalls() {
  static const std::regex call(R"re(\b(redis\.)?p?call\((['"])([A-Za-z]+)\2)re");
  std::vector<ScriptCall> calls;
  for (const fs::path& path : Sources("lua", {".lua"})) {
    std::istringstream lines(Contents(path));
    std::string text;
    for (std::string line; std::getline(lines, line);) {
      const std::size_t begin = line.find_first_not_of(' ');
      if (begin != line.npos && line.compare(begin, 2, "--") != 0) text += line + '\n';
    }
    if (text.find(kMessage) != text.npos) {
      for (const char* command : {"publish", "spublish"}) {
        calls.push_back({command, "", path.filename().string()});
      }
    }
    for (std::sregex_iterator it(text.begin(), text.end(), call), end; it != end; ++it) {
      const auto behind = static_cast<std::size_t>(it->position() + it->length());
      calls.push_back({Lower((*it)[3].str()), Parenthesised(std::string_view(text).substr(behind)),
                       path.filename().string()});
    }
  }
  return calls;
}

// What C++ sends: the first words of a list in braces, {"SCRIPT", "LOAD", text}, in capitals.
Uses SentBy(const std::string& directory) {
  // Words that look like it. Of the embedded server we are the owner, not a user with rights.
  static const std::set<std::string> others = {"server_error.cc", "server_keeper.cc",
                                               "server_start.cc",
                                               // A table of commands that are never sent.
                                               "request_route.cc"};
  static const std::regex list(R"re(\{\s*"([A-Z]{2,})"(?:,\s*"([A-Z]+)")?)re");
  static const std::set<std::string> with_subcommand = {"SCRIPT", "CLIENT", "CLUSTER", "COMMAND",
                                                        "CONFIG"};
  Uses uses;
  for (const fs::path& path : Sources(directory, {".cc", ".h"})) {
    const std::string name = path.filename().string();
    // The demo and `coord dev` own their servers.
    if (others.contains(name) || name.starts_with("demo") ||
        path.parent_path().filename() == "dev") {
      continue;
    }
    const std::string text = Contents(path);
    for (std::sregex_iterator it(text.begin(), text.end(), list), end; it != end; ++it) {
      std::string command = (*it)[1].str();
      if (with_subcommand.contains(command)) command += "|" + (*it)[2].str();
      uses.emplace(Lower(command), name);
    }
  }
  return uses;
}

// The commands that rules allow, without the plus.
std::set<std::string> Allowed() {
  std::set<std::string> allowed;
  for (const std::string& rule : AclRules()) {
    if (rule[0] == '+') allowed.insert(rule.substr(1));
  }
  return allowed;
}

// Sent otherwise than as a list in braces: by the class Request, or with a subcommand that varies.
const std::set<std::string>& SentOtherwise() {
  static const std::set<std::string> commands = {"evalsha", "eval", "asking", "command|getkeys"};
  return commands;
}

TEST(AclRightsTest, ReadmeListsWhatTheScriptsCall) {
  const std::set<std::string> allowed = Allowed();
  const std::vector<ScriptCall> calls = ScriptCalls();
  ASSERT_GT(calls.size(), 300u);
  for (const ScriptCall& call : calls) {
    EXPECT_TRUE(allowed.contains(call.command)) << call.command << " in " << call.file;
  }
}

TEST(AclRightsTest, ScriptsNameTheirCommandsAsConstants) {
  static const std::regex any(R"re(\bredis\.p?call\(\s*([^'"\s][^\n]*))re");
  for (const fs::path& path : Sources("lua", {".lua"})) {
    const std::string text = Contents(path);
    for (std::sregex_iterator it(text.begin(), text.end(), any), end; it != end; ++it) {
      const std::string named = (*it)[1].str();
      const bool message = named.find(kMessage) != named.npos ||
                           (named.starts_with("publish,") && text.find(kMessage) != text.npos);
      EXPECT_TRUE(message) << path << ": " << it->str();
    }
  }
}

TEST(AclRightsTest, ReadmeListsWhatTheLibraryAndItsProgramSend) {
  const std::set<std::string> allowed = Allowed();
  // Everybody may AUTH; the doctor says what it was not allowed to ask; Sentinels have users of
  // their own; NAME is a table's heading, PREFIX an argument of CLIENT TRACKING.
  const std::set<std::string> unlisted = {"auth",     "config|get", "cluster|info", "pubsub",
                                          "sentinel", "name",       "prefix"};
  Uses uses = SentBy("coord");
  EXPECT_GE(uses.size(), 10u);
  uses.merge(SentBy("cache"));
  uses.merge(SentBy("tools"));
  for (const auto& [command, file] : uses) {
    EXPECT_TRUE(allowed.contains(command) || unlisted.contains(command))
        << command << " in " << file;
  }
}

TEST(AclRightsTest, ReadmeListsNothingThatIsNotUsed) {
  std::set<std::string> used = SentOtherwise();
  for (const char* directory : {"coord", "cache"}) {
    for (const auto& [command, file] : SentBy(directory)) used.insert(command);
  }
  for (const ScriptCall& call : ScriptCalls()) used.insert(call.command);
  for (const std::string& command : Allowed()) {
    EXPECT_TRUE(used.contains(command)) << command;
  }
}

TEST(AclRightsTest, ReadmeGivesKeysAndChannelsOfThePrefixAloneAndNothingElse) {
  const std::vector<std::string> rules = AclRules();
  ASSERT_GE(rules.size(), 4u);
  EXPECT_EQ(std::vector<std::string>(rules.begin(), rules.begin() + 4),
            (std::vector<std::string>{"~coord:*", "resetchannels", "&coord:*", "-@all"}));
  std::set<std::string> seen;
  for (std::size_t i = 4; i < rules.size(); ++i) {
    EXPECT_EQ(rules[i][0], '+') << rules[i];
    EXPECT_EQ(rules[i].find('@'), std::string::npos) << rules[i];
    EXPECT_TRUE(seen.insert(rules[i]).second) << rules[i] << " twice";
  }
}

// Commands that scripts may call: all of them, in the forms below, are in Redis 6.2. SPUBLISH is
// newer, and called only for a channel that a client of a newer server named.
const std::map<std::string, std::string>& SinceVersion() {
  static const std::map<std::string, std::string> since = {
      {"del", "1.0"},    {"exists", "1.0"},        {"get", "1.0"},      {"hget", "2.0"},
      {"hmget", "2.0"},  {"hset", "4.0"},          {"incrby", "1.0"},   {"info", "1.0"},
      {"lindex", "1.0"}, {"linsert", "2.2"},       {"llen", "1.0"},     {"lpop", "1.0"},
      {"lpos", "6.0.6"}, {"lpush", "2.4"},         {"lrange", "1.0"},   {"lrem", "1.0"},
      {"lset", "1.0"},   {"ltrim", "1.0"},         {"mget", "1.0"},     {"pexpire", "2.6"},
      {"pttl", "2.8"},   {"publish", "2.0"},       {"rename", "1.0"},   {"rpush", "2.4"},
      {"set", "6.2"},    {"setrange", "2.2"},      {"spublish", "7.0"}, {"strlen", "2.2"},
      {"time", "2.6"},   {"zadd", "3.0"},          {"zcard", "1.2"},    {"zcount", "2.0"},
      {"zrange", "2.0"}, {"zrangebyscore", "2.2"}, {"zrem", "2.4"},     {"zremrangebyscore", "1.2"},
      {"zscore", "1.2"}};
  return since;
}

TEST(AclRightsTest, ScriptsCallNothingThatRedis62DoesNotKnow) {
  for (const ScriptCall& call : ScriptCalls()) {
    EXPECT_TRUE(SinceVersion().contains(call.command))
        << call.command << " in " << call.file << ": is it in Redis 6.2?";
  }
}

TEST(AclRightsTest, ScriptsGiveNoOptionThatRedis62DoesNotKnow) {
  // The words in quotes that each command may have; what came after 6.2 is left out: of PEXPIRE
  // NX, XX, GT and LT, and of SET the pair of NX and GET.
  const std::map<std::string, std::set<std::string>> options = {
      {"set", {"NX", "XX", "EX", "PX", "EXAT", "PXAT", "KEEPTTL", "GET"}},
      {"zadd", {"NX", "XX", "GT", "LT", "CH", "INCR"}},
      {"zrange", {"WITHSCORES", "BYSCORE", "BYLEX", "REV", "LIMIT"}},
      {"zrangebyscore", {"WITHSCORES", "LIMIT"}},
      {"linsert", {"BEFORE", "AFTER"}},
      {"lpos", {"RANK", "COUNT", "MAXLEN"}}};
  static const std::regex word(R"re(['"]([A-Z]{2,})['"])re");
  for (const ScriptCall& call : ScriptCalls()) {
    std::set<std::string> given;
    for (std::sregex_iterator it(call.arguments.begin(), call.arguments.end(), word), end;
         it != end; ++it) {
      given.insert((*it)[1].str());
    }
    const auto known = options.find(call.command);
    for (const std::string& option : given) {
      EXPECT_TRUE(known != options.end() && known->second.contains(option))
          << call.command << " " << option << " in " << call.file;
    }
    if (call.command == "set") {
      EXPECT_FALSE(given.contains("NX") && given.contains("GET")) << call.file;
    }
  }
}

TEST(AclRightsTest, ScriptsUseOnlyWhatRedis62GivesThem) {
  // Of the table `redis`; acl_check_cmd, REDIS_VERSION and functions came with 7.0.
  const std::set<std::string> given = {"call", "pcall", "error_reply", "status_reply", "sha1hex"};
  static const std::regex member(R"re(\bredis\.([A-Za-z_]+))re");
  for (const fs::path& path : Sources("lua", {".lua"})) {
    const std::string text = Contents(path);
    EXPECT_FALSE(text.starts_with("#!")) << path;
    for (std::sregex_iterator it(text.begin(), text.end(), member), end; it != end; ++it) {
      EXPECT_TRUE(given.contains((*it)[1].str())) << it->str() << " in " << path;
    }
  }
}

}  // namespace
}  // namespace coord::testing
