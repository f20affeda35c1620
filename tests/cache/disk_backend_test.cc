#include "cache/disk_backend.h"

#include <sys/stat.h>

#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace coord {
namespace {

using coord::testing::IsOkAndHolds;
using coord::testing::StatusIs;
using internal::StrCat;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Optional;

MATCHER_P(Holds, value, "") { return arg.value == value; }
const auto kNothing = ::testing::Eq(std::nullopt);

class DiskBackendTest : public ::testing::Test {
 protected:
  std::unique_ptr<DiskBackend> Open() { return OpenAt({.path = directory_.File("c.db")}); }
  std::unique_ptr<DiskBackend> OpenAt(DiskOptions options) {
    options.now = [this] { return now_; };
    absl::StatusOr<std::unique_ptr<DiskBackend>> opened = DiskBackend::Open(std::move(options));
    EXPECT_OK(opened.status());
    return opened.ok() ? *std::move(opened) : nullptr;
  }

  testing::TempDir directory_;
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

TEST_F(DiskBackendTest, KeepsAnyBytesUnderAnyBytes) {
  const auto disk = Open();
  const std::string key("\0\xff k'\"", 6);
  const std::string value("\0\xff v", 4);
  EXPECT_THAT(disk->Set({key, value}), IsOkAndHolds(true));
  EXPECT_THAT(disk->Set({"empty", ""}), IsOkAndHolds(true));
  EXPECT_THAT(disk->Get(key), IsOkAndHolds(Optional(Holds(value))));
  EXPECT_THAT(disk->Get("empty"), IsOkAndHolds(Optional(Holds(""))));
  EXPECT_THAT(disk->Get("other"), IsOkAndHolds(kNothing));
}

TEST_F(DiskBackendTest, LivesOnInTheFile) {
  EXPECT_OK(Open()->Set({"k", "v"}).status());
  EXPECT_THAT(Open()->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
}

TEST_F(DiskBackendTest, RefusesBadArguments) {
  const auto disk = Open();
  const auto bad = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(disk->Get(""), bad);
  EXPECT_THAT(disk->Get(std::string(1025, 'k')), bad);
  EXPECT_THAT(disk->Set({"k", "v", absl::ZeroDuration()}), bad);
  EXPECT_THAT(disk->Set({"k", "v", absl::Microseconds(1500)}), bad);
  EXPECT_THAT(disk->Expire("k", -absl::Seconds(1)), bad);
  EXPECT_THAT(disk->Scan("*", "", 0), bad);
  EXPECT_THAT(disk->Scan("*", "17"), bad);
  EXPECT_THAT(disk->Scan("*", "d1:zz"), bad);
  EXPECT_THAT(disk->DeleteMatching("*"), bad);
  EXPECT_THAT(disk->DeleteMatching(""), bad);
  EXPECT_THAT(disk->Get("k", Want::kValue, {.timeout = absl::ZeroDuration(), .stop = {}}), bad);
  EXPECT_THAT(disk->Set({"k", std::string(std::size_t{200} << 20, 'x')}), bad);
  EXPECT_THAT(DiskBackend::Open({}), bad);
  EXPECT_THAT(DiskBackend::Open({.path = "/tmp/x", .max_bytes = 1}), bad);
}

TEST_F(DiskBackendTest, WritesOnlyWhereTheConditionHolds) {
  const auto disk = Open();
  EXPECT_THAT(disk->Set({"k", "1"}, SetIf::kPresent), IsOkAndHolds(false));
  EXPECT_THAT(disk->Set({"k", "2", absl::Seconds(1)}, SetIf::kAbsent), IsOkAndHolds(true));
  EXPECT_THAT(disk->Set({"k", "3"}, SetIf::kAbsent), IsOkAndHolds(false));
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(Optional(Holds("2"))));
  now_ += absl::Seconds(1);
  EXPECT_THAT(disk->Set({"k", "4"}, SetIf::kPresent), IsOkAndHolds(false));
  EXPECT_THAT(disk->Set({"k", "5"}, SetIf::kAbsent), IsOkAndHolds(true));
  EXPECT_THAT(disk->Set({"k", "6"}, SetIf::kPresent), IsOkAndHolds(true));
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(Optional(Holds("6"))));
}

TEST_F(DiskBackendTest, ManyKeepTheirOrderAndMayRepeat) {
  const auto disk = Open();
  EXPECT_OK(disk->SetMany({}));
  EXPECT_THAT(disk->GetMany({}), IsOkAndHolds(::testing::IsEmpty()));
  const std::vector<Write> writes = {{"a", "1"}, {"b", "2"}, {"a", "3"}};
  EXPECT_OK(disk->SetMany(writes));
  const std::vector<std::string> keys = {"b", "x", "a", "b"};
  EXPECT_THAT(disk->GetMany(keys),
              IsOkAndHolds(ElementsAre(Optional(Holds("2")), kNothing, Optional(Holds("3")),
                                       Optional(Holds("2")))));
  EXPECT_THAT(disk->DeleteMany(keys), IsOkAndHolds(2));
  EXPECT_EQ(disk->usage()->entries, 0u);
}

TEST_F(DiskBackendTest, WhatHasExpiredIsNotThereAtOnce) {
  const auto disk = Open();
  EXPECT_OK(disk->Set({"k", "v", absl::Milliseconds(1500)}).status());
  EXPECT_THAT(disk->Ttl("k"), IsOkAndHolds(TimeLeft::Of(absl::Milliseconds(1500))));
  now_ += absl::Milliseconds(1499);
  const auto stored = disk->Get("k", Want::kValueAndTtl);
  ASSERT_OK(stored.status());
  EXPECT_EQ((*stored)->left, absl::Milliseconds(1));
  now_ += absl::Milliseconds(1);
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(kNothing));
  EXPECT_THAT(disk->Exists("k"), IsOkAndHolds(false));
  EXPECT_THAT(disk->Ttl("k"), IsOkAndHolds(TimeLeft::Missing()));
  EXPECT_THAT(disk->Expire("k", absl::Seconds(1)), IsOkAndHolds(false));
  EXPECT_TRUE(disk->Scan("*")->keys.empty());
  EXPECT_THAT(disk->Delete("k"), IsOkAndHolds(false));
}

TEST_F(DiskBackendTest, AnotherTimeToLiveCountsFromNow) {
  const auto disk = Open();
  EXPECT_OK(disk->Set({"k", "v", absl::Seconds(10)}).status());
  now_ += absl::Seconds(9);
  EXPECT_THAT(disk->Expire("k", absl::Seconds(10)), IsOkAndHolds(true));
  now_ += absl::Seconds(9);
  EXPECT_THAT(disk->Ttl("k"), IsOkAndHolds(TimeLeft::Of(absl::Seconds(1))));
  EXPECT_THAT(disk->Persist("k"), IsOkAndHolds(true));
  EXPECT_THAT(disk->Ttl("k"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
}

TEST_F(DiskBackendTest, AClockThatGoesBackLengthensNoLifeByMoreThanAMinute) {
  const auto disk = Open();
  EXPECT_OK(disk->Set({"k", "v", absl::Seconds(10)}).status());
  EXPECT_OK(disk->Set({"for ever", "v"}).status());
  now_ -= absl::Seconds(59);
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
  EXPECT_THAT(disk->Ttl("k"), IsOkAndHolds(TimeLeft::Of(absl::Seconds(10))));
  now_ -= absl::Hours(24);
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(kNothing));
  EXPECT_THAT(disk->Get("for ever"), IsOkAndHolds(Optional(Holds("v"))));
  EXPECT_OK(disk->Set({"k", "w", absl::Seconds(10)}).status());
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(Optional(Holds("w"))));
}

TEST_F(DiskBackendTest, WritesRemoveWhatHasExpired) {
  const auto disk = Open();
  for (int i = 0; i < 100; ++i) {
    EXPECT_OK(disk->Set({StrCat("k", i), "v", absl::Seconds(1)}).status());
  }
  now_ += absl::Seconds(2);
  EXPECT_OK(disk->Set({"x", "v"}).status());
  EXPECT_OK(disk->Set({"x", "v"}).status());
  EXPECT_EQ(disk->usage()->entries, 1u);
  EXPECT_EQ(disk->stats().expired, 100u);
}

TEST_F(DiskBackendTest, ScansInOrderAndGoesOnInAnother) {
  const auto disk = Open();
  std::set<std::string> expected;
  for (int i = 0; i < 50; ++i) {
    const std::string key = StrCat("user:", i, std::string(1, static_cast<char>(i * 5)));
    EXPECT_OK(disk->Set({key, "v"}).status());
    expected.insert(key);
  }
  EXPECT_OK(disk->Set({"user", "v"}).status());
  EXPECT_OK(disk->Set({"uses:1", "v"}).status());
  const auto other = Open();
  std::vector<std::string> seen;
  std::string cursor;
  int pages = 0;
  do {
    ASSERT_OK_AND_ASSIGN(ScanPage page,
                         (++pages % 2 == 0 ? disk : other)->Scan("user:*", cursor, 7));
    seen.insert(seen.end(), page.keys.begin(), page.keys.end());
    cursor = page.cursor;
  } while (!cursor.empty());
  EXPECT_GT(pages, 7);
  EXPECT_EQ(seen, std::vector<std::string>(expected.begin(), expected.end()));
  EXPECT_THAT(disk->DeleteMatching("user:?[^x]*"), IsOkAndHolds(50));
  EXPECT_THAT(disk->Scan("user")->keys, ElementsAre("user"));
}

TEST_F(DiskBackendTest, ClearLeavesNothingAndGivesTheRoomBack) {
  const auto disk = Open();
  for (int i = 0; i < 50; ++i) {
    EXPECT_OK(disk->Set({StrCat(i), std::string(40'000, 'v')}).status());
  }
  EXPECT_GT(disk->usage()->bytes, 2'000'000u);
  EXPECT_OK(disk->Clear());
  EXPECT_EQ(disk->usage()->entries, 0u);
  EXPECT_LT(disk->usage()->bytes, 50'000u);
  EXPECT_TRUE(disk->Scan("*")->keys.empty());
  disk->Close();
  struct stat file {};
  ASSERT_EQ(stat(disk->path().c_str(), &file), 0);
  EXPECT_LT(file.st_size, 50'000);
}

TEST_F(DiskBackendTest, AfterCloseEverythingIsRefused) {
  const auto disk = Open();
  disk->Close();
  disk->Close();
  const auto closed = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("closed"));
  EXPECT_THAT(disk->Get("k"), closed);
  EXPECT_THAT(disk->GetMany({}), closed);
  EXPECT_THAT(disk->Set({"k", "v"}), closed);
  EXPECT_THAT(disk->SetMany({}), closed);
  EXPECT_THAT(disk->Clear(), closed);
  EXPECT_THAT(disk->Ping(), closed);
  EXPECT_THAT(disk->Reconnect(), closed);
  EXPECT_FALSE(disk->usage().has_value());
}

TEST_F(DiskBackendTest, MakesMissingDirectoriesForTheOwnerAlone) {
  const auto disk = OpenAt({.path = directory_.File("a/b/")});
  EXPECT_EQ(disk->path(), directory_.File("a/b/cache.db"));
  struct stat made {};
  ASSERT_EQ(stat(directory_.File("a").c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777u, 0700u);
  ASSERT_EQ(stat(disk->path().c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777u, 0600u);
}

TEST_F(DiskBackendTest, AFileWhoseDirectoryCannotBeSaysSo) {
  EXPECT_OK(Open()->Ping());
  EXPECT_THAT(DiskBackend::Open({.path = directory_.File("c.db/sub/x.db")}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("c.db")));
  EXPECT_THAT(DiskBackend::Open({.path = "/proc/coord/x.db"}), ::testing::Not(testing::IsOk()));
}

TEST_F(DiskBackendTest, ThreadsReadAndWriteTogether) {
  const auto disk = Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string key = StrCat("k", i % 10);
        if (t % 2 == 0) {
          EXPECT_OK(disk->Set({key, StrCat(key, std::string(3000, 'v'))}).status());
        } else {
          const auto got = disk->Get(key);
          ASSERT_OK(got.status());
          if (*got) {
            EXPECT_TRUE((*got)->value.starts_with(key));
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(disk->usage()->entries, 10u);
}

TEST_F(DiskBackendTest, AThrowingClockIsTheHosts) {
  ASSERT_OK_AND_ASSIGN(
      const auto disk,
      DiskBackend::Open({.path = directory_.File("c.db"), .now = []() -> absl::Time { throw 1; }}));
  EXPECT_OK(disk->Set({"k", "v", absl::Hours(1)}).status());
  EXPECT_THAT(disk->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
}

TEST_F(DiskBackendTest, AStopTokenThatIsSetEndsCalls) {
  const auto disk = Open();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(disk->Set({"k", "v"}, SetIf::kAlways, {.timeout = {}, .stop = stop.get_token()}),
              StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace coord
