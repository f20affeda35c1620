// RedisBackend on one server that nothing happens to.
#include "cache/redis_backend.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cache/internal/scan_cursor.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using internal::StrCat;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::Optional;
using ::testing::UnorderedElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

auto None() { return ::testing::Eq(std::nullopt); }
auto Value(std::string_view text) { return Optional(Field(&Stored::value, std::string(text))); }

class RedisBackendTest : public ::testing::Test {
 protected:
  std::int64_t CallsSince() { return AllCalls(redis_); }
  void Forget() { redis_.Command({"CONFIG", "RESETSTAT"}); }
  // From the first page to the last, each by the next backend in turn, as if by other processes.
  std::multiset<std::string> Walk(std::string_view pattern, std::size_t count = 100) {
    std::multiset<std::string> all;
    RedisBackend other(ConnectTo(server_));
    std::string cursor;
    bool turn = false;
    do {
      RedisBackend& backend = turn ? other : backend_;
      turn = !turn;
      absl::StatusOr<ScanPage> page = backend.Scan(pattern, cursor, count);
      if (!page.ok()) testing::Fatal(page.status().ToString());
      all.insert(page->keys.begin(), page->keys.end());
      cursor = page->cursor;
    } while (!cursor.empty());
    return all;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  RedisBackend backend_{client_};
};

TEST_F(RedisBackendTest, KeepsAnyBytesUnderExactlyTheKeyThatIsGiven) {
  const std::string bytes("\0\r\n$-1\r\n\xff", 9);
  EXPECT_THAT(backend_.Set({bytes, bytes}), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Get(bytes), IsOkAndHolds(Value(bytes)));
  EXPECT_EQ(redis_.Text({"GET", bytes}), bytes);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
  EXPECT_THAT(backend_.Set({"empty", ""}), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Get("empty"), IsOkAndHolds(Value("")));
  EXPECT_THAT(backend_.Get("none"), IsOkAndHolds(None()));
}

TEST_F(RedisBackendTest, CarriesAValueOfManyMegabytes) {
  const std::string large(std::size_t{40} << 20, 'x');
  ASSERT_OK(backend_.Set({"large", large}).status());
  absl::StatusOr<std::optional<Stored>> found = backend_.Get("large");
  ASSERT_OK(found.status());
  EXPECT_TRUE(found->has_value() && (*found)->value == large);
}

TEST_F(RedisBackendTest, SaysWhatIsLeftWhereItIsAskedForAndNothingElse) {
  ASSERT_OK(backend_.Set({"short", "a", absl::Seconds(100)}).status());
  ASSERT_OK(backend_.Set({"for ever", "b"}).status());
  Forget();
  ASSERT_OK_AND_ASSIGN(std::optional<Stored> found, backend_.Get("short"));
  EXPECT_EQ(found->left, std::nullopt);
  EXPECT_EQ(CallsSince(), 1);
  ASSERT_OK_AND_ASSIGN(found, backend_.Get("short", Want::kValueAndTtl));
  EXPECT_EQ(found->value, "a");
  EXPECT_GT(*found->left, absl::Seconds(50));
  EXPECT_LE(*found->left, absl::Seconds(100));
  ASSERT_OK_AND_ASSIGN(found, backend_.Get("for ever", Want::kValueAndTtl));
  EXPECT_EQ(found->left, absl::InfiniteDuration());
  EXPECT_THAT(backend_.Get("none", Want::kValueAndTtl), IsOkAndHolds(None()));
}

TEST_F(RedisBackendTest, GetManyAnswersEachKeyInOrderWithOneCommand) {
  ASSERT_OK(backend_.Set({"a", "1", absl::Seconds(100)}).status());
  ASSERT_OK(backend_.Set({"b", "2"}).status());
  redis_.Command({"HSET", "hash", "f", "v"});
  const std::vector<std::string> keys = {"b", "none", "a", "b", "hash"};
  Forget();
  ASSERT_OK_AND_ASSIGN(auto found, backend_.GetMany(keys));
  EXPECT_EQ(CallsSince(), 1);
  EXPECT_THAT(found, ElementsAre(Value("2"), None(), Value("1"), Value("2"), None()));
  ASSERT_OK_AND_ASSIGN(found, backend_.GetMany(keys, Want::kValueAndTtl));
  ASSERT_THAT(found, ElementsAre(Value("2"), None(), Value("1"), Value("2"), None()));
  EXPECT_EQ(found[0]->left, absl::InfiniteDuration());
  EXPECT_GT(*found[2]->left, absl::Seconds(50));
  EXPECT_LE(*found[2]->left, absl::Seconds(100));
}

TEST_F(RedisBackendTest, NothingToDoIsNoRoundTrip) {
  Forget();
  EXPECT_THAT(backend_.GetMany({}), IsOkAndHolds(::testing::IsEmpty()));
  EXPECT_THAT(backend_.GetMany({}, Want::kValueAndTtl), IsOkAndHolds(::testing::IsEmpty()));
  EXPECT_OK(backend_.SetMany({}));
  EXPECT_THAT(backend_.DeleteMany({}), IsOkAndHolds(0));
  EXPECT_EQ(CallsSince(), 0);
}

TEST_F(RedisBackendTest, SetTakesThePlaceOfValueTypeAndTimeToLive) {
  ASSERT_OK(backend_.Set({"k", "1", absl::Milliseconds(90'001)}).status());
  EXPECT_GT(redis_.Integer({"PTTL", "k"}), 50'000);
  EXPECT_LE(redis_.Integer({"PTTL", "k"}), 90'001);
  EXPECT_THAT(backend_.Set({"k", "2"}), IsOkAndHolds(true));
  EXPECT_EQ(redis_.Integer({"PTTL", "k"}), -1);
  redis_.Command({"HSET", "hash", "f", "v"});
  EXPECT_THAT(backend_.Set({"hash", "3"}), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Get("hash"), IsOkAndHolds(Value("3")));
}

TEST_F(RedisBackendTest, SetIfWritesOnlyWhereItsConditionHolds) {
  EXPECT_THAT(backend_.Set({"k", "1"}, SetIf::kPresent), IsOkAndHolds(false));
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(None()));
  EXPECT_THAT(backend_.Set({"k", "2", absl::Seconds(100)}, SetIf::kAbsent), IsOkAndHolds(true));
  EXPECT_GT(redis_.Integer({"PTTL", "k"}), 0);
  EXPECT_THAT(backend_.Set({"k", "3"}, SetIf::kAbsent), IsOkAndHolds(false));
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(Value("2")));
  EXPECT_THAT(backend_.Set({"k", "4"}, SetIf::kPresent), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(Value("4")));
}

TEST_F(RedisBackendTest, SetManyWritesEachWithItsTimeToLive) {
  const std::vector<Write> writes = {
      {"a", "1", absl::Seconds(100)}, {"b", "2"}, {"a", "3", absl::Seconds(100)}};
  Forget();
  ASSERT_OK(backend_.SetMany(writes));
  EXPECT_EQ(CommandCalls(redis_, "set"), 3);
  EXPECT_EQ(redis_.Text({"GET", "a"}), "3");
  EXPECT_GT(redis_.Integer({"PTTL", "a"}), 0);
  EXPECT_EQ(redis_.Text({"GET", "b"}), "2");
  EXPECT_EQ(redis_.Integer({"PTTL", "b"}), -1);
}

TEST_F(RedisBackendTest, SetManySaysWhichKeyTheServerHasRefused) {
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  const std::vector<Write> writes = {{"first key", "1"}, {"b", "2"}};
  EXPECT_THAT(backend_.SetMany(writes),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("first key")));
  EXPECT_THAT(backend_.Set(writes[1]), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(RedisBackendTest, DeletesAndSaysWhatWasThere) {
  ASSERT_OK(backend_.SetMany(std::vector<Write>{{"a", "1"}, {"b", "2"}, {"c", "3"}}));
  EXPECT_THAT(backend_.Delete("a"), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Delete("a"), IsOkAndHolds(false));
  const std::vector<std::string> keys = {"b", "none", "c", "b"};
  Forget();
  EXPECT_THAT(backend_.DeleteMany(keys), IsOkAndHolds(2));
  EXPECT_EQ(CallsSince(), 1);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(RedisBackendTest, TellsWhatIsThereAndForHowLong) {
  ASSERT_OK(backend_.Set({"k", "1"}).status());
  EXPECT_THAT(backend_.Exists("k"), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Exists("none"), IsOkAndHolds(false));
  EXPECT_THAT(backend_.Ttl("k"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(backend_.Ttl("none"), IsOkAndHolds(TimeLeft::Missing()));
  EXPECT_THAT(backend_.Expire("k", absl::Seconds(100)), IsOkAndHolds(true));
  ASSERT_OK_AND_ASSIGN(const TimeLeft left, backend_.Ttl("k"));
  EXPECT_EQ(left.kind(), TimeLeft::Kind::kExpires);
  EXPECT_GT(left.left(), absl::Seconds(50));
  EXPECT_LE(left.left(), absl::Seconds(100));
  EXPECT_THAT(backend_.Expire("none", absl::Seconds(1)), IsOkAndHolds(false));
}

TEST_F(RedisBackendTest, PersistIsRefusedOnlyByAKeyThatIsNotThere) {
  ASSERT_OK(backend_.Set({"k", "1", absl::Seconds(100)}).status());
  EXPECT_THAT(backend_.Persist("k"), IsOkAndHolds(true));
  EXPECT_EQ(redis_.Integer({"PTTL", "k"}), -1);
  EXPECT_THAT(backend_.Persist("k"), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Persist("none"), IsOkAndHolds(false));
  ASSERT_OK(backend_.Expire("k", absl::Seconds(100)).status());
  EXPECT_THAT(backend_.Expire("k", absl::InfiniteDuration()), IsOkAndHolds(true));
  EXPECT_EQ(redis_.Integer({"PTTL", "k"}), -1);
  EXPECT_THAT(backend_.Expire("none", absl::InfiniteDuration()), IsOkAndHolds(false));
}

TEST_F(RedisBackendTest, WhatHasExpiredIsNotThere) {
  ASSERT_OK(backend_.Set({"k", "1", absl::Milliseconds(30)}).status());
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<TimeLeft> left = backend_.Ttl("k");
    return left.ok() && *left == TimeLeft::Missing();
  }));
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(None()));
  EXPECT_THAT(backend_.Get("k", Want::kValueAndTtl), IsOkAndHolds(None()));
  EXPECT_THAT(backend_.Persist("k"), IsOkAndHolds(false));
  EXPECT_THAT(backend_.Set({"k", "2"}, SetIf::kAbsent), IsOkAndHolds(true));
}

TEST_F(RedisBackendTest, AnotherTypeUnderTheKeyIsNamed) {
  redis_.Command({"HSET", "hash", "f", "v"});
  const auto named = StatusIs(absl::StatusCode::kFailedPrecondition,
                              AllOf(HasSubstr("cache key \"hash\""), HasSubstr("WRONGTYPE")));
  EXPECT_THAT(backend_.Get("hash"), named);
  EXPECT_THAT(backend_.Get("hash", Want::kValueAndTtl), named);
  EXPECT_THAT(backend_.Exists("hash"), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Delete("hash"), IsOkAndHolds(true));
}

TEST_F(RedisBackendTest, WhatBreaksTheRulesIsRefusedBeforeAnythingIsSent) {
  const std::string longest(Backend::kMaxKey, 'k'), longer(Backend::kMaxKey + 1, 'k');
  Forget();
  for (const std::string& key : {std::string(), longer}) {
    const auto refused = StatusIs(kInvalid, HasSubstr(StrCat(key.size(), " bytes")));
    const std::vector<std::string> keys = {"k", key};
    EXPECT_THAT(backend_.Get(key), refused);
    EXPECT_THAT(backend_.Get(key, Want::kValueAndTtl), refused);
    EXPECT_THAT(backend_.GetMany(keys), refused);
    EXPECT_THAT(backend_.Set({key, "v"}), refused);
    EXPECT_THAT(backend_.SetMany(std::vector<Write>{{"k", "v"}, {key, "v"}}), refused);
    EXPECT_THAT(backend_.Delete(key), refused);
    EXPECT_THAT(backend_.DeleteMany(keys), refused);
    EXPECT_THAT(backend_.Exists(key), refused);
    EXPECT_THAT(backend_.Ttl(key), refused);
    EXPECT_THAT(backend_.Expire(key, absl::Seconds(1)), refused);
    EXPECT_THAT(backend_.Persist(key), refused);
  }
  for (const absl::Duration ttl :
       {absl::ZeroDuration(), -absl::Seconds(1), absl::Microseconds(1500), absl::Nanoseconds(1),
        absl::Hours(24 * 366 * 11), -absl::InfiniteDuration()}) {
    const auto refused = StatusIs(kInvalid, HasSubstr("ttl"));
    EXPECT_THAT(backend_.Set({"k", "v", ttl}), refused);
    EXPECT_THAT(backend_.SetMany(std::vector<Write>{{"a", "v"}, {"k", "v", ttl}}), refused);
    EXPECT_THAT(backend_.Expire("k", ttl), refused);
  }
  EXPECT_THAT(backend_.Get("k", Want::kValue, {.timeout = absl::ZeroDuration()}),
              StatusIs(kInvalid));
  EXPECT_EQ(CallsSince(), 0);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  EXPECT_THAT(backend_.Set({longest, "v", absl::Milliseconds(60'000)}), IsOkAndHolds(true));
}

TEST_F(RedisBackendTest, AValueLargerThanTheServersOwnLimitIsNotSent) {
  // Reserved, and never touched: it takes address space only.
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  const std::size_t size = RedisBackend::kMaxValue + 1;
  const std::unique_ptr<char, Free> memory(static_cast<char*>(std::calloc(1, size)));
  ASSERT_NE(memory, nullptr);
  const std::string_view large(memory.get(), size);
  Forget();
  EXPECT_THAT(backend_.Set({"k", large}), StatusIs(kInvalid, HasSubstr("536870913 bytes")));
  EXPECT_THAT(backend_.SetMany(std::vector<Write>{{"k", large}}), StatusIs(kInvalid));
  EXPECT_EQ(CallsSince(), 0);
}

// ---- Walking over the keys ----

TEST_F(RedisBackendTest, AWalkThatGoesFromProcessToProcessFindsAllThatMatches) {
  std::vector<std::string> keys;
  for (int i = 0; i < 700; ++i) keys.push_back(StrCat("app:", i));
  std::vector<Write> writes;
  for (const std::string& key : keys) writes.push_back({key, "v"});
  writes.push_back({"other", "v"});
  ASSERT_OK(backend_.SetMany(writes));
  for (const std::size_t count : {std::size_t{1}, std::size_t{100}, std::size_t{1} << 40}) {
    const std::multiset<std::string> found = Walk("app:*", count);
    EXPECT_EQ(std::set<std::string>(found.begin(), found.end()),
              std::set<std::string>(keys.begin(), keys.end()));
  }
  EXPECT_THAT(Walk("none*"), ::testing::IsEmpty());
}

TEST_F(RedisBackendTest, ACursorThatIsNoneOfItsOwnIsRefused) {
  std::vector<Write> writes;
  std::vector<std::string> keys;
  for (int i = 0; i < 100; ++i) keys.push_back(StrCat("k", i));
  for (const std::string& key : keys) writes.push_back({key, "v"});
  ASSERT_OK(backend_.SetMany(writes));
  ASSERT_OK_AND_ASSIGN(const ScanPage page, backend_.Scan("*", {}, 1));
  ASSERT_FALSE(page.cursor.empty());
  Forget();
  for (std::size_t i = 0; i < page.cursor.size(); ++i) {
    std::string changed = page.cursor;
    changed[i] = changed[i] == '1' ? '2' : '1';
    EXPECT_THAT(backend_.Scan("*", changed), StatusIs(kInvalid)) << changed;
    EXPECT_THAT(backend_.Scan("*", page.cursor.substr(0, i + (i == 0 ? 1 : 0))),
                i + (i == 0 ? 1 : 0) == page.cursor.size() ? StatusIs(absl::StatusCode::kOk)
                                                           : StatusIs(kInvalid));
  }
  for (const std::string& garbage :
       {std::string("0"), std::string("17"), page.cursor + "-", page.cursor + "0",
        std::string("r1-0-0-0-0"), std::string("r1-----"), std::string(1, '\0'),
        std::string(100'000, '-')}) {
    EXPECT_THAT(backend_.Scan("*", garbage), StatusIs(kInvalid));
  }
  // Well made, of another deployment, or of a master that there is not.
  internal::ScanCursor of_another = *internal::DecodeScanCursor(page.cursor);
  of_another.masters ^= 1;
  EXPECT_THAT(backend_.Scan("*", internal::EncodeScanCursor(of_another)), StatusIs(kInvalid));
  internal::ScanCursor beyond = *internal::DecodeScanCursor(page.cursor);
  beyond.master = 1;
  EXPECT_THAT(backend_.Scan("*", internal::EncodeScanCursor(beyond)), StatusIs(kInvalid));
  EXPECT_THAT(backend_.Scan("*", {}, 0), StatusIs(kInvalid, HasSubstr("count")));
  EXPECT_THAT(backend_.Scan(""), StatusIs(kInvalid, HasSubstr("pattern")));
  EXPECT_EQ(CallsSince(), 0);
}

TEST_F(RedisBackendTest, AWalkPassesByThePrimitivesAndDeletingSparesThem) {
  const Mutex mutex(client_, "job");
  ASSERT_OK_AND_ASSIGN(const Lease lease, mutex.TryAcquire());
  ASSERT_OK(backend_.SetMany(std::vector<Write>{{"coord:a", "1"}, {"coord:b", "2"}, {"c", "3"}}));
  EXPECT_THAT(Walk("coord:*"), UnorderedElementsAre("coord:a", "coord:b"));
  EXPECT_THAT(backend_.DeleteMatching("coord:*"), IsOkAndHolds(2));
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{job}:lease", "coord:{job}:fence"}), 2);
  EXPECT_THAT(mutex.TryAcquire(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(backend_.Get("c"), IsOkAndHolds(Value("3")));
}

TEST_F(RedisBackendTest, DeleteMatchingTakesAllThatMatchesAndNothingElse) {
  for (int i = 0; i < 3000; ++i) redis_.Command({"SET", StrCat("app:", i), "v"});
  redis_.Command({"SET", "app[1]", "v"});
  redis_.Command({"SET", "app1", "v"});
  EXPECT_THAT(backend_.DeleteMatching("app:*"), IsOkAndHolds(3000));
  EXPECT_THAT(backend_.DeleteMatching("app\\[1\\]"), IsOkAndHolds(1));
  EXPECT_THAT(backend_.DeleteMatching("app:*"), IsOkAndHolds(0));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
}

TEST_F(RedisBackendTest, TheWholeDatabaseIsNeverEmptied) {
  ASSERT_OK(backend_.Set({"k", "v"}).status());
  for (const std::string_view pattern : {"", "*", "**"}) {
    EXPECT_THAT(backend_.DeleteMatching(pattern), StatusIs(kInvalid));
  }
  EXPECT_THAT(backend_.Clear(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("DeleteMatching")));
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(Value("v")));
}

// ---- The client behind it ----

TEST_F(RedisBackendTest, AfterCloseNothingIsDoneAndTheCallersClientStaysOpen) {
  EXPECT_EQ(backend_.kind(), "redis");
  EXPECT_NE(backend_.client(), nullptr);
  EXPECT_OK(backend_.Ping());
  backend_.Close();
  backend_.Close();
  Forget();
  const auto closed = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("closed"));
  const std::vector<std::string> keys = {"k"};
  EXPECT_THAT(backend_.Get("k"), closed);
  EXPECT_THAT(backend_.Get("k", Want::kValueAndTtl), closed);
  EXPECT_THAT(backend_.GetMany(keys), closed);
  EXPECT_THAT(backend_.GetMany({}), closed);
  EXPECT_THAT(backend_.Set({"k", "v"}), closed);
  EXPECT_THAT(backend_.SetMany({}), closed);
  EXPECT_THAT(backend_.Delete("k"), closed);
  EXPECT_THAT(backend_.DeleteMany({}), closed);
  EXPECT_THAT(backend_.Exists("k"), closed);
  EXPECT_THAT(backend_.Ttl("k"), closed);
  EXPECT_THAT(backend_.Expire("k", absl::Seconds(1)), closed);
  EXPECT_THAT(backend_.Persist("k"), closed);
  EXPECT_THAT(backend_.Scan("*"), closed);
  EXPECT_THAT(backend_.DeleteMatching("k*"), closed);
  EXPECT_THAT(backend_.Clear(), closed);
  EXPECT_THAT(backend_.Ping(), closed);
  EXPECT_THAT(backend_.Reconnect(), closed);
  EXPECT_EQ(CallsSince(), 0);
  EXPECT_OK(client_.Command({"PING"}).status());
}

TEST_F(RedisBackendTest, AClientOfItsOwnIsClosedWithIt) {
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<RedisBackend> own,
                       RedisBackend::Connect(server_.url()));
  const Client client = *own->client();
  EXPECT_OK(own->Set({"k", "v"}).status());
  own->Close();
  EXPECT_THAT(own->Get("k"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(client.Command({"PING"}), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(RedisBackend::Connect("memory://"), StatusIs(kInvalid));
}

TEST_F(RedisBackendTest, WithoutAUrlTheEnvironmentSaysWhere) {
  RedisServer other;
  ASSERT_OK(backend_.Set({"k", "mine"}).status());
  ::setenv("COORD_CACHE_URL", server_.url().c_str(), 1);
  ::setenv("COORD_URL", other.url().c_str(), 1);
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<RedisBackend> found, RedisBackend::Connect());
  EXPECT_THAT(found->Get("k"), IsOkAndHolds(Value("mine")));
  for (const bool empty : {true, false}) {
    if (empty) {
      ::setenv("COORD_CACHE_URL", "", 1);
    } else {
      ::unsetenv("COORD_CACHE_URL");
    }
    ASSERT_OK_AND_ASSIGN(found, RedisBackend::Connect());
    EXPECT_THAT(found->Get("k"), IsOkAndHolds(None()));
  }
  ::unsetenv("COORD_URL");
}

TEST_F(RedisBackendTest, ReconnectMakesNewConnections) {
  EXPECT_OK(backend_.Ping());
  const std::string connections = redis_.Text({"INFO", "stats"});
  const auto count = [](const std::string& info) {
    return std::stoll(info.substr(info.find("total_connections_received:") + 27));
  };
  EXPECT_OK(backend_.Reconnect());
  EXPECT_OK(backend_.Ping());
  EXPECT_EQ(count(redis_.Text({"INFO", "stats"})), count(connections) + 1);
}

}  // namespace
}  // namespace coord
