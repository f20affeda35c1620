#include "cache/memory_backend.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "coord/internal/strings.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"

namespace coord {
namespace {

using internal::StrCat;

class MovedClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixNanos(now_.load()); }
  void Move(absl::Duration by) { now_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<std::int64_t> now_{1'000'000'000};
};

bool Put(Backend& backend, std::string_view key, std::string_view value,
         absl::Duration ttl = absl::InfiniteDuration(), SetIf condition = SetIf::kAlways) {
  const absl::StatusOr<bool> done =
      backend.Set({.key = key, .value = value, .ttl = ttl}, condition);
  EXPECT_TRUE(done.ok()) << done.status();
  return done.ok() && *done;
}

// "-" when it is not there.
std::string Read(Backend& backend, std::string_view key) {
  const auto found = backend.Get(key);
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() && found->has_value() ? (*found)->value : "-";
}

std::vector<std::string> AllKeys(Backend& backend, std::string_view pattern, std::size_t count) {
  std::vector<std::string> keys;
  std::string cursor;
  do {
    absl::StatusOr<ScanPage> page = backend.Scan(pattern, cursor, count);
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) return keys;
    keys.insert(keys.end(), page->keys.begin(), page->keys.end());
    cursor = page->cursor;
  } while (!cursor.empty());
  return keys;
}

TEST(MemoryBackendTest, GivesBackTheBytesThatWereSet) {
  MemoryBackend memory({.max_entries = 10});
  EXPECT_EQ(memory.kind(), "memory");
  const std::string binary("\0\xff\n\0", 4);
  EXPECT_EQ(Read(memory, "a"), "-");
  EXPECT_TRUE(Put(memory, "a", "1"));
  EXPECT_TRUE(Put(memory, binary, binary));
  EXPECT_TRUE(Put(memory, "empty", ""));
  EXPECT_TRUE(Put(memory, std::string(1024, 'k'), std::string(100'000, 'v')));
  EXPECT_EQ(Read(memory, "a"), "1");
  EXPECT_EQ(Read(memory, binary), binary);
  EXPECT_EQ(Read(memory, "empty"), "");
  EXPECT_EQ(Read(memory, std::string(1024, 'k')), std::string(100'000, 'v'));
  EXPECT_TRUE(Put(memory, "a", "longer than before"));
  EXPECT_EQ(Read(memory, "a"), "longer than before");
  std::string value = "before";
  EXPECT_FALSE(*memory.Find("none", value));
  EXPECT_EQ(value, "before");
  EXPECT_TRUE(*memory.Find(binary, value));
  EXPECT_EQ(value, binary);
}

TEST(MemoryBackendTest, BatchesAnswerInOrderAndKeysMayComeTwice) {
  MemoryBackend memory({.max_entries = 10});
  const std::vector<Write> writes = {{.key = "a", .value = "1"}, {.key = "b", .value = "2"}};
  ASSERT_TRUE(memory.SetMany(writes).ok());
  const std::vector<std::string> keys = {"b", "none", "a", "b"};
  const auto found = memory.GetMany(keys);
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 4U);
  EXPECT_EQ((*found)[0]->value, "2");
  EXPECT_FALSE((*found)[1].has_value());
  EXPECT_EQ((*found)[2]->value, "1");
  EXPECT_EQ((*found)[3]->value, "2");
  EXPECT_EQ(*memory.DeleteMany(keys), 2);
  EXPECT_EQ(memory.usage()->entries, 0U);
}

TEST(MemoryBackendTest, ConditionsDecideWhetherItIsWritten) {
  MemoryBackend memory({.max_entries = 10});
  EXPECT_FALSE(Put(memory, "a", "0", absl::InfiniteDuration(), SetIf::kPresent));
  EXPECT_TRUE(Put(memory, "a", "1", absl::InfiniteDuration(), SetIf::kAbsent));
  EXPECT_FALSE(Put(memory, "a", "2", absl::InfiniteDuration(), SetIf::kAbsent));
  EXPECT_EQ(Read(memory, "a"), "1");
  EXPECT_TRUE(Put(memory, "a", "3", absl::InfiniteDuration(), SetIf::kPresent));
  EXPECT_EQ(Read(memory, "a"), "3");
  EXPECT_TRUE(*memory.Delete("a"));
  EXPECT_FALSE(*memory.Delete("a"));
}

TEST(MemoryBackendTest, ExpiresByTheClockToTheMillisecond) {
  MovedClock clock;
  MemoryBackend memory({.max_entries = 10, .clock = &clock});
  Put(memory, "a", "1", absl::Milliseconds(100));
  Put(memory, "b", "1");
  clock.Move(absl::Milliseconds(99));
  EXPECT_EQ(Read(memory, "a"), "1");
  EXPECT_EQ(*memory.Ttl("a"), TimeLeft::Of(absl::Milliseconds(1)));
  EXPECT_EQ((*memory.Get("a", Want::kValueAndTtl))->left, absl::Milliseconds(1));
  EXPECT_EQ((*memory.Get("b", Want::kValueAndTtl))->left, absl::InfiniteDuration());
  EXPECT_EQ(*memory.Ttl("b"), TimeLeft::Forever());
  clock.Move(absl::Milliseconds(1));
  EXPECT_FALSE(*memory.Exists("a"));
  EXPECT_EQ(*memory.Ttl("a"), TimeLeft::Missing());
  EXPECT_FALSE(*memory.Expire("a", absl::Seconds(1)));
  EXPECT_FALSE(Put(memory, "a", "2", absl::InfiniteDuration(), SetIf::kPresent));
  EXPECT_EQ(Read(memory, "a"), "-");
  EXPECT_FALSE(*memory.Delete("a"));
  EXPECT_TRUE(Put(memory, "a", "2", absl::InfiniteDuration(), SetIf::kAbsent));
}

TEST(MemoryBackendTest, AnotherTimeToLiveTakesThePlaceOfTheFirst) {
  MovedClock clock;
  MemoryBackend memory({.max_entries = 10, .clock = &clock});
  Put(memory, "a", "1", absl::Seconds(1));
  Put(memory, "b", "1", absl::Seconds(1));
  Put(memory, "c", "1");
  EXPECT_TRUE(*memory.Expire("a", absl::Seconds(3)));
  EXPECT_TRUE(*memory.Persist("b"));
  EXPECT_TRUE(*memory.Expire("c", absl::Seconds(2)));
  EXPECT_FALSE(*memory.Persist("none"));
  clock.Move(absl::Milliseconds(2500));
  EXPECT_TRUE(*memory.Exists("a"));
  EXPECT_TRUE(*memory.Exists("b"));
  EXPECT_FALSE(*memory.Exists("c"));
  clock.Move(absl::Seconds(1));
  EXPECT_FALSE(*memory.Exists("a"));
  Put(memory, "b", "2", absl::Seconds(1));
  EXPECT_EQ(*memory.Ttl("b"), TimeLeft::Of(absl::Seconds(1)));
}

TEST(MemoryBackendTest, TheMachinesClockLetsItLiveAndDie) {
  MemoryBackend memory({.max_entries = 10});
  Put(memory, "hour", "1", absl::Hours(1));
  Put(memory, "soon", "1", absl::Milliseconds(1));
  const absl::Time set = Clock::Boot()->Now();
  while (Clock::Boot()->Now() < set + absl::Milliseconds(1)) std::this_thread::yield();
  EXPECT_EQ(Read(memory, "soon"), "-");
  EXPECT_EQ(Read(memory, "hour"), "1");
}

TEST(MemoryBackendTest, WhatHasExpiredGoesAsOthersAreWritten) {
  MovedClock clock;
  MemoryBackend memory({.max_entries = 10'000, .clock = &clock});
  for (int i = 0; i < 1000; ++i) Put(memory, StrCat("old", i), "v", absl::Seconds(1));
  clock.Move(absl::Seconds(2));
  EXPECT_EQ(memory.usage()->entries, 1000U);
  // At most 4 slots an entry, 4 slots a write; one that has expired ends a write's look.
  for (int i = 0; i < 2000; ++i) Put(memory, StrCat("new", i % 10), "v");
  EXPECT_EQ(memory.usage()->entries, 10U);
  EXPECT_EQ(memory.usage()->evicted, 0U);
}

TEST(MemoryBackendTest, BoundsHoldAfterEachCall) {
  for (const Eviction eviction : {Eviction::kTinyLfu, Eviction::kLru}) {
    for (const std::size_t shards : {0U, 4U}) {
      MemoryBackend memory(
          {.max_entries = 100, .max_bytes = 20'000, .eviction = eviction, .shards = shards});
      std::mt19937 random(1);
      for (int i = 0; i < 20'000; ++i) {
        Put(memory, StrCat(random() % 500), std::string(random() % 600, 'v'));
        ASSERT_LE(memory.usage()->entries, 100U);
        ASSERT_LE(memory.usage()->bytes, 20'000U);
      }
      EXPECT_GT(memory.usage()->evicted, 1000U);
      EXPECT_EQ(AllKeys(memory, "*", 10).size(), memory.usage()->entries);
    }
  }
}

TEST(MemoryBackendTest, KeepsAsManyAsItMay) {
  MemoryBackend memory({.max_entries = 5000});
  for (int i = 0; i < 5000; ++i) Put(memory, StrCat(i), "v");
  EXPECT_EQ(memory.usage()->entries, 5000U);
  EXPECT_EQ(memory.usage()->evicted, 0U);
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(Read(memory, StrCat(i)), "v");
}

TEST(MemoryBackendTest, LruKeepsWhatWasReadLast) {
  MemoryBackend memory({.max_entries = 3, .eviction = Eviction::kLru});
  for (const char* key : {"a", "b", "c"}) Put(memory, key, "v");
  EXPECT_EQ(Read(memory, "a"), "v");
  Put(memory, "d", "v");
  EXPECT_FALSE(*memory.Exists("b"));
  EXPECT_TRUE(*memory.Exists("a"));
}

TEST(MemoryBackendTest, AValueThatNeverFitsTakesAwayWhatWasThere) {
  MemoryBackend memory({.max_bytes = 1000});
  Put(memory, "a", "small");
  Put(memory, "b", "small");
  EXPECT_TRUE(Put(memory, "a", std::string(1000, 'v')));
  EXPECT_EQ(Read(memory, "a"), "-");
  EXPECT_EQ(Read(memory, "b"), "small");
  EXPECT_EQ(memory.usage()->evicted, 1U);
  EXPECT_FALSE(Put(memory, "b", std::string(1000, 'v'), absl::InfiniteDuration(), SetIf::kAbsent));
  EXPECT_EQ(Read(memory, "b"), "small");
}

TEST(MemoryBackendTest, ScansFindEachKeyOnceWhenNobodyWrites) {
  for (const std::size_t shards : {1U, 8U}) {
    MemoryBackend memory({.max_entries = 100'000, .shards = shards});
    std::set<std::string> put;
    for (int i = 0; i < 3000; ++i) {
      Put(memory, StrCat("k:", i), "v");
      put.insert(StrCat("k:", i));
      Put(memory, StrCat("other:", i), "v");
    }
    for (const std::size_t count : {1U, 7U, 1000U, 1'000'000U}) {
      std::vector<std::string> keys = AllKeys(memory, "k:*", count);
      EXPECT_EQ(keys.size(), put.size());
      EXPECT_EQ(std::set<std::string>(keys.begin(), keys.end()), put);
    }
  }
}

TEST(MemoryBackendTest, ScansFindWhatIsThereAllTheTimeWhileOthersWrite) {
  MemoryBackend memory({.max_entries = 100'000, .shards = 2});
  for (int i = 0; i < 500; ++i) Put(memory, StrCat("stays", i), "v");
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop.load(); ++i) {
      Put(memory, StrCat("goes", i % 20'000), "v");
      Put(memory, StrCat("stays", i % 500), "w");
      (void)memory.Delete(StrCat("goes", (i + 10'000) % 20'000));
    }
  });
  for (int round = 0; round < 50; ++round) {
    const std::vector<std::string> keys = AllKeys(memory, "stays*", 50);
    EXPECT_EQ(std::set<std::string>(keys.begin(), keys.end()).size(), 500U);
  }
  stop = true;
  writer.join();
}

TEST(MemoryBackendTest, RefusesCursorsThatAreNone) {
  MemoryBackend memory({.max_entries = 10});
  for (const char* cursor : {"x", "0", ":", "0:", ":0", "1:0", "-1:0", "0:-1", "0:4294967296",
                             "0:0:0", "0:99999999999999999999", " 0:0"}) {
    EXPECT_EQ(memory.Scan("*", cursor).status().code(), absl::StatusCode::kInvalidArgument)
        << cursor;
  }
  EXPECT_EQ(memory.Scan("*", "", 0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MemoryBackendTest, DeletesWhatMatchesAndNothingElse) {
  MemoryBackend memory({.max_entries = 10'000});
  for (int i = 0; i < 2000; ++i) {
    Put(memory, StrCat("a:", i), "v");
    Put(memory, StrCat("b:", i), "v");
  }
  for (const char* pattern : {"", "*", "**"}) {
    EXPECT_EQ(memory.DeleteMatching(pattern).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(*memory.DeleteMatching("a:*"), 2000);
  EXPECT_EQ(memory.usage()->entries, 2000U);
  EXPECT_EQ(Read(memory, "b:1999"), "v");
  EXPECT_TRUE(memory.Clear().ok());
  EXPECT_EQ(memory.usage()->entries, 0U);
  EXPECT_EQ(memory.usage()->bytes, 0U);
  EXPECT_EQ(Read(memory, "b:1999"), "-");
  Put(memory, "b:1999", "again");
  EXPECT_EQ(Read(memory, "b:1999"), "again");
}

TEST(MemoryBackendTest, RefusesBadArgumentsAndChangesNothing) {
  MemoryBackend memory({.max_entries = 10});
  const auto invalid = [](const absl::Status& status) {
    return status.code() == absl::StatusCode::kInvalidArgument;
  };
  Put(memory, "a", "1");
  for (const std::string& key : {std::string(), std::string(1025, 'k')}) {
    EXPECT_TRUE(invalid(memory.Get(key).status()));
    EXPECT_TRUE(invalid(memory.Set({.key = key, .value = "v"}).status()));
    EXPECT_TRUE(invalid(memory.Delete(key).status()));
    EXPECT_TRUE(invalid(memory.Exists(key).status()));
    EXPECT_TRUE(invalid(memory.Ttl(key).status()));
    EXPECT_TRUE(invalid(memory.Persist(key).status()));
    EXPECT_TRUE(invalid(memory.GetMany(std::vector<std::string>{"a", key}).status()));
    EXPECT_TRUE(invalid(memory.DeleteMany(std::vector<std::string>{"a", key}).status()));
  }
  for (const absl::Duration ttl : {absl::ZeroDuration(), absl::Milliseconds(-1),
                                   absl::Microseconds(1500), -absl::InfiniteDuration()}) {
    EXPECT_TRUE(invalid(memory.Set({.key = "a", .value = "2", .ttl = ttl}).status()));
    EXPECT_TRUE(invalid(memory.Expire("a", ttl).status()));
    const std::vector<Write> writes = {{.key = "a", .value = "2"},
                                       {.key = "b", .value = "2", .ttl = ttl}};
    EXPECT_TRUE(invalid(memory.SetMany(writes)));
  }
  EXPECT_EQ(Read(memory, "a"), "1");
  MemoryBackend unbounded({});
  EXPECT_TRUE(invalid(unbounded.Get("a").status()));
  EXPECT_TRUE(invalid(unbounded.Ping()));
}

TEST(MemoryBackendTest, RefusesEverythingAfterClose) {
  MemoryBackend memory({.max_entries = 10});
  Put(memory, "a", "1");
  memory.Close();
  memory.Close();
  const auto closed = [](const absl::Status& status) {
    return status.code() == absl::StatusCode::kFailedPrecondition;
  };
  std::string value;
  EXPECT_TRUE(closed(memory.Get("a").status()));
  EXPECT_TRUE(closed(memory.Find("a", value).status()));
  EXPECT_TRUE(closed(memory.GetMany({}).status()));
  EXPECT_TRUE(closed(memory.Set({.key = "a", .value = "1"}).status()));
  EXPECT_TRUE(closed(memory.SetMany({})));
  EXPECT_TRUE(closed(memory.Delete("a").status()));
  EXPECT_TRUE(closed(memory.DeleteMany({}).status()));
  EXPECT_TRUE(closed(memory.Exists("a").status()));
  EXPECT_TRUE(closed(memory.Ttl("a").status()));
  EXPECT_TRUE(closed(memory.Expire("a", absl::Seconds(1)).status()));
  EXPECT_TRUE(closed(memory.Persist("a").status()));
  EXPECT_TRUE(closed(memory.Scan("*").status()));
  EXPECT_TRUE(closed(memory.DeleteMatching("a*").status()));
  EXPECT_TRUE(closed(memory.Clear()));
  EXPECT_TRUE(closed(memory.Ping()));
  EXPECT_TRUE(closed(memory.Reconnect()));
  EXPECT_EQ(memory.usage()->entries, 0U);
}

TEST(MemoryBackendTest, OneOfManyWinsAnAbsentKey) {
  MemoryBackend memory({.max_entries = 1000});
  constexpr int kThreads = 8;
  constexpr int kKeys = 500;
  std::atomic<int> won{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int key = 0; key < kKeys; ++key) {
        if (Put(memory, StrCat(key), StrCat(i), absl::InfiniteDuration(), SetIf::kAbsent)) ++won;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won.load(), kKeys);
}

// Each thread has keys of its own, of which it knows what must be there, and reads everybody's.
TEST(MemoryBackendTest, ManyThreadsSeeWhatTheyWroteAndNothingTorn) {
  MemoryBackend memory({.max_entries = 100'000, .shards = 2});
  constexpr int kThreads = 4;
  constexpr int kKeys = 300;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&memory, thread] {
      std::mt19937 random(static_cast<unsigned>(thread));
      std::map<std::string, std::string> model;
      for (int i = 0; i < 10'000; ++i) {
        const std::string key = StrCat(thread, ":", random() % kKeys);
        switch (random() % 6) {
          case 0:
          case 1: {
            // Of one letter: a mixture of two values would show.
            std::string value(random() % 200, static_cast<char>('a' + random() % 26));
            Put(memory, key, value);
            model[key] = std::move(value);
            break;
          }
          case 2:
            EXPECT_EQ(*memory.Delete(key), model.erase(key) > 0);
            break;
          case 3: {
            const std::string value =
                Read(memory, StrCat(random() % kThreads, ":", random() % kKeys));
            EXPECT_TRUE(value.empty() || value.find_first_not_of(value[0]) == std::string::npos);
            break;
          }
          default:
            const auto found = model.find(key);
            EXPECT_EQ(Read(memory, key), found == model.end() ? "-" : found->second);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MemoryBackendTest, BoundsHoldWhenManyHaveWrittenReadAndCleared) {
  MemoryBackend memory({.max_entries = 200, .max_bytes = 50'000});
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&memory, thread] {
      std::mt19937 random(thread);
      for (int i = 0; i < 10'000; ++i) {
        const std::string key = StrCat(random() % 1000);
        if (i % 3 == 0) Put(memory, key, std::string(random() % 500, 'v'), absl::Hours(1));
        (void)Read(memory, key);
        if (i % 2000 == 0) {
          EXPECT_TRUE(memory.Clear().ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Backend::Usage usage = *memory.usage();
  EXPECT_LE(usage.entries, 200U);
  EXPECT_LE(usage.bytes, 50'000U);
  std::uint64_t bytes = 0;
  const std::vector<std::string> keys = AllKeys(memory, "*", 100);
  for (const std::string& key : keys) bytes += 80 + key.size() + Read(memory, key).size();
  EXPECT_EQ(keys.size(), usage.entries);
  EXPECT_EQ(bytes, usage.bytes);
}

// Another thread of the parent may have held any lock, and have been in the middle of any read.
TEST(MemoryBackendTest, AForkedChildReadsAndIsRefusedWrites) {
  MemoryBackend memory({.max_entries = 10});
  EXPECT_TRUE(Put(memory, "a", "1"));
  testing::Process child = testing::ForkAndRun([&] {
    const auto refused = [](const absl::Status& status) {
      return status.code() == absl::StatusCode::kFailedPrecondition;
    };
    const std::vector<std::string> keys = {"a"};
    const std::vector<Write> writes = {{"a", "2"}};
    const bool good =
        refused(memory.Set({"a", "2"}).status()) && refused(memory.SetMany(writes)) &&
        refused(memory.Delete("a").status()) && refused(memory.DeleteMany(keys).status()) &&
        refused(memory.Expire("a", absl::Seconds(1)).status()) &&
        refused(memory.Persist("a").status()) && refused(memory.DeleteMatching("a*").status()) &&
        refused(memory.Clear()) && Read(memory, "a") == "1";
    memory.Close();
    return good && refused(memory.Get("a").status()) ? 0 : 1;
  });
  EXPECT_TRUE(child.Wait().ok());
  EXPECT_EQ(Read(memory, "a"), "1");
}

}  // namespace
}  // namespace coord
