// The simulated Redis against a real one, both on the same clock: random sequences of all its
// commands and of all our scripts get the same replies, to the byte. Sequences that failed run
// again with COORD_TEST_SEED.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "coord/internal/strings.h"
#include "coord/script.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/settable_clock.h"
#include "tests/support/simulated_redis.h"

namespace coord::testing {
namespace {

using internal::Quoted;
using internal::StrCat;
using Strings = std::vector<std::string>;

constexpr std::uint64_t kStart = 1'700'000'000'000'000;
constexpr std::size_t kSteps = 40'000;

std::string ToText(const Strings& words) {
  std::string text;
  for (const std::string& word : words) text = StrCat(text, text.empty() ? "" : " ", Quoted(word));
  return text;
}

// A simulated and a real server, of which the same is asked.
class Twins {
 public:
  Twins() : simulated_(kStart) {
    clock_.Set(kStart);
    server_ = clock_.StartServer();
    real_ = std::make_unique<RawRedis>(*server_);
    // Else a key that nobody looks at goes at a moment of the server's choice, and does not come
    // back with the clock.
    EXPECT_EQ(real_->Text({"DEBUG", "SET-ACTIVE-EXPIRE", "0"}), "OK");
    EXPECT_EQ(real_->Command({"TIME"}), simulated_.Command({"TIME"}));
  }

  std::uint64_t now_us() const { return simulated_.now_us(); }
  void SetTime(std::uint64_t now_us) {
    clock_.Set(now_us);
    simulated_.SetTime(now_us);
    Note(StrCat("now ", now_us));
  }

  // Whether both answered the same.
  bool Command(const Strings& args) {
    Note(ToText(args));
    Reply real = real_->Command(args);
    Reply simulated = simulated_.Command(args);
    const std::string name = absl::AsciiStrToUpper(args[0]);
    // A table has no order that means anything.
    if (name == "SMEMBERS") Sort(real, 1), Sort(simulated, 1);
    if (name == "HGETALL") Sort(real, 2), Sort(simulated, 2);
    Count(name, real);
    return Same(real, simulated);
  }
  bool Run(const internal::ScriptText& script, const Strings& keys, const Strings& args) {
    Note(StrCat(script.name, " ", ToText(keys), " | ", ToText(args)));
    Strings command = {"EVALSHA", std::string(script.sha1), std::to_string(keys.size())};
    command.insert(command.end(), keys.begin(), keys.end());
    command.insert(command.end(), args.begin(), args.end());
    Reply real = real_->Command(command);
    if (real.text().starts_with("NOSCRIPT")) {
      command[0] = "EVAL";
      command[1] = std::string(script.text);
      real = real_->Command(command);
    }
    Count(std::string(script.name), real);
    const Reply simulated = simulated_.Run(script, keys, args);
    for (const Published& message : simulated_.TakePublished()) {
      if (message.channel.starts_with("channel of ")) ++woken_by_[std::string(script.name)];
    }
    return Same(real, simulated);
  }

  struct Answers {
    std::size_t good = 0;
    std::size_t errors = 0;
  };
  // How many who waited for a list's items a script has told.
  std::size_t woken_by(const std::string& script) const {
    const auto found = woken_by_.find(script);
    return found == woken_by_.end() ? 0 : found->second;
  }
  // By command and script.
  const std::map<std::string, Answers>& answers() const { return answers_; }

 private:
  // By the first of each `group` of items.
  static void Sort(Reply& reply, std::size_t group) {
    std::vector<Reply>& items = reply.mutable_items();
    std::map<std::string, std::vector<Reply>> sorted;
    for (std::size_t i = 0; i + group <= items.size(); i += group) {
      const std::string first = items[i].text();
      for (std::size_t j = i; j < i + group; ++j) sorted[first].push_back(std::move(items[j]));
    }
    items.clear();
    for (auto& [first, whole] : sorted) {
      for (Reply& item : whole) items.push_back(std::move(item));
    }
  }
  void Note(std::string what) {
    history_.push_back(std::move(what));
    if (history_.size() > 40) history_.pop_front();
  }
  void Count(const std::string& what, const Reply& real) {
    ++(real.is_error() ? answers_[what].errors : answers_[what].good);
  }
  bool Same(const Reply& real, const Reply& simulated) {
    if (real == simulated) return true;
    std::string before;
    for (const std::string& step : history_) before = StrCat(before, "  ", step, "\n");
    ADD_FAILURE() << "real:      " << real.ToDebugString(2000)
                  << "\nsimulated: " << simulated.ToDebugString(2000)
                  << "\nafter, the last being it:\n"
                  << before;
    return false;
  }

  SettableClock clock_;
  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<RawRedis> real_;
  SimulatedRedis simulated_;
  std::deque<std::string> history_;
  std::map<std::string, Answers> answers_;
  std::map<std::string, std::size_t> woken_by_;
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::int64_t Between(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(engine_);
  }
  bool OneIn(std::int64_t n) { return Between(1, n) == 1; }
  template <typename Container>
  const auto& Pick(const Container& from) {
    return from[static_cast<std::size_t>(
        Between(0, static_cast<std::int64_t>(std::size(from)) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

const Strings kKeys = {"a",   "b",    "c",        "d",        "e",     "list", "hash",
                       "set", "zset", "{m}lease", "{m}fence", "count", "doc",  "rate"};
// Of scripts whose keys are their own, so that others seldom make something else of them.
const Strings kScriptKeys = {"{p}list",   "{p}seq",   "{p}times", "{p}followers",
                             "{i}list",   "{i}seq",   "{i}times", "{i}followers",
                             "{o}recent", "{o}older", "rate1",    "rate2"};
// Read as integers, scores, bounds: right ones and all that comes near.
const Strings kOddValues = {"",
                            "0",
                            "-0",
                            "007",
                            "+5",
                            " 5",
                            "5 ",
                            "1e3",
                            "0x10",
                            "abc",
                            "nan",
                            "inf",
                            "-inf",
                            "+inf",
                            "(3",
                            "(-inf",
                            "3.5",
                            "-1.25",
                            "1e400",
                            "0.1",
                            "-",
                            "9223372036854775807",
                            "9223372036854775808",
                            "-9223372036854775808",
                            "9007199254740993",
                            "536870912",
                            "*",
                            "$1\r\n"};

// One random command or script after another.
class Steps {
 public:
  explicit Steps(std::uint64_t seed) : random_(seed) {}

  bool Next(Twins& twins) {
    const std::int64_t dice = random_.Between(1, 100);
    if (dice <= 25) MoveClock(twins);
    if (dice % 3 == 0) return RunScript(twins);
    return twins.Command(AnyCommand());
  }

  // Says all about every key.
  static bool CompareAll(Twins& twins) {
    bool same = twins.Command({"DBSIZE"});
    Strings keys = kKeys;
    keys.insert(keys.end(), kScriptKeys.begin(), kScriptKeys.end());
    for (const std::string& key : keys) {
      for (const char* const read : {"TYPE", "PTTL", "PEXPIRETIME", "GET", "HGETALL", "SMEMBERS"}) {
        same = twins.Command({read, key}) && same;
      }
      same = twins.Command({"LRANGE", key, "0", "-1"}) && same;
      same = twins.Command({"ZRANGE", key, "0", "-1", "WITHSCORES"}) && same;
    }
    return same;
  }

  static bool RunsWithAnything(const std::string& name) {
    const auto all = internal::AllScripts();
    return !Calls().contains(name) && std::any_of(all.begin(), all.end(), [&](const auto* script) {
      return script->name == name;
    });
  }

 private:
  void MoveClock(Twins& twins) {
    std::int64_t us = random_.Between(0, 20) * 1000;  // often the very millisecond of an expiry
    if (random_.OneIn(3)) us = random_.Between(0, 300'000);
    if (random_.OneIn(8)) us = random_.Between(0, 8'000'000);
    if (random_.OneIn(10)) us = -us;
    twins.SetTime(twins.now_us() + static_cast<std::uint64_t>(us));
    now_ms_ = static_cast<std::int64_t>(twins.now_us() / 1000);
  }

  std::string Key() { return random_.Pick(kKeys); }
  std::string Small() { return std::to_string(random_.Between(-4, 6)); }
  std::string Integer() { return random_.OneIn(15) ? random_.Pick(kOddValues) : Small(); }
  std::string Value() {
    if (random_.OneIn(4)) return random_.Pick(kOddValues);
    if (random_.OneIn(2)) return Small();
    return std::string(static_cast<std::size_t>(random_.Between(0, 12)),
                       "xyz"[random_.Between(0, 2)]);
  }
  std::string Member() { return std::string(1, "pqrstu"[random_.Between(0, 5)]); }
  std::string Score() {
    if (random_.OneIn(10)) return random_.Pick(kOddValues);
    return std::to_string(random_.Between(-6, 6)) + (random_.OneIn(3) ? ".25" : "");
  }
  std::string Bound() { return (random_.OneIn(3) ? "(" : "") + Score(); }
  std::string Milliseconds() {
    return random_.OneIn(15) ? random_.Pick(kOddValues) : std::to_string(random_.Between(-1, 60));
  }
  std::string Seconds() {
    return random_.OneIn(15) ? random_.Pick(kOddValues) : std::to_string(random_.Between(-1, 5));
  }
  std::string Cased(std::string word) {
    if (random_.OneIn(4)) {
      for (char& c : word) c = static_cast<char>(c | 0x20);
    }
    return word;
  }

  // What one letter of a pattern stands for.
  std::string Word(char letter) {
    switch (letter) {
      case 'k':
        return random_.OneIn(2) ? Key() : usual_key_;
      case 'v':
        return Value();
      case 'i':
        return Integer();
      case 'r': {
        // A real server computes -LONG_MIN here; the simulated one refuses to guess.
        const std::string rank = Integer();
        return rank == "-9223372036854775808" ? "-1" : rank;
      }
      case 'm':
        return Member();
      case 's':
        return Score();
      case 'b':
        return Bound();
      case 'p':
        return Milliseconds();
      case 'P':
        return random_.OneIn(15) ? Milliseconds()
                                 : std::to_string(now_ms_ + random_.Between(-10, 60));
      case 't':
        return Seconds();
      case 'T':
        return std::to_string(now_ms_ / 1000 + random_.Between(-1, 5));
      case 'w':
        return random_.OneIn(10) ? "here" : random_.OneIn(2) ? "BEFORE" : "after";
      default:
        Fatal(StrCat("no such letter: ", static_cast<int>(letter)));
    }
  }

  struct Pattern {
    std::string_view name;
    std::string_view words;      // a letter each
    std::string_view more = "";  // once or up to three times behind
    std::vector<std::string_view> options =
        {};  // up to three of them: "PX p" is the word and then a letter
  };

  static const std::vector<Pattern>& Patterns() {
    static const std::vector<std::string_view> kExpire = {"NX", "XX", "GT", "LT"};
    static const auto* const patterns = new std::vector<Pattern>{
        {"GET", "k"},
        {"SET",
         "kv",
         "",
         {"NX", "XX", "GET", "KEEPTTL", "EX t", "PX p", "PX p", "EXAT T", "PXAT P", "BAD"}},
        {"SET", "kv", "", {"PX p"}},
        {"DEL", "", "k"},
        {"UNLINK", "", "k"},
        {"EXISTS", "", "k"},
        {"MGET", "", "k"},
        {"TYPE", "k"},
        {"EXPIRE", "kt", "", kExpire},
        {"PEXPIRE", "kp", "", kExpire},
        {"PEXPIRE", "kp", "", {"SOON"}},
        {"EXPIREAT", "kT", "", kExpire},
        {"PEXPIREAT", "kP", "", kExpire},
        {"TTL", "k"},
        {"PTTL", "k"},
        {"EXPIRETIME", "k"},
        {"PEXPIRETIME", "k"},
        {"PERSIST", "k"},
        {"RENAME", "kk"},
        {"TIME", ""},
        {"PUBLISH", "kv"},
        {"SPUBLISH", "kv"},
        {"PING", "", "", {"hello"}},
        {"ECHO", "v"},
        {"DBSIZE", ""},
        {"INCR", "k"},
        {"DECR", "k"},
        {"INCRBY", "ki"},
        {"INCRBY", "kv"},
        {"DECRBY", "kv"},
        {"STRLEN", "k"},
        {"GETRANGE", "kii"},
        {"SETRANGE", "kiv"},
        {"APPEND", "kv"},
        {"GETDEL", "k"},
        {"GETEX", "k", "", {"PERSIST", "EX t", "PX p", "EXAT T", "PXAT P", "NX"}},
        {"LPUSH", "k", "m"},
        {"RPUSH", "k", "m"},
        {"LPOP", "k"},
        {"RPOP", "k"},
        {"LPOP", "ki"},
        {"RPOP", "ki"},
        {"LLEN", "k"},
        {"LRANGE", "kii"},
        {"LTRIM", "kii"},
        {"LINDEX", "ki"},
        {"LSET", "kim"},
        {"LINSERT", "kwmm"},
        {"LREM", "kim"},
        {"LPOS", "km", "", {"RANK r", "COUNT i", "MAXLEN i", "BAD i", "RANK"}},
        {"HSET", "k", "mv"},
        {"HSET", "kmvm"},
        {"HSETNX", "kmv"},
        {"HGET", "km"},
        {"HMGET", "k", "m"},
        {"HDEL", "k", "m"},
        {"HLEN", "k"},
        {"HEXISTS", "km"},
        {"HGETALL", "k"},
        {"HINCRBY", "kmi"},
        {"HINCRBY", "kmv"},
        {"SADD", "k", "m"},
        {"SREM", "k", "m"},
        {"SMEMBERS", "k"},
        {"SCARD", "k"},
        {"SISMEMBER", "km"},
        {"ZADD", "k", "sm"},
        {"ZADD", "kNsm", "sm"},
        {"ZREM", "k", "m"},
        {"ZSCORE", "km"},
        {"ZCARD", "k"},
        {"ZCOUNT", "kbb"},
        {"ZRANGE", "kii", "", {"WITHSCORES", "REV", "LIMIT i i", "BAD"}},
        {"ZRANGE", "kbb", "", {"WITHSCORES", "REV", "LIMIT i i", "BYSCORE", "BYSCORE", "BYSCORE"}},
        {"ZRANGEBYSCORE", "kbb", "", {"WITHSCORES", "LIMIT i i", "REV"}},
        {"ZREMRANGEBYSCORE", "kbb"},
        {"ZREMRANGEBYRANK", "kii"},
        {"ZPOPMIN", "k"},
        {"ZPOPMIN", "ki"},
        {"ZRANK", "km"},
    };
    return *patterns;
  }

  // Where a command often finds its own type, and often enough another.
  static std::string UsualKey(std::string_view command) {
    static const std::map<std::string_view, std::string> kUsual = {
        {"RPUSH", "list"}, {"RPOP", "list"},    {"SADD", "set"},      {"SREM", "set"},
        {"SCARD", "set"},  {"SMEMBERS", "set"}, {"SISMEMBER", "set"},
    };
    const auto usual = kUsual.find(command);
    if (usual != kUsual.end()) return usual->second;
    return command[0] == 'L'   ? "list"
           : command[0] == 'H' ? "hash"
           : command[0] == 'Z' ? "zset"
                               : "a";
  }

  Strings AnyCommand() {
    if (random_.OneIn(2000)) return {"FLUSHALL"};
    const Pattern& pattern = random_.Pick(Patterns());
    usual_key_ = UsualKey(pattern.name);
    Strings args = {Cased(std::string(pattern.name))};
    if (args[0] == "smembers") args[0] = "SMEMBERS";
    for (const char letter : pattern.words) {
      if (letter != 'N') {
        args.push_back(Word(letter));
        continue;
      }
      static const Strings kZAdd = {"NX", "XX", "GT", "LT", "CH"};
      for (std::int64_t n = random_.Between(1, 3); n > 0; --n)
        args.push_back(Cased(random_.Pick(kZAdd)));
    }
    if (!pattern.more.empty()) {
      for (std::int64_t n = random_.Between(1, 3); n > 0; --n) {
        for (const char letter : pattern.more) args.push_back(Word(letter));
      }
    }
    if (!pattern.options.empty()) {
      for (std::int64_t n = std::max<std::int64_t>(random_.Between(-1, 3), 0); n > 0; --n) {
        const std::string_view option = random_.Pick(pattern.options);
        const std::size_t space = option.find(' ');
        args.push_back(Cased(std::string(option.substr(0, space))));
        for (std::size_t i = space; i < option.size(); i += 2) args.push_back(Word(option[i + 1]));
      }
    }
    if (random_.OneIn(100)) args.pop_back();
    if (args.empty()) args = {"PING"};
    if (random_.OneIn(100)) args.push_back(Value());
    return args;
  }

  std::string Owner() { return std::string(3, "ABC"[random_.Between(0, 2)]); }
  std::string LeaseMilliseconds() { return std::to_string(random_.Between(1, 400)); }
  // Rarely another key, which may hold anything.
  std::string KeyOf(std::string usual) { return random_.OneIn(12) ? Key() : usual; }

  bool RunScript(Twins& twins) {
    const internal::ScriptText& script = *random_.Pick(internal::AllScripts());
    // These two ask who the server is and how it is set up, which the simulation has no answer to.
    if (script.name == "quorum_birth" || script.name == "quorum_declare") return true;
    const auto known = Calls().find(script.name);
    // A script that has no line below is called with anything, which at least runs it.
    if (known == Calls().end() || random_.OneIn(20)) return RunWithAnything(twins, script);
    Strings keys, args;
    (this->*known->second)(keys, args);
    return twins.Run(script, keys, args);
  }

  // No great number: a script that takes it for a count would run for ever, on both sides.
  std::string Anything() {
    const std::string value = Value();
    const double number = std::strtod(value.c_str(), nullptr);
    return number > -1000 && number < 1000 ? value : Small();
  }
  bool RunWithAnything(Twins& twins, const internal::ScriptText& script) {
    const auto greatest = [&script](std::string_view name) {
      std::int64_t count = 0;
      for (std::int64_t n = 1; n <= 16; ++n) {
        if (script.text.find(StrCat(name, "[", n, "]")) != std::string_view::npos) count = n;
      }
      return count;
    };
    Strings keys, args;
    for (std::int64_t n = greatest("KEYS"); n > 0; --n) keys.push_back(Key());
    for (std::int64_t n = greatest("ARGV") + random_.Between(0, 2); n > 0; --n)
      args.push_back(Anything());
    return twins.Run(script, keys, args);
  }

  using Call = void (Steps::*)(Strings& keys, Strings& args);
  static const std::map<std::string_view, Call>& Calls() {
    static const auto* const calls = new std::map<std::string_view, Call>{
        {"counter_add", &Steps::CounterAdd},
        {"counter_reset", &Steps::CounterReset},
        {"counter_set", &Steps::CounterSet},
        {"json_cas", &Steps::JsonCas},
        {"json_change", &Steps::JsonChange},
        {"json_set", &Steps::JsonSet},
        {"limiter_reset", &Steps::LimiterReset},
        {"limiter_take", &Steps::LimiterTake},
        {"limiter_take_all_gcra", &Steps::LimiterTakeAllGcra},
        {"list_add", &Steps::PlainList},
        {"list_append", &Steps::ListAppend},
        {"list_fill", &Steps::PlainList},
        {"list_push", &Steps::ListPush},
        {"list_read", &Steps::ListRead},
        {"mutex_acquire", &Steps::Acquire<'w', 't', 'b', 'T'>},
        {"mutex_evict", &Steps::MutexEvict},
        {"mutex_inspect", &Steps::MutexEvict},
        {"mutex_release", &Steps::OfLock<4>},
        {"mutex_renew", &Steps::OfLock<2>},
        {"mutex_withdraw", &Steps::OfLock<4>},
        {"rw_mutex_downgrade", &Steps::OfLock<4>},
        {"rw_mutex_renew", &Steps::OfLock<3>},
        {"rw_mutex_share", &Steps::Acquire<'r'>},
        {"rw_mutex_unshare", &Steps::OfLock<4>},
        {"rw_mutex_upgrade", &Steps::OfLock<3>},
        {"semaphore_acquire", &Steps::SemaphoreAcquire},
        {"latch_count", &Steps::LatchCount},
        {"latch_wait", &Steps::LatchWait},
    };
    return *calls;
  }

  std::string Amount() {
    static const Strings kGreat = {"9223372036854775807", "-9223372036854775808",
                                   "4611686018427387904", "-9007199254740993"};
    return random_.OneIn(3) ? random_.Pick(kGreat) : std::to_string(random_.Between(-30, 30));
  }
  void CounterAdd(Strings& keys, Strings& args) {
    keys = {KeyOf("count")};
    args = {Amount(),
            random_.OneIn(2) ? "" : std::to_string(random_.Between(-60, 0)),
            random_.OneIn(2) ? "" : std::to_string(random_.Between(0, 60)),
            random_.OneIn(2) ? "reject" : "saturate",
            random_.OneIn(2) ? "" : LeaseMilliseconds(),
            random_.OneIn(2) ? "create" : "refresh"};
  }
  void CounterReset(Strings& keys, Strings&) { keys = {KeyOf("count")}; }
  void CounterSet(Strings& keys, Strings& args) {
    keys = {KeyOf("count")};
    args = {Amount(), random_.OneIn(2) ? "" : LeaseMilliseconds()};
  }
  std::string Document() {
    static const Strings kDocuments = {R"({"a":1,"b":[1,2,{"c":"x"}],"a/b":null})",
                                       R"({"a":"y", "b": []})",
                                       R"({"a":1.0e2,"b":{"c":-0.5,"d":"\u00e9\n"}})",
                                       "[1,2,3]",
                                       "7",
                                       "{\"a\":1,\"a\":2}",
                                       "{\"a\":01}",
                                       "{\"a\":"};
    return random_.Pick(kDocuments);
  }
  void JsonSet(Strings& keys, Strings& args) {
    keys = {KeyOf("doc")};
    args = {Document(), random_.OneIn(2) ? "0" : LeaseMilliseconds()};
  }
  void JsonCas(Strings& keys, Strings& args) {
    static const Strings kPaths = {"",     "/a",   "/b",    "/b/0", "/b/2/c",
                                   "/b/c", "/b/-", "/a~1b", "/new"};
    static const Strings kValues = {"1",  "100",  "\"x\"",        "\"y\"",
                                    "[]", "null", "{\"c\":-0.5}", "3"};
    keys = {KeyOf("doc")};
    const std::int64_t tests = random_.Between(0, 2);
    args = {std::to_string(tests)};
    for (std::int64_t n = tests; n > 0; --n) {
      args.push_back(random_.Pick(kPaths));
      args.push_back(random_.OneIn(4) ? "" : random_.Pick(kValues));
    }
    for (std::int64_t n = random_.Between(1, 2); n > 0; --n) {
      args.push_back(random_.Pick(kPaths));
      args.push_back(random_.OneIn(3) ? Document() : random_.Pick(kValues));
    }
  }
  void JsonChange(Strings& keys, Strings& args) {
    static const Strings kPaths = {"",     "/a",   "/b",    "/b/0", "/b/2/c",
                                   "/b/c", "/b/-", "/a~1b", "/new"};
    static const Strings kValues = {"1",  "100",  "\"x\"",        "\"y\"",
                                    "[]", "null", "{\"c\":-0.5}", "3"};
    static const Strings kMarks = {"", "", "!", "<", ">", "="};
    keys = {KeyOf("doc")};
    const std::int64_t tests = random_.Between(0, 3);
    args = {std::to_string(tests)};
    for (std::int64_t n = tests; n > 0; --n) {
      args.push_back(random_.Pick(kPaths));
      const std::string mark = random_.Pick(kMarks);
      args.push_back(random_.OneIn(8)   ? "|"
                     : random_.OneIn(4) ? (mark == "!" ? mark : "")
                                        : mark + random_.Pick(kValues));
    }
    for (std::int64_t n = random_.Between(1, 2); n > 0; --n) {
      const bool ttl = random_.OneIn(5);
      args.push_back(ttl ? "ttl" : random_.Pick(kPaths));
      args.push_back(ttl                ? (random_.OneIn(3) ? "0" : LeaseMilliseconds())
                     : random_.OneIn(4) ? ""
                     : random_.OneIn(3) ? Document()
                                        : random_.Pick(kValues));
    }
    if (random_.OneIn(3)) Once(keys, args);
  }
  void LimiterReset(Strings& keys, Strings&) { keys = {KeyOf("rate")}; }
  void LimiterTake(Strings& keys, Strings& args) {
    const std::int64_t interval = random_.Between(1, 200'000);
    keys = {KeyOf("rate")};
    args = {std::to_string(interval), std::to_string(interval * random_.Between(1, 5)),
            std::to_string(random_.Between(0, 3)), random_.OneIn(4) ? "peek" : "take"};
  }
  void LimiterTakeAllGcra(Strings& keys, Strings& args) {
    Strings prices;
    for (std::int64_t n = random_.Between(1, 3); n > 0; --n) {
      const std::int64_t interval = random_.Between(1, 200'000);
      keys.push_back(KeyOf(keys.empty() ? "rate" : StrCat("rate", n)));
      args.push_back(std::to_string(interval));
      args.push_back(std::to_string(interval * random_.Between(1, 5)));
      prices.push_back(std::to_string(interval * random_.Between(1, 3)));
    }
    if (random_.OneIn(2)) args.insert(args.end(), prices.begin(), prices.end());
  }
  // An operation's id, the fingerprint of its arguments, and for how long it is remembered: short,
  // so that answers get old. Another fingerprint is seldom.
  void Once(Strings& keys, Strings& args) {
    keys.insert(keys.end(), {KeyOf("{o}recent"), KeyOf("{o}older")});
    args.insert(args.end(), {Owner(), random_.OneIn(5) ? "l2" : "l1", LeaseMilliseconds()});
  }
  void PlainList(Strings& keys, Strings& args) {
    keys = {KeyOf("list")};
    args = {std::to_string(random_.Between(1, 5)), random_.OneIn(2) ? "" : LeaseMilliseconds()};
    for (std::int64_t n = random_.Between(1, 4); n > 0; --n) args.push_back(Member());
  }
  // Of these some read too, and wait: the record is marked then. One list is never appended to with
  // caps that list_push does not know.
  std::string ListTag() { return random_.OneIn(3) ? "{i}" : "{p}"; }
  void ListPush(Strings& keys, Strings& args) {
    PlainList(keys, args);
    const std::string tag = ListTag();
    keys = {KeyOf(tag + "list"), KeyOf(tag + "seq"), KeyOf(tag + "followers")};
  }
  void ListAppend(Strings& keys, Strings& args) {
    keys = {KeyOf("{i}list"), KeyOf("{i}seq"), KeyOf("{i}times"), KeyOf("{i}followers")};
    const std::int64_t count = random_.Between(1, 4);
    args = {std::to_string(random_.Between(1, 5)),
            random_.OneIn(2) ? "" : LeaseMilliseconds(),
            random_.OneIn(2) ? "" : std::to_string(random_.Between(1, 6)),
            random_.OneIn(2) ? "" : LeaseMilliseconds(),
            random_.OneIn(3) ? "reject" : "drop",
            std::to_string(count)};
    for (std::int64_t n = count; n > 0; --n) args.push_back(Member());
    if (random_.OneIn(3)) Once(keys, args);
  }
  void ListRead(Strings& keys, Strings& args) {
    const std::string tag = ListTag();
    keys = {KeyOf(tag + "list"), KeyOf(tag + "seq"), KeyOf(tag + "times"),
            KeyOf(tag + "followers")};
    // Numbers are the time: one that lies ahead finds nothing, and so waits.
    args = {random_.OneIn(3) ? "" : StrCat(now_ms_ * 1000 + random_.Between(-1'000'000, 9'000'000)),
            std::to_string(random_.Between(1, 5))};
    if (random_.OneIn(3)) return;
    for (const std::string& arg :
         {Owner(), StrCat("channel of ", Member(), random_.OneIn(4) ? "{m}" : ""),
          LeaseMilliseconds()}) {
      args.push_back(arg);
    }
  }
  // A sharded one at times.
  std::string Channel() { return random_.OneIn(4) ? "{m}channel" : "channel"; }
  Strings LockKeys() {
    return {KeyOf("{m}lease"), KeyOf("{m}fence"), KeyOf("{m}queue"), KeyOf("{m}readers")};
  }
  // Those who call `kKinds` themselves, and wait or not.
  template <char... kKinds>
  void Acquire(Strings& keys, Strings& args) {
    static const Strings kAll = {std::string(1, kKinds)...};
    static const Strings kTickets = {"0", "0", "1", "1699999999000000"};
    keys = LockKeys();
    args = {Owner(), LeaseMilliseconds(), random_.Pick(kAll)};
    if (random_.OneIn(3)) return;
    for (const std::string& arg :
         {LeaseMilliseconds(), Channel(), random_.Pick(kTickets), std::string("0")}) {
      args.push_back(arg);
    }
  }
  // So many of its keys, for whom and for how long.
  template <std::size_t kKeys>
  void OfLock(Strings& keys, Strings& args) {
    keys = LockKeys();
    if constexpr (kKeys == 3) keys.erase(keys.begin() + 2);
    keys.resize(kKeys);
    args = {Owner(), random_.OneIn(4) ? "0" : LeaseMilliseconds()};
    if (args[1] == "0" && kKeys != 4) args[1] = "1";
  }
  void MutexEvict(Strings& keys, Strings& args) {
    keys = LockKeys();
    args = {random_.OneIn(2) ? "" : Owner()};
  }
  void SemaphoreAcquire(Strings& keys, Strings& args) {
    keys = {KeyOf("{s}permits"), KeyOf("{s}fence"), KeyOf("{s}queue")};
    args = {Owner(), LeaseMilliseconds(), std::to_string(random_.Between(1, 2)), "3"};
    if (random_.OneIn(3)) return;
    for (const std::string& arg :
         {LeaseMilliseconds(), Channel(), std::string("0"), std::string("0")}) {
      args.push_back(arg);
    }
  }
  void LatchWait(Strings& keys, Strings& args) {
    keys = {KeyOf("{l}latch"), KeyOf("{l}waiters")};
    args = {random_.OneIn(5) ? "4" : "3", LeaseMilliseconds()};
    if (random_.OneIn(3)) return;
    for (const std::string& arg : {Owner(), LeaseMilliseconds(), Channel(), std::string("0")}) {
      args.push_back(arg);
    }
  }
  void LatchCount(Strings& keys, Strings& args) {
    keys = {KeyOf("{l}latch"), KeyOf("{l}waiters"), KeyOf("{l}operations")};
    args = {random_.OneIn(5) ? "4" : "3", LeaseMilliseconds(),
            std::to_string(random_.Between(1, 2)), Owner(), LeaseMilliseconds()};
  }

  Random random_;
  std::string usual_key_;  // of the command that is being made
  std::int64_t now_ms_ = static_cast<std::int64_t>(kStart / 1000);
};

std::uint64_t Seed() {
  const char* const given = std::getenv("COORD_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20261121;
}

class SimulatedRedisDifferentialTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const ServerVersion version = RedisServer::Version();
    if (version.valkey || version.major != 7 || version.minor != 0) {
      GTEST_SKIP() << "the simulation is one of Redis 7.0, whose words others have changed";
    }
  }
};

TEST_F(SimulatedRedisDifferentialTest, RandomSequencesGetTheRepliesOfARealServer) {
  const std::uint64_t seed = Seed();
  std::cout << "COORD_TEST_SEED=" << seed << std::endl;
  SCOPED_TRACE(StrCat("COORD_TEST_SEED=", seed));
  Twins twins;
  Steps steps(seed);
  for (std::size_t step = 0; step < kSteps; ++step) {
    ASSERT_TRUE(steps.Next(twins)) << "step " << step;
    if (step % 500 == 0) {
      ASSERT_TRUE(Steps::CompareAll(twins)) << "after step " << step;
    }
  }
  EXPECT_TRUE(Steps::CompareAll(twins));
  // A command that only ever fails has not been compared; nor has a script without a line above.
  for (const auto& [what, answers] : twins.answers()) {
    if (Steps::RunsWithAnything(what)) continue;
    EXPECT_GT(answers.good, 0u) << what << " failed " << answers.errors << " times";
  }
  // Nor has what a push does for those who wait, if nobody did.
  EXPECT_GT(twins.woken_by("list_push"), 0u);
  EXPECT_GT(twins.woken_by("list_append"), 0u);
}

TEST_F(SimulatedRedisDifferentialTest, ScriptsAnswerAndFailInTheWordsOfARealServer) {
  const char* const kScripts[] = {
      "return 1",
      "return 3.99",
      "return -3.99",
      "return '3.99'",
      "return true",
      "return false",
      "return nil",
      "return",
      "",
      "return 9007199254740993",
      "return 1e18",
      "return 1e300",
      "return -1/0",
      "return 0/0",
      "return {}",
      "return {1, 2, nil, 4}",
      "return {1, {2, {3, false}}, 'x', true}",
      "return {a = 1}",
      "return {1, a = 2}",
      "return {ok = 'FINE'}",
      "return {ok = 'two\\r\\nlines'}",
      "return {err = 'MINE two words'}",
      "return {err = 'one'}",
      "return {1, {err = 'INNER error'}, {ok = 'yes'}}",
      "return {err = 5}",
      "return {err = 'a\\r\\nb'}",
      "return {err = '\\na b\\r\\n'}",
      "return redis.error_reply('a b\\r\\n')",
      "return redis.call('PEXPIRE', 'list', 1, 'a\\nb\\r\\n')",
      "return redis.status_reply('GOOD')",
      "return redis.error_reply('MINE two words')",
      "return redis.error_reply('-MINE two words')",
      "return redis.error_reply('one')",
      "return redis.error_reply('-one')",
      "return redis.error_reply(1)",
      "return redis.status_reply()",
      "return function() end",
      "return redis.call",
      "return redis.call('PING')",
      "return redis.call('PING').ok",
      "return redis.call('ECHO', 5)",
      "return redis.call('ECHO', 1.5)",
      "return redis.call('ECHO', 0.1)",
      "return redis.call('ECHO', 2^53)",
      "return redis.call('ECHO', 1e17)",
      "return redis.call('ECHO', 1e20)",
      "return redis.call('ECHO', -0)",
      "return redis.call('ECHO', 1/0)",
      "return redis.call('ECHO', {})",
      "return redis.call('ECHO', true)",
      "return redis.call('ECHO', nil)",
      "return redis.call()",
      "return redis.pcall()",
      "return redis.call('GET')",
      "return redis.pcall('GET')",
      "return redis.call('GET', 'none')",
      "return type(redis.call('GET', 'none'))",
      "return tostring(redis.call('GET', 'none'))",
      "return redis.call('LPOP', 'none', 2)",
      "return tostring(redis.call('LPOP', 'none', 2))",
      "return redis.call('HMGET', 'none', 'a', 'b')",
      "return redis.call('INCR', 'list')",
      "\n\nreturn redis.call('INCR', 'list')",
      "return redis.pcall('INCR', 'list')",
      "return redis.pcall('INCR', 'list').err",
      "local e = redis.pcall('INCR', 'list') error(e)",
      "local e = redis.pcall('INCR', 'list') error(e.err)",
      "local function f() redis.call('INCR', 'list') end f() return 1",
      "return {pcall(redis.call, 'INCR', 'list')}",
      "return {pcall(function() return redis.call('INCR', 'list') end)}",
      "return {pcall(function() error('text') end)}",
      "return {pcall(function() error('text', 0) end)}",
      "local ok, e = pcall(function() error({7, 8}, 0) end) return e",
      "return {pcall(function(...) return select('#', ...), ... end, 1, 2)}",
      "return {pcall(error)}",
      "return {select('#', pcall(error, {7}))}",
      "error('text')",
      "error('text', 0)",
      "error('a\\nb')",
      "error({err = 'MINE two words'})",
      "error(redis.error_reply('MINE two words'))",
      "error(5)",
      "error(true)",
      "error(false)",
      "local empty",
      "error()",
      "assert(false)",
      "assert(false, 'why')",
      "assert(nil, {err = 'MINE why'})",
      "local a = nil\nreturn a.b",
      "local a = nil; return a + 1",
      "return 'x' + 1",
      "return {} .. 'x'",
      "return 1 < 'x'",
      "return #5",
      "local f = nil; f()",
      "redis.nothing()",
      "string.nothing()",
      "return string.nothing",
      "return tostring(redis.nothing)",
      "return string.rep()",
      "return string.rep('x', 'y')",
      "return tonumber()",
      "return ('x'):rep(3)",
      "return unpack({1, 2})",
      "return table.concat({1, {}})",
      "x = 1",
      "function f() end",
      "return x",
      "x.y = 1",
      "KEYS = 1",
      "KEYS[1] = 'changed' return KEYS[1]",
      "ARGV[4] = 'more' return ARGV",
      "string.x = 1",
      "redis.call = 1",
      "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], #KEYS, #ARGV}",
      "return _VERSION",
      "return tostring(1e15) .. tostring(123456789012345678) .. tostring(0.1) .. 2^63",
      "return string.format('%5.2f|%d|%s|%q|%x', 1.005, 3.9, 'a', 'b\\n', 255)",
      "return {string.find('a.b', '.', 1, true), string.match('k=v', '(%w)=(%w)')}",
      "return {string.gsub('hello', 'l', {l = 'L'})}",
      "return {math.floor(-1.5), math.ceil(-1.5), math.fmod(7, 3), math.max(1, 5), math.huge}",
      "local t = {3, 1, 2} table.sort(t) table.insert(t, 9) return {table.remove(t, 1), unpack(t)}",
      "return #'\\0a\\255'",
      "return '\\0a\\255'",
      "local function deep(n) if n == 0 then return {} end return {deep(n - 1)} end return "
      "deep(5)",
      "local function forever() return 1 + forever() end return forever()",
      "return redis.call('TIME')",
      "return redis.call('SET', 'n', '5') ",
      "return redis.call('SET', 'n', '6', 'NX')",
      "return redis.call('INCRBY', 'n', 2^53) + 1",
      "return redis.call('INCRBY', 'n', 1.5)",
      "return redis.call('get', 'n') + 1",
      "redis.call('SET', 'n', 'half') redis.call('INCR', 'n')",
      "return redis.call('GET', 'n')",
      "return redis.call('SPUBLISH', 'c', 'm')",
      "return redis.call('PUBLISH', 'c', 'm')",
      "return redis.call('TYPE', 'list')",
      "return redis.call('PEXPIRE', 'list', 100)",
      "return redis.call('PTTL', 'list')",
      "return redis.call('ZADD', 'z', 1.5, 'a', '(', 'b')",
      "return redis.call('ZADD', 'z', 1.5, 'a', 0.1, 'b')",
      "return redis.call('ZRANGE', 'z', 0, -1, 'WITHSCORES')",
      "return redis.call('HSET', 'h', 'a', 1, 'b')",
      "return redis.call('HSET', 'h', 'a', 1, 'b', 2.5)",
      "return redis.call('HGETALL', 'h')",
      "return redis.call('FLUSHALL')",
  };
  Twins twins;
  twins.Command({"RPUSH", "list", "a"});
  for (const char* const text : kScripts) {
    const Script script(text);
    twins.Run({text, script.text(), script.sha1(), false}, {"k1", "k2"}, {"first", "2"});
  }
}

}  // namespace
}  // namespace coord::testing
