// A disk cache whose file is not what it was.
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cache/disk_backend.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace coord {
namespace {

using internal::StrCat;
using ::testing::HasSubstr;
using testing::StatusIs;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

void RunSql(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
}

std::string ValueOf(const std::string& key) {
  return StrCat("value of ", key, std::string(key.size() % 3 == 0 ? 6000 : 100, 'v'));
}

class DiskDamageTest : public ::testing::Test {
 protected:
  // A file with some entries in it, whole and closed.
  std::string Sound() {
    const std::string path = directory_.File("sound.db");
    const auto disk = *DiskBackend::Open({.path = path});
    for (int i = 0; i < 60; ++i) {
      const std::string key = StrCat("key", i);
      EXPECT_OK(disk->Set({key, ValueOf(key)}).status());
    }
    disk->Close();
    return ReadFile(path);
  }
  void Remove(const std::string& path) {
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
      if (entry.path().string().starts_with(path)) std::filesystem::remove(entry.path());
    }
  }

  testing::TempDir directory_;
};

// Whatever stands in the file, each call ends, and what it returns as a value was once stored.
void UseAndJudge(DiskBackend& disk) {
  for (int i = 0; i < 60; ++i) {
    const std::string key = StrCat("key", i);
    const auto got = disk.Get(key);
    ASSERT_OK(got.status());
    if (*got) {
      EXPECT_EQ((*got)->value, ValueOf(key));
    }
  }
  std::string cursor;
  do {
    ASSERT_OK_AND_ASSIGN(ScanPage page, disk.Scan("*", cursor, 16));
    for (const std::string& key : page.keys) EXPECT_TRUE(key.starts_with("key")) << key;
    cursor = page.cursor;
  } while (!cursor.empty());
  for (int i = 0; i < 60; i += 7) {
    const std::string key = StrCat("key", i);
    EXPECT_OK(disk.Set({key, ValueOf(key)}).status());
    const auto got = disk.Get(key);
    ASSERT_OK(got.status());
    ASSERT_TRUE(got->has_value()) << key;
    EXPECT_EQ((*got)->value, ValueOf(key));
  }
  EXPECT_OK(disk.Delete("key3").status());
  EXPECT_OK(disk.Expire("key4", absl::Seconds(100)).status());
  EXPECT_OK(disk.Clear());
  EXPECT_OK(disk.Set({"key1", ValueOf("key1")}).status());
}

// From this seed on.
class DiskFlipTest : public DiskDamageTest, public ::testing::WithParamInterface<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Seeds, DiskFlipTest, ::testing::Values(0, 50, 100, 150));

TEST_P(DiskFlipTest, NoFlippedByteEndsInACrashOrAWrongValue) {
  const std::string sound = Sound();
  const std::string path = directory_.File("c.db");
  std::uint64_t replaced = 0;
  std::uint64_t damaged = 0;
  for (unsigned seed = GetParam() + 1; seed <= GetParam() + 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::string bytes = sound;
    // One byte, some, a lot; every third time where the file says what it is.
    const unsigned flips = seed % 4 == 0 ? 40 : 1 + seed % 4;
    for (unsigned i = 0; i < flips; ++i) {
      const std::size_t range = seed % 3 == 0 ? 1500 : bytes.size();
      bytes[random() % range] ^= static_cast<char>(1 + random() % 255);
    }
    WriteFile(path, bytes);
    WriteFile(path + "-lock", "");
    auto opened = DiskBackend::Open({.path = path});
    if (opened.status().code() == absl::StatusCode::kFailedPrecondition) {
      // It looks as if it were somebody else's, or of a later version.
      EXPECT_THAT(opened.status(),
                  StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(path)));
    } else {
      ASSERT_OK(opened.status());
      UseAndJudge(**opened);
      replaced += (*opened)->stats().replaced_files;
      damaged += (*opened)->stats().damaged_entries;
      (*opened)->Close();
    }
    Remove(path);
  }
  EXPECT_GT(replaced, 5u);
  EXPECT_GT(damaged, 5u);
}

TEST_F(DiskDamageTest, AFileCutShortIsReplacedOrServesWhatIsLeft) {
  const std::string sound = Sound();
  const std::string path = directory_.File("c.db");
  for (const std::size_t size : {std::size_t{1}, std::size_t{50}, std::size_t{1000},
                                 std::size_t{4096}, sound.size() / 2, sound.size() - 1}) {
    SCOPED_TRACE(size);
    WriteFile(path, sound.substr(0, size));
    ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = path}));
    UseAndJudge(*disk);
    // One byte is as good as none, and what the last page lacks may be noticed by nobody but its
    // row's checksum.
    if (size != 1 && size != sound.size() - 1) {
      EXPECT_EQ(disk->stats().replaced_files, 1u);
    }
    disk->Close();
    Remove(path);
  }
}

TEST_F(DiskDamageTest, TheBadFileIsPutAsideToldAndCounted) {
  const std::string path = directory_.File("c.db");
  WriteFile(path + "-lock", "");  // as a cache that was here has left it
  std::vector<std::string> asides;
  for (int i = 1; i <= 5; ++i) {
    WriteFile(path, StrCat("garbage ", i, std::string(5000, 'g')));
    std::string why;
    ASSERT_OK_AND_ASSIGN(
        auto disk,
        DiskBackend::Open(
            {.path = path, .on_replaced = [&](const std::string& aside, const std::string& reason) {
               asides.push_back(aside);
               why = reason;
               throw 1;
             }}));
    EXPECT_THAT(why, HasSubstr("not a database"));
    EXPECT_EQ(disk->stats().replaced_files, 1u);
    EXPECT_OK(disk->Set({"k", "v"}).status());
    disk->Close();
    std::filesystem::remove(path + "-wal");
  }
  ASSERT_EQ(asides.size(), 5u);
  EXPECT_FALSE(std::filesystem::exists(asides[1]));
  for (int i = 3; i <= 5; ++i) {
    EXPECT_EQ(asides[static_cast<std::size_t>(i - 1)], StrCat(path, ".corrupt-", i));
    EXPECT_TRUE(
        ReadFile(asides[static_cast<std::size_t>(i - 1)]).starts_with(StrCat("garbage ", i)));
  }
}

TEST_F(DiskDamageTest, WhoIsToldOfADamagedFileMayUseTheCache) {
  const std::string path = directory_.File("told.db");
  DiskBackend* cache = nullptr;
  absl::Status set = absl::UnknownError("not told");
  auto disk = *DiskBackend::Open({.path = path,
                                  .timeout = absl::Seconds(2),
                                  .on_replaced = [&](const std::string&, const std::string&) {
                                    set = cache->Set({"told", "v"}).status();
                                  }});
  cache = disk.get();
  // Another file is there by the time that a write opens it.
  Remove(path);
  WriteFile(path, std::string(8192, 'x'));
  WriteFile(path + "-lock", "");
  EXPECT_OK(disk->Set({"k", "v"}).status());
  EXPECT_OK(set);
  EXPECT_EQ(disk->stats().replaced_files, 1U);
}

TEST_F(DiskDamageTest, AFileOfAnotherKindWhereThereWasNoCacheIsLeftAlone) {
  const std::string path = directory_.File("notes.txt");
  for (const std::string& text :
       {std::string("my notes"), std::string("x"), std::string(9000, 'n')}) {
    WriteFile(path, text);
    for (int i = 0; i < 2; ++i) {
      EXPECT_THAT(DiskBackend::Open({.path = path}),
                  StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another kind")));
    }
    EXPECT_EQ(ReadFile(path), text);
  }
}

TEST_F(DiskDamageTest, OnRequestADamagedFileIsAnErrorAndStays) {
  const std::string path = directory_.File("c.db");
  WriteFile(path + "-lock", "");
  const std::string garbage(5000, 'g');
  WriteFile(path, garbage);
  EXPECT_THAT(DiskBackend::Open({.path = path, .on_corrupt = DiskOptions::OnCorrupt::kFail}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path)));
  EXPECT_EQ(ReadFile(path), garbage);
}

TEST_F(DiskDamageTest, SomebodyElsesDatabaseIsLeftAlone) {
  const std::string path = directory_.File("theirs.db");
  RunSql(path, "CREATE TABLE photos(name TEXT); INSERT INTO photos VALUES('x')");
  const std::string before = ReadFile(path);
  EXPECT_THAT(DiskBackend::Open({.path = path}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("somebody else")));
  EXPECT_EQ(ReadFile(path), before);
}

TEST_F(DiskDamageTest, AFileOfALaterVersionIsLeftAlone) {
  const std::string path = directory_.File("c.db");
  DiskBackend::Open({.path = path}).value()->Close();
  RunSql(path, "PRAGMA user_version=2; ALTER TABLE coord_cache_entries ADD COLUMN tags BLOB");
  EXPECT_THAT(DiskBackend::Open({.path = path}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("later version")));
}

TEST_F(DiskDamageTest, AFileOfOursWithoutItsTablesIsReplaced) {
  const std::string path = directory_.File("c.db");
  DiskBackend::Open({.path = path}).value()->Close();
  RunSql(path, "DROP TABLE coord_cache_totals");
  ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = path}));
  EXPECT_EQ(disk->stats().replaced_files, 1u);
  EXPECT_OK(disk->Set({"k", "v"}).status());
}

TEST_F(DiskDamageTest, DamageWithinARowIsAMissAndCounted) {
  const std::string path = directory_.File("c.db");
  ASSERT_OK_AND_ASSIGN(auto disk, DiskBackend::Open({.path = path}));
  EXPECT_OK(disk->Set({"value", "v"}).status());
  EXPECT_OK(disk->Set({"expiry", "v", absl::Seconds(1000)}).status());
  RunSql(path,
         "UPDATE coord_cache_entries SET value = x'77' WHERE key = x'76616c7565';"
         "UPDATE coord_cache_entries SET expires = expires + 1 WHERE key = x'657870697279'");
  EXPECT_FALSE(disk->Get("value")->has_value());
  EXPECT_FALSE(disk->Get("expiry")->has_value());
  EXPECT_FALSE(*disk->Exists("expiry"));
  EXPECT_EQ(disk->stats().damaged_entries, 3u);
  EXPECT_EQ(disk->stats().replaced_files, 0u);
  EXPECT_EQ(*disk->Set({"value", "w"}, SetIf::kAbsent), true);
  EXPECT_EQ((*disk->Get("value"))->value, "w");
}

// Another object stands for another process: they share nothing but the file.
TEST_F(DiskDamageTest, OthersAtTheFileGoOnWithTheNewOne) {
  const std::string path = directory_.File("c.db");
  WriteFile(path, Sound());
  ASSERT_OK_AND_ASSIGN(auto first, DiskBackend::Open({.path = path}));
  ASSERT_OK_AND_ASSIGN(auto second, DiskBackend::Open({.path = path}));
  EXPECT_TRUE(second->Get("key1")->has_value());
  // All but the first page, in place.
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const std::string noise(40'000, '\x5a');
  ASSERT_EQ(pwrite(fd, noise.data(), noise.size(), 4096), 40'000);
  // Not closed before the end: that would take SQLite's locks from it.
  EXPECT_OK(first->Set({"k", "new"}).status());
  EXPECT_OK(first->Reconnect());
  EXPECT_OK(first->Set({"k", "new"}).status());
  const auto got = second->Get("k");
  ASSERT_OK(got.status());
  EXPECT_TRUE(got->has_value());
  EXPECT_EQ(first->stats().replaced_files + second->stats().replaced_files, 1u);
  EXPECT_OK(second->Set({"j", "also"}).status());
  first->Close();
  second->Close();
  close(fd);
  ASSERT_OK_AND_ASSIGN(auto third, DiskBackend::Open({.path = path}));
  EXPECT_EQ((*third->Get("k"))->value, "new");
  EXPECT_EQ((*third->Get("j"))->value, "also");
}

}  // namespace
}  // namespace coord
