// A disk cache used by several processes, and by some that are killed. Up to 10 s on a busy
// machine.
#include <signal.h>
#include <sqlite3.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cache/disk_backend.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/process.h"
#include "tests/support/shared_memory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using internal::StrCat;
using testing::ForkAndRun;
using ::testing::HasSubstr;
using testing::Process;
using testing::StatusIs;

std::unique_ptr<DiskBackend> Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<DiskBackend>> disk =
      DiskBackend::Open({.path = path, .timeout = absl::Seconds(60)});
  if (!disk.ok()) testing::Fatal(disk.status().ToString());
  return *std::move(disk);
}

// What SQLite itself says of the file: "ok".
std::string Integrity(const std::string& path) {
  sqlite3* db = nullptr;
  std::string said;
  sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr);
  sqlite3_exec(
      db, "PRAGMA integrity_check",
      [](void* out, int, char** values, char**) {
        *static_cast<std::string*>(out) += values[0];
        return 0;
      },
      &said, nullptr);
  sqlite3_close(db);
  return said;
}

std::string ValueOf(int i) {
  return StrCat(i, ":", std::string(static_cast<std::size_t>(i * 37 % 9000), 'v'));
}

TEST(DiskProcessTest, AKilledWriterLosesNothingThatWasAcknowledged) {
  struct Stage {
    std::atomic<int> acknowledged = -1;
  };
  const testing::TempDir directory;
  const std::string path = directory.File("c.db");
  testing::Shared<Stage> stage;
  int replaced = 0;
  for (int round = 0; round < 25; ++round) {
    const int begin = stage->acknowledged + 1;
    Process writer = ForkAndRun([&] {
      const auto disk = Open(path);
      for (int i = begin;; ++i) {
        // One key is always rewritten, so that pages are freed and used again.
        const std::string key = StrCat(i);
        const std::string value = ValueOf(i);
        const std::vector<Write> both = {{key, value}, {"last", value}};
        if (!disk->SetMany(both).ok()) return 1;
        stage->acknowledged = i;
      }
      return 0;
    });
    ASSERT_TRUE(testing::Eventually([&] { return stage->acknowledged >= begin + round % 7; },
                                    absl::Seconds(30)));
    EXPECT_EQ(writer.Kill().signal, SIGKILL);
    const int last = stage->acknowledged;
    EXPECT_EQ(Integrity(path), "ok");
    const auto disk = Open(path);
    for (int i = begin; i <= last; ++i) {
      const auto got = disk->Get(StrCat(i));
      ASSERT_OK(got.status());
      ASSERT_TRUE(got->has_value()) << i;
      EXPECT_EQ((*got)->value, ValueOf(i));
    }
    // What was cut off is there in full or not at all.
    const auto next = disk->Get(StrCat(last + 1));
    ASSERT_OK(next.status());
    const std::string expected_last = next->has_value() ? ValueOf(last + 1) : ValueOf(last);
    EXPECT_EQ((*disk->Get("last"))->value, expected_last);
    replaced += static_cast<int>(disk->stats().replaced_files);
  }
  EXPECT_EQ(replaced, 0);
}

TEST(DiskProcessTest, OfManyProcessesThatAddOneWins) {
  struct Stage {
    std::atomic<int> ready = 0;
    std::atomic<bool> open = false;
    std::atomic<int> won[400] = {};
  };
  const testing::TempDir directory;
  testing::Shared<Stage> stage;
  std::vector<Process> adders;
  for (int p = 0; p < 4; ++p) {
    adders.push_back(ForkAndRun([&] {
      const auto disk = Open(directory.File("c.db"));
      ++stage->ready;
      (void)testing::Eventually([&] { return stage->open.load(); });
      for (int i = 0; i < 400; ++i) {
        const auto added = disk->Set({StrCat(i), StrCat(p)}, SetIf::kAbsent);
        if (!added.ok()) {
          std::fprintf(stderr, "%s\n", added.status().ToString().c_str());
          return 1;
        }
        if (*added) ++stage->won[i];
      }
      return 0;
    }));
  }
  ASSERT_TRUE(testing::Eventually([&] { return stage->ready == 4; }, absl::Seconds(30)));
  stage->open = true;
  for (Process& adder : adders) {
    const auto result = adder.Wait(absl::Seconds(60));
    EXPECT_TRUE(result.ok()) << result.err;
  }
  for (int i = 0; i < 400; ++i) EXPECT_EQ(stage->won[i], 1) << i;
}

TEST(DiskProcessTest, AFileThatIsLockedForLongIsUnavailableForWritersAndReadable) {
  struct Stage {
    std::atomic<bool> locked = false;
  };
  const testing::TempDir directory;
  const std::string path = directory.File("c.db");
  testing::Shared<Stage> stage;
  Process holder = ForkAndRun([&] {
    EXPECT_OK(Open(path)->Set({"k", "v"}).status());
    sqlite3* db = nullptr;
    sqlite3_open(path.c_str(), &db);
    sqlite3_exec(db, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr);
    stage->locked = true;
    return testing::Eventually([] { return false; }, absl::Seconds(60)) ? 0 : 1;
  });
  ASSERT_TRUE(testing::Eventually([&] { return stage->locked.load(); }, absl::Seconds(30)));
  const auto disk = Open(path);
  const absl::Status refused =
      disk->Set({"k", "w"}, SetIf::kAlways, {.timeout = absl::Milliseconds(50), .stop = {}})
          .status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("Try again")));
  EXPECT_TRUE(coord::IsUnavailable(refused));
  EXPECT_EQ((*disk->Get("k"))->value, "v");
  holder.Kill();
  EXPECT_OK(disk->Set({"k", "w"}).status());
}

TEST(DiskProcessTest, AForkedChildIsRefusedAndHurtsNothing) {
  const testing::TempDir directory;
  const std::string path = directory.File("c.db");
  auto disk = Open(path);
  EXPECT_OK(disk->Set({"k", "v"}).status());
  Process child = ForkAndRun([&] {
    const auto refused = disk->Get("k");
    const auto write = disk->Set({"k", "w"});
    disk.reset();
    const bool own = Open(path)->Set({"child", "c"}).ok();
    return refused.status().code() == absl::StatusCode::kFailedPrecondition &&
                   write.status().code() == absl::StatusCode::kFailedPrecondition && own
               ? 0
               : 1;
  });
  EXPECT_TRUE(child.Wait(absl::Seconds(60)).ok());
  EXPECT_EQ((*disk->Get("k"))->value, "v");
  EXPECT_EQ((*disk->Get("child"))->value, "c");
  EXPECT_OK(disk->Set({"k", "w"}).status());
  EXPECT_EQ(Integrity(path), "ok");
}

// The lock beside the file would be its for as long as it lives.
TEST(DiskProcessTest, AChildThatWasForkedWhileTheFileWasOpenedKeepsNobodyOut) {
  const testing::TempDir directory;
  const std::string path = directory.File("cache.db");
  auto disk = *DiskBackend::Open({.path = path, .timeout = absl::Seconds(10)});
  std::atomic<bool> stop = false;
  absl::Status failed;
  std::thread opener([&] {
    while (!stop && failed.ok())
      failed = disk->Reconnect({.timeout = absl::Seconds(2), .stop = {}});
  });
  std::vector<Process> children;
  for (int i = 0; i < 40; ++i) {
    children.push_back(ForkAndRun([] {
      pause();
      return 0;
    }));
  }
  stop = true;
  opener.join();
  EXPECT_OK(failed);
  EXPECT_OK(DiskBackend::Open({.path = path, .timeout = absl::Seconds(2)}).status());
  for (Process& child : children) child.Kill();
}

TEST(DiskProcessTest, ADeletedFileIsBegunAnew) {
  const testing::TempDir directory;
  const std::string path = directory.File("c.db");
  const auto disk = Open(path);
  EXPECT_OK(disk->Set({"k", "v"}).status());
  for (const char* part : {"", "-wal", "-shm"}) std::remove(StrCat(path, part).c_str());
  EXPECT_EQ(disk->Get("k")->has_value(), false);
  EXPECT_OK(disk->Set({"k", "w"}).status());
  EXPECT_EQ((*Open(path)->Get("k"))->value, "w");
}

}  // namespace
}  // namespace coord
