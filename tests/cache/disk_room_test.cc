// How much of a disk a cache takes, and what it does when there is none left.
#include <sys/mount.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cache/disk_backend.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/own_namespaces.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace coord {
namespace {

using internal::StrCat;
using ::testing::HasSubstr;
using testing::StatusIs;

std::uint64_t SizeOf(const std::string& path) {
  struct stat there {};
  return stat(path.c_str(), &there) == 0 ? static_cast<std::uint64_t>(there.st_size) : 0;
}

// One of the readers is always in the middle of a read.
TEST(DiskRoomTest, TheLogBeginsAgainThoughReadersNeverPause) {
  const testing::TempDir directory;
  const std::string path = directory.File("c.db");
  const auto disk = *DiskBackend::Open({.path = path, .timeout = absl::Seconds(60)});
  std::vector<std::string> keys;
  for (int i = 0; i < 300; ++i) keys.push_back(StrCat("k", i));
  const std::string value(3'000, 'v');
  for (const std::string& key : keys) ASSERT_OK(disk->Set({key, value}).status());
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!stop) EXPECT_OK(disk->GetMany(keys).status());
    });
  }
  for (std::size_t i = 0; i < 1'500; ++i) EXPECT_OK(disk->Set({keys[i % 300], value}).status());
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_LT(SizeOf(path + "-wal"), std::uint64_t{40} << 20);
}

TEST(DiskRoomTest, TenTimesTheBoundLeavesTheFileWithinIt) {
  constexpr std::uint64_t kBound = 1 << 20;
  for (const std::size_t size : {std::size_t{20}, std::size_t{3'000}, std::size_t{60'000}}) {
    SCOPED_TRACE(size);
    const testing::TempDir directory;
    ASSERT_OK_AND_ASSIGN(auto disk,
                         DiskBackend::Open({.path = directory.File("c.db"), .max_bytes = kBound}));
    const std::size_t per_write = 1 + 2'000 / size;
    std::size_t written = 0;
    for (std::uint64_t bytes = 0; bytes < 10 * kBound;) {
      std::vector<std::string> keys;
      std::vector<Write> writes;
      const std::string value(size, 'v');
      for (std::size_t i = 0; i < per_write; ++i) keys.push_back(StrCat("k", written++));
      for (const std::string& key : keys) writes.push_back({key, value});
      ASSERT_OK(disk->SetMany(writes));
      bytes += per_write * (size + 60);
      ASSERT_LE(SizeOf(disk->path()), kBound + (64 << 10));
    }
    EXPECT_LE(SizeOf(disk->path() + "-wal"), 8u << 20);
    EXPECT_LE(disk->usage()->bytes, kBound);
    EXPECT_GT(disk->usage()->bytes, kBound / 2);
    EXPECT_GT(disk->stats().evicted, 0u);
    EXPECT_EQ(disk->stats().replaced_files, 0u);
    // The newest are there.
    EXPECT_TRUE(disk->Get(StrCat("k", written - 1))->has_value());
    EXPECT_FALSE(disk->Get("k0")->has_value());
  }
}

TEST(DiskRoomTest, WhatIsReadOutlivesWhatIsNot) {
  const testing::TempDir directory;
  ASSERT_OK_AND_ASSIGN(auto disk,
                       DiskBackend::Open({.path = directory.File("c.db"), .max_bytes = 1 << 20}));
  const std::string value(10'000, 'v');
  EXPECT_OK(disk->Set({"read", value}).status());
  EXPECT_OK(disk->Set({"unread", value}).status());
  for (int i = 0; i < 500; ++i) {
    EXPECT_OK(disk->Set({StrCat(i), value}).status());
    ASSERT_TRUE(disk->Get("read")->has_value()) << i;
  }
  EXPECT_FALSE(disk->Get("unread")->has_value());
}

TEST(DiskRoomTest, WhatHasExpiredGoesFirst) {
  const testing::TempDir directory;
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = directory.File("c.db"),
                                                     .max_bytes = 1 << 20,
                                                     .now = [&] { return now; }}));
  const std::string value(10'000, 'v');
  EXPECT_OK(disk->Set({"old", value}).status());
  for (int i = 0; i < 60; ++i) EXPECT_OK(disk->Set({StrCat(i), value, absl::Seconds(1)}).status());
  now += absl::Seconds(2);
  for (int i = 0; i < 60; ++i) EXPECT_OK(disk->Set({StrCat("n", i), value}).status());
  EXPECT_TRUE(disk->Get("old")->has_value());
  EXPECT_EQ(disk->stats().evicted, 0u);
}

TEST(DiskRoomTest, ALowerBoundShrinksTheFile) {
  const testing::TempDir directory;
  const std::string path = directory.File("c.db");
  ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = path, .max_bytes = 4 << 20}));
  for (int i = 0; i < 300; ++i) {
    EXPECT_OK(disk->Set({StrCat(i), std::string(10'000, 'v')}).status());
  }
  disk->Close();
  EXPECT_GT(SizeOf(path), 3'000'000u);
  ASSERT_OK_AND_ASSIGN(auto smaller, DiskBackend::Open({.path = path, .max_bytes = 1 << 20}));
  for (int i = 0; i < 20; ++i) EXPECT_OK(smaller->Set({"k", "v"}).status());
  smaller->Close();
  EXPECT_LE(SizeOf(path), (1u << 20) + (256u << 10));
}

class DiskFullTest : public testing::OwnNamespacesTest {
 protected:
  void Mount(const char* options) {
    ASSERT_EQ(mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, options), 0);
  }
  void TearDown() override {
    if (testing::InOwnNamespaces()) umount2(directory_.path().c_str(), MNT_DETACH);
  }
  testing::TempDir directory_;
};

TEST_F(DiskFullTest, WritesFailReadsGoOnAndRoomHeals) {
  if (RanInside()) return;
  ASSERT_NO_FATAL_FAILURE(Mount("size=3m"));
  const std::string path = directory_.File("c.db");
  ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = path}));
  // Something else takes what is left of the disk.
  const std::string value(50'000, 'v');
  absl::Status full;
  int written = 0;
  while (full.ok() && written < 1000) {
    const std::string first = StrCat("a", written);
    const std::string second = StrCat("b", written);
    const std::vector<Write> both = {{first, value}, {second, value}};
    full = disk->SetMany(both);
    if (full.ok()) ++written;
  }
  EXPECT_GT(written, 2);
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(path)));
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("268435456")));
  for (int i = 0; i < written; ++i) {
    EXPECT_TRUE(disk->Get(StrCat("a", i))->has_value()) << i;
    EXPECT_TRUE(disk->Get(StrCat("b", i))->has_value()) << i;
  }
  // Nothing of what failed.
  EXPECT_FALSE(disk->Get(StrCat("a", written))->has_value());
  EXPECT_FALSE(disk->Get(StrCat("b", written))->has_value());
  ASSERT_EQ(mount("tmpfs", directory_.path().c_str(), "tmpfs", MS_REMOUNT, "size=30m"), 0);
  EXPECT_OK(disk->Set({"more", value}).status());
  EXPECT_TRUE(disk->Get("more")->has_value());
  EXPECT_EQ(disk->stats().replaced_files, 0u);
}

TEST_F(DiskFullTest, AReadOnlyDiskIsRead) {
  if (RanInside()) return;
  ASSERT_NO_FATAL_FAILURE(Mount("size=8m"));
  const std::string path = directory_.File("c.db");
  {
    ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = path}));
    EXPECT_OK(disk->Set({"k", "v"}).status());
  }
  for (const bool bare : {false, true}) {
    SCOPED_TRACE(bare);
    if (bare) {
      std::filesystem::remove(path + "-wal");
      std::filesystem::remove(path + "-shm");
      std::filesystem::remove(path + "-lock");
    }
    ASSERT_EQ(mount("tmpfs", directory_.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, ""), 0);
    {
      auto disk = DiskBackend::Open({.path = path});
      ASSERT_OK(disk.status());
      EXPECT_EQ((*(*disk)->Get("k"))->value, "v");
      EXPECT_THAT((*disk)->Set({"k", "w"}), StatusIs(absl::StatusCode::kPermissionDenied));
      EXPECT_EQ((*(*disk)->Get("k"))->value, "v");
    }
    EXPECT_THAT(DiskBackend::Open({.path = directory_.File("new.db")}),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("new.db")));
    ASSERT_EQ(mount("tmpfs", directory_.path().c_str(), "tmpfs", MS_REMOUNT, ""), 0);
  }
}

}  // namespace
}  // namespace coord
