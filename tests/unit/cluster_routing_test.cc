// Slots and routes: where in a Cluster a command goes.
#include <chrono>
#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "coord/deployment/request_route.h"
#include "coord/deployment/slot.h"
#include "coord/wire/resp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::internal {
namespace {

using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = Route::Kind;

// CRC-16/XMODEM a bit at a time, as the specification defines it.
std::uint16_t SlowCrc(std::string_view bytes) {
  unsigned crc = 0;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned>(static_cast<unsigned char>(c)) << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc & 0x8000) != 0 ? 0x11021u : 0u);
  }
  return static_cast<std::uint16_t>(crc);
}

TEST(SlotTest, TheChecksumIsTheSpecifications) {
  EXPECT_EQ(Crc16("123456789"), 0x31C3);
  EXPECT_EQ(Crc16(""), 0);
  EXPECT_EQ(SlotOf("123456789"), 0x31C3 % kSlots);
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 70, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    ASSERT_EQ(Crc16(bytes), SlowCrc(bytes)) << i;
  }
}

TEST(SlotTest, TheFirstTagDecidesUnlessItIsEmpty) {
  EXPECT_EQ(HashTag("{user1000}.following"), "user1000");
  EXPECT_EQ(HashTag("foo{}{bar}"), "foo{}{bar}");
  EXPECT_EQ(HashTag("foo{{bar}}zap"), "{bar");
  EXPECT_EQ(HashTag("foo{bar}{zap}"), "bar");
  EXPECT_EQ(HashTag("foo{bar"), "foo{bar");
  EXPECT_EQ(HashTag("foo}bar{"), "foo}bar{");
  EXPECT_EQ(HashTag("a}{b}"), "b");
  EXPECT_EQ(HashTag(""), "");
  EXPECT_EQ(SlotOf("coord:{n}:lease"), SlotOf("n"));
}

std::string Encoded(const std::vector<std::string_view>& args) {
  std::string out;
  AppendCommand(out, args);
  return out;
}

absl::StatusOr<Route> Of(const std::vector<std::string_view>& args) {
  return RouteOf(Encoded(args), "Command");
}

#define EXPECT_SLOT(key, ...) \
  EXPECT_THAT(Of(__VA_ARGS__), ::coord::testing::IsOkAndHolds(Route{Kind::kSlot, SlotOf(key)}))
#define EXPECT_ANY(...) \
  EXPECT_THAT(Of(__VA_ARGS__), ::coord::testing::IsOkAndHolds(Route{Kind::kAnyNode, -1}))
#define EXPECT_TWO_SLOTS(...)                                                                   \
  EXPECT_THAT(Of(__VA_ARGS__), StatusIs(absl::StatusCode::kInvalidArgument,                     \
                                        AllOf(HasSubstr("different slots"), HasSubstr("\"a\""), \
                                              HasSubstr("\"b\""))))

TEST(RequestRouteTest, AScriptGoesWhereItsKeysAre) {
  for (const std::string_view name :
       {"EVAL", "evalsha", "Eval_RO", "EVALSHA_RO", "FCALL", "fcall_ro"}) {
    SCOPED_TRACE(name);
    EXPECT_SLOT("k", {name, "x", "1", "k"});
    EXPECT_SLOT("t", {name, "x", "2", "p:{t}:1", "p:{t}:2", "other{z}"});
    EXPECT_ANY({name, "x", "0", "k"});
    EXPECT_TWO_SLOTS({name, "x", "2", "a", "b"});
    EXPECT_ANY({name, "x"});
    EXPECT_ANY({name, "x", "2", "k"});
    EXPECT_ANY({name, "x", "-1", "k"});
    EXPECT_ANY({name, "x", "1k", "k"});
    EXPECT_ANY({name, "x", "99999999999999999999", "k"});
  }
}

TEST(RequestRouteTest, EveryFixedPositionOfTheTableIsTaken) {
  // Each command of the table that has such a form, by its name.
  const std::string_view names[] = {"GET",   "set",    "HSCAN", "DEL",   "MSET",   "BLPOP",
                                    "BITOP", "RENAME", "XINFO", "LMOVE", "OBJECT", "SPUBLISH"};
  for (const std::string_view name : names) {
    SCOPED_TRACE(name);
    const CommandKeys* const command = FindCommandKeys(name);
    ASSERT_NE(command, nullptr);
    ASSERT_EQ(command->form, CommandKeys::Form::kKeys);
    // Nine arguments: those that are keys share a tag, the others are in other slots.
    std::vector<std::string> args = {std::string(name)};
    const int last = command->last < 0 ? 9 + command->last : command->last;
    for (int i = 1; i < 9; ++i) {
      const bool key =
          i >= command->first && i <= last && (i - command->first) % command->step == 0;
      args.push_back(key ? "{t}" + std::to_string(i) : "value" + std::to_string(i));
    }
    EXPECT_SLOT("t", {args.begin(), args.end()});
    // Any key in another slot is seen.
    for (int i = command->first + command->step; i <= last; i += command->step) {
      std::vector<std::string> stray = args;
      stray[static_cast<std::size_t>(i)] = "elsewhere";
      EXPECT_THAT(Of({stray.begin(), stray.end()}),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"elsewhere\"")));
    }
  }
}

TEST(RequestRouteTest, CountedKeysEndWhereTheirNumberSays) {
  EXPECT_SLOT("k", {"ZDIFF", "1", "k", "WITHSCORES"});
  EXPECT_SLOT("t", {"ZINTER", "2", "{t}a", "{t}b", "WEIGHTS", "1", "2"});
  EXPECT_SLOT("t", {"SINTERCARD", "2", "{t}a", "{t}b", "LIMIT", "1"});
  EXPECT_SLOT("t", {"LMPOP", "2", "{t}a", "{t}b", "LEFT"});
  EXPECT_SLOT("t", {"BLMPOP", "0", "2", "{t}a", "{t}b", "LEFT"});
  EXPECT_SLOT("t", {"bzmpop", "0", "1", "{t}a", "MIN"});
  EXPECT_SLOT("t", {"ZUNIONSTORE", "{t}", "1", "{t}a", "WEIGHTS", "b"});
  EXPECT_TWO_SLOTS({"ZUNIONSTORE", "a", "1", "b"});
  EXPECT_ANY({"ZUNIONSTORE", "k", "2", "k"});
  EXPECT_ANY({"ZUNIONSTORE", "k"});
  EXPECT_TWO_SLOTS({"ZMPOP", "2", "a", "b", "MIN"});
}

TEST(RequestRouteTest, StreamsAreTheFirstHalfBehindStreams) {
  EXPECT_SLOT("s", {"XREAD", "COUNT", "1", "BLOCK", "0", "STREAMS", "s", "0"});
  EXPECT_SLOT("t", {"xread", "streams", "{t}1", "{t}2", "0", "1"});
  EXPECT_SLOT("s", {"XREADGROUP", "GROUP", "STREAMS", "me", "NOACK", "STREAMS", "s", ">"});
  EXPECT_SLOT("s", {"XREADGROUP", "GROUP", "g", "me", "CLAIM", "5", "STREAMS", "s", ">"});
  EXPECT_TWO_SLOTS({"XREAD", "STREAMS", "a", "b", "0", "0"});
  EXPECT_ANY({"XREAD", "STREAMS"});
  EXPECT_ANY({"XREAD", "STREAMS", "a", "b", "0"});
  EXPECT_ANY({"XREAD", "COUNT"});
}

TEST(RequestRouteTest, OptionsThatStoreNameAKeyToo) {
  EXPECT_SLOT("k", {"SORT", "k"});
  EXPECT_SLOT("k", {"SORT", "k", "BY", "STORE", "LIMIT", "0", "STORE", "GET", "STORE"});
  EXPECT_TWO_SLOTS({"SORT", "a", "LIMIT", "0", "1", "ALPHA", "store", "b"});
  EXPECT_SLOT("k", {"SORT_RO", "k", "GET", "x*"});
  EXPECT_SLOT("k", {"GEORADIUS", "k", "1", "2", "3", "m"});
  EXPECT_SLOT("k", {"GEORADIUSBYMEMBER", "k", "STORE", "3", "m", "ASC"});
  EXPECT_TWO_SLOTS({"GEORADIUS", "a", "1", "2", "3", "m", "STOREDIST", "b"});
  EXPECT_TWO_SLOTS({"GEORADIUSBYMEMBER", "a", "x", "3", "m", "STORE", "b"});
  EXPECT_ANY({"SORT", "k", "STORE"});
}

TEST(RequestRouteTest, MigrateHasOneKeyOrMany) {
  EXPECT_SLOT("k", {"MIGRATE", "h", "1", "k", "0", "10"});
  EXPECT_SLOT("t",
              {"MIGRATE", "h", "1", "", "0", "10", "AUTH2", "u", "KEYS", "KEYS", "{t}1", "{t}2"});
  EXPECT_SLOT("k", {"MIGRATE", "h", "1", "", "0", "10", "COPY", "AUTH", "KEYS", "KEYS", "k"});
  EXPECT_TWO_SLOTS({"MIGRATE", "h", "1", "", "0", "10", "KEYS", "a", "b"});
  EXPECT_ANY({"MIGRATE", "h", "1", "", "0", "10"});
}

TEST(RequestRouteTest, SubcommandsHaveTheirKeyNext) {
  EXPECT_SLOT("k", {"OBJECT", "ENCODING", "k"});
  EXPECT_SLOT("k", {"MEMORY", "USAGE", "k", "SAMPLES", "5"});
  EXPECT_SLOT("k", {"XINFO", "STREAM", "k", "FULL"});
  EXPECT_SLOT("k", {"XGROUP", "CREATE", "k", "g", "$"});
  EXPECT_ANY({"MEMORY", "DOCTOR"});
  EXPECT_ANY({"XINFO", "HELP"});
}

TEST(RequestRouteTest, WithoutKeysAnyNodeWillDo) {
  EXPECT_ANY({"PING"});
  EXPECT_ANY({"ping", "k"});
  EXPECT_ANY({"CLIENT", "SETNAME", "k"});
  EXPECT_ANY({"ACL", "WHOAMI"});
  EXPECT_ANY({"CLUSTER", "SLOTS"});
  EXPECT_ANY({"PUBLISH", "a", "b"});
  EXPECT_ANY({"SCRIPT", "EXISTS", "x"});
  EXPECT_ANY({"CONFIG", "get", "maxmemory"});
  EXPECT_ANY({"CONFIG"});
  EXPECT_ANY({"GET"});
  EXPECT_SLOT("k", {"SPUBLISH", "k", "m"});
}

TEST(RequestRouteTest, WhatConcernsEveryMasterIsRefused) {
  for (const std::string_view name : {"SCAN", "keys", "DBSIZE", "RANDOMKEY"}) {
    EXPECT_THAT(Of({name, "0"}), StatusIs(absl::StatusCode::kInvalidArgument,
                                          AllOf(HasSubstr("Command: "), HasSubstr("every master"),
                                                HasSubstr("coord::ScanKeys"))));
  }
  for (const std::vector<std::string_view>& command :
       std::vector<std::vector<std::string_view>>{{"FLUSHALL"},
                                                  {"flushdb"},
                                                  {"SWAPDB", "0", "1"},
                                                  {"SCRIPT", "flush"},
                                                  {"SCRIPT", "LOAD", "x"},
                                                  {"FUNCTION", "LOAD", "x"},
                                                  {"CONFIG", "SET", "a", "b"},
                                                  {"SAVE"},
                                                  {"BGSAVE"},
                                                  {"DEBUG", "SLEEP"},
                                                  {"ACL", "SETUSER", "x"}}) {
    EXPECT_THAT(Of(command), StatusIs(absl::StatusCode::kInvalidArgument,
                                      AllOf(HasSubstr("every master"), HasSubstr("redis://"))))
        << command[0];
  }
  EXPECT_THAT(Of({"CONFIG", "set", "a", "b"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("CONFIG SET concerns")));
  EXPECT_THAT(Of({"SHUTDOWN"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one certain node")));
}

TEST(RequestRouteTest, TheServerIsAskedAboutUnknownNames) {
  for (const std::string_view name :
       {"FT.SEARCH", "", "GETT", "GE", "A", "ZZZ", "a-name-that-is-longer-than-any-command-has"}) {
    EXPECT_THAT(Of({name, "k"}), coord::testing::IsOkAndHolds(Route{Kind::kAskServer, -1})) << name;
  }
}

TEST(RequestRouteTest, KeysInDifferentSlotsAreNamedWithTheirSlots) {
  const absl::StatusOr<Route> route = Of({"MGET", "a{1}", "b{1}", "b{2}"});
  EXPECT_THAT(route,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("Command: keys \"a{1}\" and \"b{2}\" are in different slots "
                                 "(9842 and 5649) of the Cluster, where one command can only "
                                 "touch one; give them a common {tag}")));
}

TEST(RequestRouteTest, DifferentTagsOfOneSlotGoTogether) {
  // Found by counting, so that it needs no constant.
  std::string other;
  for (int i = 0; other.empty(); ++i) {
    if (SlotOf("x" + std::to_string(i)) == SlotOf("a")) other = "x" + std::to_string(i);
  }
  EXPECT_SLOT("a", {"DEL", "a", other});
}

TEST(RequestRouteTest, BytesThatAreNoCommandAreRefusedAndNeverCrash) {
  for (const std::string_view bytes :
       {"", "*", "*1", "*1\r\n", "*0\r\n", "*-1\r\n", "GET a\r\n", "*2\r\n$3\r\nGET\r\n",
        "*2\r\n$3\r\nGET\r\n$9\r\na\r\n", "*1\r\n$99999999999999999999\r\nGET\r\n",
        "*1\r\n$3\r\nGETxx"}) {
    EXPECT_THAT(RouteOf(bytes, "Command"), StatusIs(absl::StatusCode::kInvalidArgument)) << bytes;
  }
  std::mt19937 random(7);
  const std::string_view words[] = {
      "EVALSHA",   "ZUNIONSTORE", "SORT",  "STORE", "STREAMS", "XREAD",  "MIGRATE",
      "KEYS",      "MSET",        "1",     "2",     "-1",      "",       "k",
      "GEORADIUS", "GROUP",       "BLPOP", "AUTH2", "LIMIT",   "OBJECT", "CONFIG"};
  for (int i = 0; i < 200000; ++i) {
    std::vector<std::string_view> args(random() % 8);
    for (std::string_view& arg : args) arg = words[random() % std::size(words)];
    std::string bytes = Encoded(args);
    for (unsigned changes = random() % 4; changes > 0 && !bytes.empty(); --changes) {
      const std::size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, random() % 5);
          break;
        default:
          bytes.insert(at, 1, "*$\r\n0129"[random() % 8]);
      }
    }
    // Exactly as long as its memory, so that a sanitizer sees every byte too far.
    const std::vector<char> exact(bytes.begin(), bytes.end());
    const absl::StatusOr<Route> route = RouteOf({exact.data(), exact.size()}, "fuzz");
    if (route.ok() && route->kind == Kind::kSlot) {
      ASSERT_GE(route->slot, 0);
      ASSERT_LT(route->slot, kSlots);
    }
  }
}

TEST(RequestRouteTest, SpeedIsPrinted) {
  const std::string command =
      Encoded({"EVALSHA", std::string_view("0123456789012345678901234567890123456789"), "2",
               "coord:{deploy}:lease", "coord:{deploy}:queue", "value"});
  const std::string key = "coord:a-key-without-a-tag-of-40-bytes---";
  constexpr int kRounds = 200000;
  std::int64_t sum = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) sum += SlotOf(key);
  const auto middle = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) sum += RouteOf(command, "Command")->slot;
  const auto end = std::chrono::steady_clock::now();
  const auto nanoseconds = [](auto duration) {
    return std::chrono::duration<double, std::nano>(duration).count() / kRounds;
  };
  std::cout << "SlotOf(40 bytes): " << nanoseconds(middle - start)
            << " ns, RouteOf(EVALSHA, 2 keys): " << nanoseconds(end - middle) << " ns\n";
  EXPECT_GT(sum, 0);
}

}  // namespace
}  // namespace coord::internal
