#include "cache/tiered_backend.h"

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cache/internal/fill_marks.h"
#include "cache/internal/glob.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using internal::MutexLock;
using internal::StrCat;
using ::testing::ElementsAre;
using testing::IsOkAndHolds;
using ::testing::Optional;
using testing::StatusIs;

MATCHER_P(Holds, value, "") { return arg.value == value; }
const auto kNothing = ::testing::Eq(std::nullopt);

// A tier as simple as can be, that fails when told so. Its clock is the test's.
class FakeTier : public Backend {
 public:
  explicit FakeTier(const std::atomic<std::int64_t>& now_ms) : now_ms_(now_ms) {}

  std::string_view kind() const override { return "fake"; }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want,
                                            const CallOptions& call) override {
    const std::string copy(key);
    auto many = GetMany({&copy, 1}, want, call);
    if (!many.ok()) return many.status();
    return (*many)[0];
  }
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want,
                                                             const CallOptions&) override {
    ++reads;
    std::vector<std::optional<Stored>> result;
    {
      const MutexLock lock(mutex_);
      if (down) return Down();
      for (const std::string& key : keys) {
        std::optional<Stored> stored;
        if (Entry* entry = Find(key)) {
          stored = Stored{.value = entry->value};
          if (want == Want::kValueAndTtl) stored->left = LeftOf(*entry);
        }
        result.push_back(stored);
      }
    }
    if (after_read) after_read();
    return result;
  }
  absl::StatusOr<bool> Set(const Write& write, SetIf condition, const CallOptions&) override {
    const auto result = Written(write, condition);
    if (after_write) after_write();
    return result;
  }
  absl::StatusOr<bool> Written(const Write& write, SetIf condition) {
    const MutexLock lock(mutex_);
    if (down) return Down();
    const bool there = Find(write.key) != nullptr;
    if (condition != SetIf::kAlways && there != (condition == SetIf::kPresent)) return false;
    entries_[std::string(write.key)] = {std::string(write.value), ExpiryOf(write.ttl)};
    if (lose_reply) {
      return internal::MakeStatus(absl::StatusCode::kDeadlineExceeded, "lost",
                                  internal::kOutcomeUnknown);
    }
    return true;
  }
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call) override {
    for (const Write& write : writes) {
      const auto set = Set(write, SetIf::kAlways, call);
      if (!set.ok()) return set.status();
    }
    return absl::OkStatus();
  }
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions&) override {
    const MutexLock lock(mutex_);
    if (down) return Down();
    const bool there = Find(key) != nullptr;
    entries_.erase(std::string(key));
    return there;
  }
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call) override {
    if (before_delete) before_delete();
    std::int64_t deleted = 0;
    for (const std::string& key : keys) {
      const auto gone = Delete(key, call);
      if (!gone.ok()) return gone.status();
      deleted += *gone;
    }
    return deleted;
  }
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions&) override {
    const MutexLock lock(mutex_);
    if (down) return Down();
    return Find(key) != nullptr;
  }
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions&) override {
    const MutexLock lock(mutex_);
    if (down) return Down();
    Entry* entry = Find(key);
    return entry == nullptr ? TimeLeft::Missing() : TimeLeft::Of(LeftOf(*entry));
  }
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions&) override {
    const MutexLock lock(mutex_);
    if (down) return Down();
    Entry* entry = Find(key);
    if (entry != nullptr) entry->expires = ExpiryOf(ttl);
    return entry != nullptr;
  }
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call) override {
    return Expire(key, absl::InfiniteDuration(), call);
  }
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view, std::size_t,
                                const CallOptions&) override {
    const MutexLock lock(mutex_);
    if (down) return Down();
    ScanPage page;
    for (const auto& [key, entry] : entries_) {
      if (internal::GlobMatch(pattern, key)) page.keys.push_back(key);
    }
    return page;
  }
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call) override {
    if (before_delete) before_delete();
    const auto page = Scan(pattern, {}, 1, call);
    if (!page.ok()) return page.status();
    for (const std::string& key : page->keys) (void)Delete(key, call);
    return static_cast<std::int64_t>(page->keys.size());
  }
  absl::Status Clear(const CallOptions&) override {
    if (before_delete) before_delete();
    const MutexLock lock(mutex_);
    if (down) return Down();
    entries_.clear();
    return absl::OkStatus();
  }
  absl::Status Ping(const CallOptions&) override { return down ? Down() : absl::OkStatus(); }
  absl::Status Reconnect(const CallOptions& call) override { return Ping(call); }
  void Close() override { ++closed; }
  void Forget(std::string_view) override { ++forgotten; }

  // What it has, without asking as a reader does.
  std::string Peek(std::string_view key) {
    const MutexLock lock(mutex_);
    Entry* entry = Find(key);
    return entry == nullptr ? "(none)" : entry->value;
  }

  std::atomic<bool> down = false;
  std::atomic<bool> lose_reply = false;
  std::atomic<int> reads = 0;
  int closed = 0;
  int forgotten = 0;
  std::function<void()> after_read;   // the answer has been made, and is on its way
  std::function<void()> after_write;  // likewise
  std::function<void()> before_delete;

 private:
  struct Entry {
    std::string value;
    std::int64_t expires = INT64_MAX;
  };
  static absl::Status Down() {
    return internal::MakeStatus(absl::StatusCode::kUnavailable, "down", internal::kUnavailable);
  }
  std::int64_t ExpiryOf(absl::Duration ttl) const {
    return ttl == absl::InfiniteDuration() ? INT64_MAX : now_ms_ + absl::ToInt64Milliseconds(ttl);
  }
  absl::Duration LeftOf(const Entry& entry) const {
    return entry.expires == INT64_MAX ? absl::InfiniteDuration()
                                      : absl::Milliseconds(entry.expires - now_ms_);
  }
  Entry* Find(std::string_view key) {
    const auto found = entries_.find(std::string(key));
    if (found == entries_.end() || found->second.expires <= now_ms_) return nullptr;
    return &found->second;
  }

  const std::atomic<std::int64_t>& now_ms_;
  internal::Mutex mutex_;
  std::map<std::string, Entry> entries_;
};

class TieredBackendTest : public ::testing::Test {
 protected:
  std::atomic<std::int64_t> now_ms_ = 1'000'000;
  std::shared_ptr<FakeTier> top_ = std::make_shared<FakeTier>(now_ms_);
  std::shared_ptr<FakeTier> middle_ = std::make_shared<FakeTier>(now_ms_);
  std::shared_ptr<FakeTier> bottom_ = std::make_shared<FakeTier>(now_ms_);
  std::unique_ptr<TieredBackend> tiers_ =
      TieredBackend::Make({{.backend = top_, .max_ttl = absl::Seconds(1)},
                           {.backend = middle_, .max_ttl = absl::Seconds(10)},
                           {.backend = bottom_}})
          .value();
};

TEST_F(TieredBackendTest, NeedsTiers) {
  const auto bad = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(TieredBackend::Make({}), bad);
  EXPECT_THAT(TieredBackend::Make({{.backend = nullptr}}), bad);
  EXPECT_THAT(TieredBackend::Make({{.backend = top_, .max_ttl = absl::ZeroDuration()}}), bad);
  EXPECT_THAT(tiers_->Get(""), bad);
  EXPECT_THAT(tiers_->DeleteMatching("**"), bad);
}

TEST_F(TieredBackendTest, AHitFillsWhatIsAboveForTheTimeThatIsLeft) {
  EXPECT_OK(bottom_->Set({"short", "s", absl::Milliseconds(300)}, SetIf::kAlways, {}).status());
  EXPECT_OK(bottom_->Set({"long", "l"}, SetIf::kAlways, {}).status());
  for (const char* key : {"short", "long"}) EXPECT_OK(tiers_->Get(key).status());
  EXPECT_THAT(top_->Ttl("short", {}), IsOkAndHolds(TimeLeft::Of(absl::Milliseconds(300))));
  EXPECT_THAT(middle_->Ttl("short", {}), IsOkAndHolds(TimeLeft::Of(absl::Milliseconds(300))));
  EXPECT_THAT(top_->Ttl("long", {}), IsOkAndHolds(TimeLeft::Of(absl::Seconds(1))));
  EXPECT_THAT(middle_->Ttl("long", {}), IsOkAndHolds(TimeLeft::Of(absl::Seconds(10))));
  const int reads = bottom_->reads;
  EXPECT_THAT(tiers_->Get("long"), IsOkAndHolds(Optional(Holds("l"))));
  EXPECT_EQ(bottom_->reads, reads);
  now_ms_ += 9'500;  // the top has forgotten it, the middle has it for half a second
  EXPECT_THAT(tiers_->Get("long"), IsOkAndHolds(Optional(Holds("l"))));
  EXPECT_EQ(bottom_->reads, reads);
  EXPECT_THAT(top_->Ttl("long", {}), IsOkAndHolds(TimeLeft::Of(absl::Milliseconds(500))));
  EXPECT_EQ(tiers_->stats().fills, 3u);
  EXPECT_EQ(tiers_->stats().tiers[2].hits, 2u);
}

TEST_F(TieredBackendTest, OthersWritesAreSeenAfterMaxTtl) {
  EXPECT_OK(tiers_->Set({"k", "mine"}).status());
  EXPECT_OK(bottom_->Set({"k", "theirs"}, SetIf::kAlways, {}).status());
  EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("mine"))));
  now_ms_ += 10'000;
  EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("theirs"))));
}

TEST_F(TieredBackendTest, ManyAreGatheredFromAllTiers) {
  EXPECT_OK(bottom_->Set({"b", "3"}, SetIf::kAlways, {}).status());
  EXPECT_OK(middle_->Set({"m", "2"}, SetIf::kAlways, {}).status());
  EXPECT_OK(top_->Set({"t", "1"}, SetIf::kAlways, {}).status());
  const std::vector<std::string> keys = {"b", "x", "t", "m", "b"};
  EXPECT_THAT(tiers_->GetMany(keys),
              IsOkAndHolds(ElementsAre(Optional(Holds("3")), kNothing, Optional(Holds("1")),
                                       Optional(Holds("2")), Optional(Holds("3")))));
  EXPECT_EQ(bottom_->reads, 1);
  EXPECT_EQ(top_->Peek("b"), "3");
  EXPECT_EQ(top_->Peek("m"), "2");
  EXPECT_EQ(middle_->Peek("b"), "3");
  EXPECT_EQ(middle_->Peek("t"), "(none)");
}

TEST_F(TieredBackendTest, ASetIsEverywhereWithBoundedTime) {
  EXPECT_OK(tiers_->Set({"k", "v", absl::Seconds(5)}).status());
  EXPECT_THAT(top_->Ttl("k", {}), IsOkAndHolds(TimeLeft::Of(absl::Seconds(1))));
  EXPECT_THAT(middle_->Ttl("k", {}), IsOkAndHolds(TimeLeft::Of(absl::Seconds(5))));
  EXPECT_THAT(bottom_->Ttl("k", {}), IsOkAndHolds(TimeLeft::Of(absl::Seconds(5))));
}

TEST_F(TieredBackendTest, WhatTheAuthorityDidNotConfirmIsDroppedAbove) {
  EXPECT_OK(tiers_->Set({"k", "1"}).status());
  bottom_->lose_reply = true;
  EXPECT_THAT(tiers_->Set({"k", "2"}), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(top_->Peek("k"), "(none)");
  EXPECT_EQ(middle_->Peek("k"), "(none)");
  bottom_->lose_reply = false;
  EXPECT_OK(tiers_->Set({"k", "3"}).status());
  bottom_->down = true;
  EXPECT_THAT(tiers_->Set({"k", "4"}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(top_->Peek("k"), "(none)");
}

TEST_F(TieredBackendTest, ConditionsAreTheAuthoritysToJudge) {
  EXPECT_OK(top_->Set({"k", "stale"}, SetIf::kAlways, {}).status());
  EXPECT_THAT(tiers_->Set({"k", "1"}, SetIf::kPresent), IsOkAndHolds(false));
  EXPECT_EQ(top_->Peek("k"), "(none)");
  EXPECT_OK(top_->Set({"k", "stale"}, SetIf::kAlways, {}).status());
  EXPECT_THAT(tiers_->Set({"k", "2"}, SetIf::kAbsent), IsOkAndHolds(true));
  EXPECT_EQ(top_->Peek("k"), "2");
  EXPECT_THAT(tiers_->Set({"k", "3"}, SetIf::kAbsent), IsOkAndHolds(false));
  EXPECT_EQ(top_->Peek("k"), "2");
}

TEST_F(TieredBackendTest, OtherWritesLeaveNothingOldAbove) {
  const auto set = [&] { EXPECT_OK(tiers_->Set({"k1", "v"}).status()); };
  const auto gone = [&](const char* what) {
    EXPECT_EQ(top_->Peek("k1"), "(none)") << what;
    EXPECT_EQ(middle_->Peek("k1"), "(none)") << what;
  };
  const std::vector<Write> writes = {{"k1", "w"}};
  const std::vector<std::string> keys = {"k1"};
  set();
  EXPECT_OK(tiers_->SetMany(writes));
  gone("SetMany");
  set();
  EXPECT_THAT(tiers_->Delete("k1"), IsOkAndHolds(true));
  gone("Delete");
  set();
  EXPECT_THAT(tiers_->DeleteMany(keys), IsOkAndHolds(1));
  gone("DeleteMany");
  set();
  EXPECT_THAT(tiers_->Expire("k1", absl::Milliseconds(5)), IsOkAndHolds(true));
  gone("Expire");
  set();
  EXPECT_THAT(tiers_->DeleteMatching("k*"), IsOkAndHolds(1));
  gone("DeleteMatching");
  set();
  EXPECT_OK(tiers_->Clear());
  gone("Clear");
  EXPECT_EQ(bottom_->Peek("k1"), "(none)");
}

TEST_F(TieredBackendTest, TimesAndPresenceAreTheAuthoritys) {
  EXPECT_OK(tiers_->Set({"k", "v", absl::Seconds(5)}).status());
  EXPECT_THAT(tiers_->Ttl("k"), IsOkAndHolds(TimeLeft::Of(absl::Seconds(5))));
  ASSERT_OK_AND_ASSIGN(const auto stored, tiers_->Get("k", Want::kValueAndTtl));
  EXPECT_EQ(stored->left, absl::Seconds(5));
  EXPECT_OK(bottom_->Delete("k", {}).status());
  EXPECT_THAT(tiers_->Exists("k"), IsOkAndHolds(false));
  EXPECT_TRUE(tiers_->Scan("*")->keys.empty());
}

TEST_F(TieredBackendTest, AnUpperTierThatFailsFailsNothing) {
  top_->down = true;
  EXPECT_THAT(tiers_->Set({"k", "v"}), IsOkAndHolds(true));
  EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
  EXPECT_THAT(tiers_->Delete("k"), IsOkAndHolds(true));
  EXPECT_OK(tiers_->Clear());
  EXPECT_OK(tiers_->Ping());
  EXPECT_OK(tiers_->Reconnect());
  EXPECT_GE(tiers_->stats().tiers[0].failures, 5u);
  EXPECT_EQ(tiers_->stats().tiers[2].failures, 0u);
}

TEST_F(TieredBackendTest, WithoutTheAuthorityWhatIsAboveIsRead) {
  EXPECT_OK(tiers_->Set({"k", "v"}).status());
  bottom_->down = true;
  EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
  ASSERT_OK_AND_ASSIGN(const auto stored, tiers_->Get("k", Want::kValueAndTtl));
  EXPECT_EQ(stored->value, "v");
  EXPECT_EQ(stored->left, absl::Seconds(1));
  const auto down = StatusIs(absl::StatusCode::kUnavailable);
  EXPECT_THAT(tiers_->Get("other"), down);
  EXPECT_THAT(tiers_->Ttl("k"), down);
  EXPECT_THAT(tiers_->Ping(), down);
  EXPECT_THAT(tiers_->Delete("k"), down);
  EXPECT_EQ(top_->Peek("k"), "(none)");
}

// The race that tiers are wrong in: a value on its way up while its key is written.
TEST_F(TieredBackendTest, AReadThatAWriteOvertakesFillsNothing) {
  const std::vector<std::function<void()>> writes = {
      [&] {
        EXPECT_OK(tiers_->Set({"k", "new"}).status());
      },
      [&] { EXPECT_OK(tiers_->Delete("k").status()); },
      [&] { EXPECT_OK(tiers_->Clear()); },
      [&] { EXPECT_OK(tiers_->DeleteMatching("k*").status()); },
      [&] { EXPECT_OK(tiers_->Expire("k", absl::Milliseconds(1)).status()); },
  };
  for (std::size_t i = 0; i < writes.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_OK(bottom_->Set({"k", "old"}, SetIf::kAlways, {}).status());
    EXPECT_OK(top_->Clear({}));
    EXPECT_OK(middle_->Clear({}));
    bottom_->after_read = [&] { std::exchange(bottom_->after_read, nullptr), writes[i](); };
    EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("old"))));
    EXPECT_NE(top_->Peek("k"), "old");
    EXPECT_NE(middle_->Peek("k"), "old");
    EXPECT_EQ(tiers_->stats().fills_dropped, i + 1);
  }
}

// The same between two upper tiers: what was found in the lower one, on its way up.
TEST_F(TieredBackendTest, AReadThatFoundItBetweenTheTiersFillsNothingOld) {
  const std::vector<Write> many = {{"k", "new"}};
  const std::vector<std::function<void()>> writes = {
      [&] { EXPECT_OK(tiers_->SetMany(many)); },
      [&] { EXPECT_OK(tiers_->Expire("k", absl::Milliseconds(1)).status()); },
      [&] { EXPECT_OK(tiers_->DeleteMatching("k*").status()); },
      [&] { EXPECT_OK(tiers_->Clear()); },
      [&] { tiers_->Forget("k"); },
  };
  for (std::size_t i = 0; i < writes.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_OK(bottom_->Set({"k", "old"}, SetIf::kAlways, {}).status());
    EXPECT_OK(middle_->Set({"k", "old"}, SetIf::kAlways, {}).status());
    EXPECT_OK(top_->Clear({}));
    std::promise<void> found;
    std::promise<void> written;
    std::thread reader;
    // Of those that drop before the authority is written and after it, the second time.
    int before = i == 2 || i == 3 ? 1 : 0;
    middle_->before_delete = [&] {
      if (before-- != 0) return;
      EXPECT_OK(middle_->Set({"k", "old"}, SetIf::kAlways, {}).status());
      reader = std::thread([&] { EXPECT_OK(tiers_->Get("k").status()); });
      found.get_future().wait();
    };
    middle_->after_read = [&] {
      const auto self = std::exchange(middle_->after_read, nullptr);
      found.set_value();
      written.get_future().wait();
    };
    writes[i]();
    middle_->before_delete = nullptr;
    written.set_value();
    ASSERT_TRUE(reader.joinable());
    reader.join();
    EXPECT_NE(top_->Peek("k"), "old");
  }
}

TEST_F(TieredBackendTest, WhatChangedPastTheTiersIsForgottenByAll) {
  EXPECT_OK(tiers_->Set({"k", "1"}).status());
  EXPECT_OK(bottom_->Set({"k", "2"}, SetIf::kAlways, {}).status());
  tiers_->Forget("k");
  EXPECT_EQ(bottom_->forgotten, 1);
  EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("2"))));
}

TEST_F(TieredBackendTest, AWriteThatAnotherOvertakesLeavesNothingOldAbove) {
  bottom_->after_write = [&] {
    bottom_->after_write = nullptr;
    EXPECT_OK(tiers_->Set({"k", "second"}).status());
  };
  EXPECT_OK(tiers_->Set({"k", "first"}).status());
  EXPECT_EQ(bottom_->Peek("k"), "second");
  EXPECT_THAT(tiers_->Get("k"), IsOkAndHolds(Optional(Holds("second"))));
}

TEST_F(TieredBackendTest, ThreadsNeverLeaveAnOldValueAbove) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t + 1);
      for (int i = 0; i < 3000; ++i) {
        const std::string key = StrCat("k", random() % 3);
        switch (random() % 6) {
          case 0:
            EXPECT_OK(tiers_->Set({key, StrCat(t, "/", i)}).status());
            break;
          case 1:
            EXPECT_OK(tiers_->Delete(key).status());
            break;
          case 2:
            EXPECT_OK(top_->Delete(key, {}).status());
            break;
          default:
            EXPECT_OK(tiers_->Get(key).status());
            break;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const char* key : {"k0", "k1", "k2"}) {
    const std::string truth = bottom_->Peek(key);
    EXPECT_THAT(top_->Peek(key), ::testing::AnyOf("(none)", truth));
    EXPECT_THAT(middle_->Peek(key), ::testing::AnyOf("(none)", truth));
  }
}

TEST_F(TieredBackendTest, ClosesWhatItOwns) {
  auto tiers = TieredBackend::Make({{.backend = top_}, {.backend = bottom_, .owned = false}});
  (*tiers)->Close();
  (*tiers)->Close();
  EXPECT_EQ(top_->closed, 1);
  EXPECT_EQ(bottom_->closed, 0);
  EXPECT_THAT((*tiers)->Get("k"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT((*tiers)->SetMany({}), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(TieredBackendTest, AForkedChildIsRefused) {
  testing::Process child = testing::ForkAndRun([&] {
    return tiers_->Get("k").status().code() == absl::StatusCode::kFailedPrecondition ? 0 : 1;
  });
  EXPECT_TRUE(child.Wait().ok());
}

TEST(TieredFillMarksTest, AVoidedMarkLetsNobodyInsert) {
  internal::FillMarks marks;
  int inserted = 0;
  const auto insert = [&] { ++inserted; };
  const auto first = marks.Place("k");
  EXPECT_EQ(marks.Place("k"), first);
  EXPECT_TRUE(marks.TakeIfValid("k", first, insert));
  EXPECT_TRUE(marks.TakeIfValid("k", first, insert));
  EXPECT_FALSE(marks.TakeIfValid("k", first, insert));
  EXPECT_EQ(marks.size(), 0u);
  const auto second = marks.Place("k");
  marks.Void("k");
  const auto third = marks.Place("k");
  EXPECT_FALSE(marks.TakeIfValid("k", second, insert));
  EXPECT_TRUE(marks.TakeIfValid("k", third, insert));
  const auto fourth = marks.Place("k");
  marks.VoidAll();
  EXPECT_FALSE(marks.VoidAndInsert("k", fourth, insert));
  EXPECT_EQ(inserted, 3);
  EXPECT_EQ(marks.size(), 0u);
}

}  // namespace
}  // namespace coord
