#include "cache/internal/recovery_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SetClock : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
};

// A server that can be away, and does something else just before or after what it is asked.
class DoubleBackend : public Backend {
 public:
  struct Kept {
    std::string value;
    absl::Duration ttl = absl::InfiniteDuration();
    bool operator==(const Kept&) const = default;
  };
  std::map<std::string, Kept> there;
  bool away = false;
  std::string refused_key;  // nothing is done with it
  int round_trips = 0;
  std::vector<std::string> log;
  std::function<void()> before_set, after_set, before_delete, after_get;

  std::string_view kind() const override { return "double"; }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view, Want, const CallOptions&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want,
                                                             const CallOptions&) override {
    if (absl::Status status = Asked("GetMany", keys); !status.ok()) return status;
    std::vector<std::optional<Stored>> found;
    for (const std::string& key : keys) {
      const auto at = there.find(key);
      if (at == there.end()) {
        found.emplace_back();
      } else {
        found.push_back(Stored{at->second.value});
        if (want == Want::kValueAndTtl) found.back()->left = at->second.ttl;
      }
    }
    Do(after_get);
    return found;
  }
  absl::StatusOr<bool> Set(const Write& write, SetIf condition, const CallOptions&) override {
    Do(before_set);
    const std::vector<std::string> keys = {std::string(write.key)};
    if (absl::Status status = Asked("Set", keys); !status.ok()) return status;
    if (condition == SetIf::kAbsent && there.contains(keys[0])) return false;
    there[keys[0]] = {std::string(write.value), write.ttl};
    Do(after_set);
    return true;
  }
  absl::Status SetMany(std::span<const Write>, const CallOptions&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<bool> Delete(std::string_view, const CallOptions&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions&) override {
    Do(before_delete);
    if (absl::Status status = Asked("DeleteMany", keys); !status.ok()) return status;
    for (const std::string& key : keys) there.erase(key);
    return 1;
  }
  absl::StatusOr<bool> Exists(std::string_view, const CallOptions&) override { return false; }
  absl::StatusOr<TimeLeft> Ttl(std::string_view, const CallOptions&) override {
    return TimeLeft::Missing();
  }
  absl::StatusOr<bool> Expire(std::string_view, absl::Duration, const CallOptions&) override {
    return false;
  }
  absl::StatusOr<bool> Persist(std::string_view, const CallOptions&) override { return false; }
  absl::StatusOr<ScanPage> Scan(std::string_view, std::string_view, std::size_t,
                                const CallOptions&) override {
    return ScanPage();
  }
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view, const CallOptions&) override {
    return 0;
  }
  absl::Status Clear(const CallOptions&) override { return absl::OkStatus(); }
  absl::Status Ping(const CallOptions&) override { return Asked("Ping", {}); }
  absl::Status Reconnect(const CallOptions&) override { return absl::OkStatus(); }
  void Close() override {}

 private:
  absl::Status Asked(std::string_view what, std::span<const std::string> keys) {
    ++round_trips;
    log.push_back(StrCat(what, " ", keys.size()));
    if (away) return absl::UnavailableError("away");
    for (const std::string& key : keys) {
      if (key == refused_key) return absl::PermissionDeniedError("no");
    }
    return absl::OkStatus();
  }
  static void Do(std::function<void()>& once) {
    if (once) std::exchange(once, nullptr)();
  }
};

class RecoveryQueueTest : public ::testing::Test {
 protected:
  RecoveryWiring Wiring(std::size_t max_keys = 100'000) {
    return {.backend = &backend_,
            .clock = &clock_,
            .options = {.max_keys = max_keys},
            .post_after =
                [this](absl::Duration, std::function<void()> task) {
                  posted_.push_back(std::move(task));
                  return true;
                },
            .is_away = [](const absl::Status& status) { return absl::IsUnavailable(status); },
            .report = [this](const absl::Status& problem) { reported_.push_back(problem); },
            .observe =
                [this](std::size_t keys, absl::FunctionRef<absl::Status()> replay) {
                  observed_ += keys;
                  return replay();
                }};
  }
  // What is due runs; what that posts does not.
  void Tick() {
    for (auto& task : std::exchange(posted_, {})) task();
  }
  std::optional<std::string> There(const std::string& key) {
    const auto at = backend_.there.find(key);
    if (at == backend_.there.end()) return std::nullopt;
    return at->second.value;
  }
  void WaitOutGrace() {
    clock_.now += absl::Minutes(1);
    Tick();
  }

  SetClock clock_;
  DoubleBackend backend_;
  std::deque<std::function<void()>> posted_;
  std::vector<absl::Status> reported_;
  std::size_t observed_ = 0;
};

TEST_F(RecoveryQueueTest, NothingRunsWhileNothingWaits) {
  RecoveryQueue queue(Wiring());
  EXPECT_THAT(posted_, IsEmpty());
  queue.Overtaken("k");
  queue.Failed("k", "v", absl::Minutes(1));
  EXPECT_EQ(posted_.size(), 1u);
  Tick();
  EXPECT_EQ(queue.size(), 0u);
  WaitOutGrace();
  EXPECT_THAT(posted_, IsEmpty());
  EXPECT_THAT(reported_, IsEmpty());
}

TEST_F(RecoveryQueueTest, WhileTheServerIsAwayItIsOnlyPinged) {
  RecoveryQueue queue(Wiring());
  backend_.away = true;
  queue.Failed("k", "v", absl::Minutes(1));
  Tick();
  Tick();
  EXPECT_THAT(backend_.log, ElementsAre("Ping 0", "Ping 0"));
  EXPECT_EQ(queue.size(), 1u);
}

TEST_F(RecoveryQueueTest, TheLastWriteOfAKeyIsMadeUpForWithWhatIsLeftOfItsTime) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "older", absl::Hours(1));
  queue.Failed("k", "v", absl::Minutes(1));
  queue.Failed("forever", "v", absl::InfiniteDuration());
  EXPECT_EQ(queue.size(), 2u);
  clock_.now += absl::Seconds(20);
  Tick();
  EXPECT_EQ(backend_.there.at("k"), (DoubleBackend::Kept{"v", absl::Seconds(40)}));
  EXPECT_EQ(backend_.there.at("forever").ttl, absl::InfiniteDuration());
  EXPECT_EQ(observed_, 2u);
}

TEST_F(RecoveryQueueTest, AValueWhoseTimeRanOutDeletesWhatIsOlder) {
  backend_.there["k"] = {"older"};
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Seconds(5));
  clock_.now += absl::Seconds(5);
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
}

TEST_F(RecoveryQueueTest, ADeletionReachesTheServer) {
  backend_.there["k"] = {"older"};
  RecoveryQueue queue(Wiring());
  queue.Failed("k", std::nullopt, absl::InfiniteDuration());
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
}

TEST_F(RecoveryQueueTest, AnotherValueIsNeverReplacedButGoes) {
  backend_.there["k"] = {"another", absl::Minutes(1)};
  backend_.there["same"] = {"v", absl::Seconds(30)};
  backend_.there["longer"] = {"v", absl::InfiniteDuration()};
  RecoveryQueue queue(Wiring());
  for (const char* key : {"k", "same", "longer"}) queue.Failed(key, "v", absl::Minutes(1));
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
  EXPECT_EQ(There("same"), "v");
  EXPECT_EQ(There("longer"), std::nullopt);
}

TEST_F(RecoveryQueueTest, AValueThatComesBetweenLookAndWriteStays) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  backend_.after_get = [&] { backend_.there["k"] = {"newer"}; };
  Tick();
  EXPECT_EQ(There("k"), "newer");
  EXPECT_EQ(queue.size(), 0u);
}

TEST_F(RecoveryQueueTest, WhatIsOvertakenIsForgotten) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  queue.Failed("deleted", std::nullopt, absl::InfiniteDuration());
  queue.Failed("prefix:a", "v", absl::Minutes(1));
  backend_.there["deleted"] = {"newer"};
  queue.Overtaken("k");
  queue.Overtaken("deleted");
  queue.OvertakenWhere([](std::string_view full) { return full.starts_with("prefix:"); });
  EXPECT_EQ(queue.size(), 0u);
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
  EXPECT_EQ(There("prefix:a"), std::nullopt);
  EXPECT_EQ(There("deleted"), "newer");
}

TEST_F(RecoveryQueueTest, ADeletionDuringTheLookIsNotUndone) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  backend_.after_get = [&] { queue.Overtaken("k"); };
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
}

TEST_F(RecoveryQueueTest, ADeletionJustBeforeOurWriteLandsIsNotUndone) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  // It was deleted before our write, and that is told while our write is under way.
  backend_.after_set = [&] { queue.Overtaken("k"); };
  Tick();
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
  EXPECT_THAT(posted_, IsEmpty());
}

TEST_F(RecoveryQueueTest, ADeletionThatIsToldOfOnlyAfterOurWriteIsNotUndone) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  Tick();
  EXPECT_EQ(There("k"), "v");
  queue.Overtaken("k");
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
}

TEST_F(RecoveryQueueTest, ANewerWriteAfterOursStays) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  Tick();
  backend_.there["k"] = {"newer"};
  queue.Overtaken("k");
  Tick();
  EXPECT_EQ(There("k"), "newer");
}

TEST_F(RecoveryQueueTest, AFailureWhileAnOlderOneIsMadeUpForIsTheOneThatCounts) {
  RecoveryQueue queue(Wiring());
  queue.Failed("k", "v", absl::Minutes(1));
  backend_.after_set = [&] { queue.Failed("k", std::nullopt, absl::InfiniteDuration()); };
  Tick();
  Tick();
  EXPECT_EQ(There("k"), std::nullopt);
  EXPECT_EQ(queue.size(), 0u);
}

TEST_F(RecoveryQueueTest, AServerThatGoesAwayAgainLosesNothing) {
  RecoveryQueue queue(Wiring());
  for (const char* key : {"a", "b", "c"}) queue.Failed(key, "v", absl::Minutes(1));
  backend_.before_set = [&] { backend_.away = true; };
  Tick();
  EXPECT_EQ(queue.size(), 3u);
  backend_.away = false;
  Tick();
  EXPECT_EQ(backend_.there.size(), 3u);
}

TEST_F(RecoveryQueueTest, OneThatIsRefusedIsReportedAndDoesNotHoldUpOthers) {
  RecoveryQueue queue(Wiring());
  for (const char* key : {"a", "b", "c"}) queue.Failed(key, "v", absl::Minutes(1));
  for (const char* key : {"d", "b2"}) queue.Failed(key, std::nullopt, absl::InfiniteDuration());
  backend_.refused_key = "b";
  Tick();
  EXPECT_EQ(backend_.there.size(), 2u);
  EXPECT_EQ(queue.size(), 0u);
  ASSERT_EQ(reported_.size(), 1u);
  EXPECT_EQ(reported_[0].code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(RecoveryQueueTest, WhenItIsFullNewKeysAreForgottenAndThatIsReportedOnce) {
  RecoveryQueue queue(Wiring(2));
  for (const char* key : {"a", "b", "c", "d"}) queue.Failed(key, "v", absl::Minutes(1));
  queue.Failed("a", "newer", absl::Minutes(1));
  EXPECT_EQ(queue.size(), 2u);
  ASSERT_EQ(reported_.size(), 1u);
  EXPECT_EQ(reported_[0].code(), absl::StatusCode::kResourceExhausted);
  Tick();
  EXPECT_EQ(There("a"), "newer");
  EXPECT_EQ(There("c"), std::nullopt);
  // What is done, and only remembered for a while, makes room.
  queue.Failed("c", "v", absl::Minutes(1));
  EXPECT_EQ(queue.size(), 1u);
}

TEST_F(RecoveryQueueTest, ClosingDropsTheRestAndSaysHowMuch) {
  RecoveryQueue queue(Wiring());
  queue.Failed("a", "v", absl::Minutes(1));
  queue.Failed("b", "v", absl::Minutes(1));
  queue.Close();
  queue.Close();
  queue.Failed("c", "v", absl::Minutes(1));
  Tick();
  EXPECT_THAT(backend_.log, IsEmpty());
  ASSERT_EQ(reported_.size(), 1u);
  EXPECT_THAT(std::string(reported_[0].message()), ::testing::HasSubstr("2 writes"));
}

TEST_F(RecoveryQueueTest, ClosedInTheMiddleOfAReplayItSendsNothingFurther) {
  RecoveryQueue queue(Wiring());
  for (const char* key : {"a", "b", "c"}) queue.Failed(key, "v", absl::Minutes(1));
  backend_.after_set = [&] { queue.Close(); };
  Tick();
  EXPECT_EQ(backend_.there.size(), 1u);
}

TEST_F(RecoveryQueueTest, DeletionsAndLooksAreSentInBatches) {
  RecoveryQueue queue(Wiring());
  for (int i = 0; i < 10'000; ++i) {
    queue.Failed(StrCat("d", i), std::nullopt, absl::InfiniteDuration());
  }
  Tick();
  EXPECT_LE(backend_.round_trips, 50);
  backend_.round_trips = 0;
  for (int i = 0; i < 10'000; ++i) queue.Failed(StrCat("s", i), "v", absl::Minutes(1));
  Tick();
  EXPECT_EQ(backend_.there.size(), 10'000u);
  EXPECT_LE(backend_.round_trips, 10'050);
  EXPECT_EQ(queue.size(), 0u);
}

}  // namespace
}  // namespace coord::internal
