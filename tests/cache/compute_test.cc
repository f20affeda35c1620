// GetOrCompute within one process: who runs the factory, what the others get, what is stored.
#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/memory_backend.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/sync.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kMinute = absl::Minutes(1);

class HandClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + absl::Nanoseconds(now_.load()); }
  void Advance(absl::Duration by) { now_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<std::int64_t> now_{1'000'000'000};
};

MATCHER_P(Holds, value, "") { return arg.ok() && arg->hit() && !arg->stale() && **arg == value; }
MATCHER_P(HoldsStale, value, "") {
  return arg.ok() && arg->hit() && arg->stale() && **arg == value;
}

// Open once and for all.
class Gate {
 public:
  void Open() { open_ = true; }
  bool Wait() const {
    return Eventually([this] { return open_.load(); }, absl::Seconds(30));
  }

 private:
  std::atomic<bool> open_{false};
};

class Watcher final : public CacheHook {
 public:
  void After(const CacheEvent& event) override { Count(event); }
  void Error(const CacheEvent& event, const absl::Status&) override {
    if (event.operation == CacheOperation::kCompute) ++failed;
    Count(event);
  }
  std::atomic<int> runs{0}, failed{0};
  std::atomic<std::size_t> hits{0}, misses{0}, stale{0}, nulls{0}, undecodable{0}, fell_back{0};

 private:
  void Count(const CacheEvent& event) {
    if (event.operation == CacheOperation::kCompute) ++runs;
    if (event.operation != CacheOperation::kGetOrCompute) return;
    hits += event.hits;
    misses += event.misses;
    stale += event.stale;
    nulls += event.nulls;
    undecodable += event.undecodable;
    fell_back += event.fell_back ? 1 : 0;
  }
};

// Memory that can be away.
class AwayBackend final : public Backend {
 public:
  explicit AwayBackend(std::shared_ptr<Backend> inner) : inner_(std::move(inner)) {}
  std::atomic<bool> reads_away{false}, writes_away{false};

  std::string_view kind() const override { return inner_->kind(); }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want,
                                            const CallOptions& call) override {
    if (reads_away) return Away();
    return inner_->Get(key, want, call);
  }
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want,
                                                             const CallOptions& call) override {
    if (reads_away) return Away();
    return inner_->GetMany(keys, want, call);
  }
  absl::StatusOr<bool> Set(const Write& write, SetIf condition, const CallOptions& call) override {
    if (writes_away) return Away();
    return inner_->Set(write, condition, call);
  }
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call) override {
    return inner_->SetMany(writes, call);
  }
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call) override {
    return inner_->Delete(key, call);
  }
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call) override {
    return inner_->DeleteMany(keys, call);
  }
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call) override {
    return inner_->Exists(key, call);
  }
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call) override {
    return inner_->Ttl(key, call);
  }
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions& call) override {
    return inner_->Expire(key, ttl, call);
  }
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call) override {
    return inner_->Persist(key, call);
  }
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor,
                                std::size_t count, const CallOptions& call) override {
    return inner_->Scan(pattern, cursor, count, call);
  }
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call) override {
    return inner_->DeleteMatching(pattern, call);
  }
  absl::Status Clear(const CallOptions& call) override { return inner_->Clear(call); }
  absl::Status Ping(const CallOptions& call) override { return inner_->Ping(call); }
  absl::Status Reconnect(const CallOptions& call) override { return inner_->Reconnect(call); }
  void Close() override { inner_->Close(); }

 private:
  static absl::Status Away() {
    return internal::MakeStatus(absl::StatusCode::kUnavailable, "away", internal::kUnavailable);
  }
  const std::shared_ptr<Backend> inner_;
};

class ComputeTest : public ::testing::Test {
 protected:
  Cache Make(CacheOptions options = {}) {
    options.ttl_jitter = 0;
    options.clock = &clock_;
    options.hooks = {watcher_};
    options.on_problem = [this](const absl::Status& problem) {
      internal::MutexLock lock(mutex_);
      problems_.push_back(problem);
    };
    return Cache(backend_, options);
  }
  Cache WithFallback(Fallback fallback) {
    CacheOptions options;
    options.fallback = std::move(fallback);
    return Make(std::move(options));
  }
  std::vector<absl::Status> problems() {
    internal::MutexLock lock(mutex_);
    return problems_;
  }
  // Counts how often it runs.
  auto Returning(std::string value) {
    return [this, value] {
      ++runs_;
      return value;
    };
  }
  auto Failing() {
    return [this]() -> absl::StatusOr<std::string> {
      ++runs_;
      return absl::NotFoundError("no such row");
    };
  }

  HandClock clock_;
  std::shared_ptr<Watcher> watcher_ = std::make_shared<Watcher>();
  std::shared_ptr<AwayBackend> backend_ = std::make_shared<AwayBackend>(
      std::make_shared<MemoryBackend>(MemoryOptions{.max_entries = 1000, .clock = &clock_}));
  internal::Mutex mutex_;
  std::vector<absl::Status> problems_;
  std::atomic<int> runs_{0};
  Cache cache_ = Make();
};

TEST_F(ComputeTest, AMissIsMadeAndThenFound) {
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("a")), Holds("a"));
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("b")), Holds("a"));
  EXPECT_EQ(runs_, 1);
  EXPECT_EQ(watcher_->runs, 1);
  EXPECT_EQ(watcher_->misses, 1u);
  EXPECT_EQ(watcher_->hits, 1u);
  EXPECT_EQ(backend_->Get("cache:k", Want::kValue, {})->value().value, "\"a\"");
}

TEST_F(ComputeTest, OfManyWhoAskAtOnceOneRunsTheFactory) {
  for (const bool bounded : {false, true}) {
    runs_ = 0;
    const std::string key = bounded ? "bounded" : "unbounded";
    ComputeOptions options;
    if (bounded) options.hard_timeout = kMinute;
    Gate gate;
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 16; ++i) {
      callers.emplace_back([&, i] {
        // Who comes late finds it in the cache, or lands in the flight that looks there.
        if (i > 12) gate.Wait();
        const auto made = cache_.GetOrCompute(
            key,
            [&] {
              ++runs_;
              gate.Open();
              return std::string("v");
            },
            options);
        if (made.ok() && made->hit() && **made == "v") ++right;
      });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(right, 16);
    EXPECT_EQ(runs_, 1);
  }
}

TEST_F(ComputeTest, WithoutTimeoutsTheFactoryRunsOnTheCallersOwnThread) {
  std::thread::id ran;
  const auto factory = [&ran] {
    ran = std::this_thread::get_id();
    return 1;
  };
  EXPECT_THAT(cache_.GetOrCompute("own", factory), Holds(1));
  EXPECT_EQ(ran, std::this_thread::get_id());
  ComputeOptions bounded;
  bounded.hard_timeout = kMinute;
  EXPECT_THAT(cache_.GetOrCompute("worker", factory, bounded), Holds(1));
  EXPECT_NE(ran, std::this_thread::get_id());
}

TEST_F(ComputeTest, AnErrorGoesToAllAndIsNotStored) {
  Gate gate;
  std::atomic<int> failed{0};
  std::vector<std::thread> callers;
  std::atomic<int> asking{0};
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      ++asking;
      const auto made = cache_.GetOrCompute("k", [&]() -> absl::StatusOr<int> {
        EXPECT_TRUE(gate.Wait());
        absl::Status status = absl::NotFoundError("no such row");
        status.SetPayload("mine", absl::Cord("x"));
        return status;
      });
      EXPECT_THAT(made, StatusIs(absl::StatusCode::kNotFound,
                                 AllOf(HasSubstr("\"k\""), HasSubstr("no such row"))));
      EXPECT_TRUE(made.status().GetPayload("mine").has_value());
      ++failed;
    });
  }
  EXPECT_TRUE(Eventually([&] { return asking == 4; }));
  gate.Open();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failed, 4);
  EXPECT_THAT(cache_.GetOrCompute("k", [] { return 7; }), Holds(7));
}

TEST_F(ComputeTest, WhatAFactoryThrowsIsAnErrorThatNamesKeyAndCause) {
  EXPECT_THAT(
      cache_.GetOrCompute("user:1", []() -> int { throw std::runtime_error("disk on fire"); }),
      StatusIs(absl::StatusCode::kInternal, AllOf(HasSubstr("user:1"), HasSubstr("disk on fire"))));
  EXPECT_THAT(cache_.GetOrCompute("user:1", []() -> int { throw 5; }),
              StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(watcher_->failed, 2);
}

TEST_F(ComputeTest, AFactoryThatAsksForItsOwnKeyIsToldSo) {
  const auto made = cache_.GetOrCompute("k", [this]() -> absl::StatusOr<int> {
    auto inner = cache_.GetOrCompute("k", [] { return 1; });
    if (!inner.ok()) return inner.status();
    return **inner;
  });
  EXPECT_THAT(made, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ComputeTest, FactoriesThatNeedEachOtherOnBusyWorkersAllEnd) {
  ComputeOptions bounded;
  bounded.hard_timeout = kMinute;
  std::atomic<int> begun{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&, i] {
      const auto outer = cache_.GetOrCompute(
          "outer:" + std::to_string(i),
          [&] {
            ++begun;  // all workers are busy before the first asks
            EXPECT_TRUE(Eventually([&] { return begun >= 4; }));
            return **cache_.GetOrCompute("inner", Returning("v"), bounded);
          },
          bounded);
      EXPECT_THAT(outer, Holds("v"));
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(runs_, 1);
}

TEST_F(ComputeTest, AnEmptyOptionalIsStoredAsANullForItsOwnTime) {
  ComputeOptions options;
  options.null_ttl = absl::Seconds(5);
  const auto none = [this] {
    ++runs_;
    return std::optional<std::string>();
  };
  EXPECT_TRUE(cache_.GetOrCompute("k", none, options)->null());
  EXPECT_TRUE(cache_.GetOrCompute("k", none, options)->null());
  EXPECT_EQ(runs_, 1);
  EXPECT_EQ(cache_.TtlOf("k")->left(), absl::Seconds(5));
  clock_.Advance(absl::Seconds(6));
  EXPECT_TRUE(cache_.GetOrCompute("k", none, options)->null());
  EXPECT_EQ(runs_, 2);
}

TEST_F(ComputeTest, TheFactoryMayChangeItsTtlAndAskNotToBeStored) {
  EXPECT_THAT(cache_.GetOrCompute("k",
                                  [](ComputeContext& context) {
                                    context.SetTtl(absl::Seconds(7));
                                    return 1;
                                  }),
              Holds(1));
  EXPECT_EQ(cache_.TtlOf("k")->left(), absl::Seconds(7));
  EXPECT_THAT(cache_.GetOrCompute("once",
                                  [](ComputeContext& context) {
                                    context.DoNotStore();
                                    return 1;
                                  }),
              Holds(1));
  EXPECT_THAT(cache_.Exists("once"), IsOkAndHolds(false));
}

TEST_F(ComputeTest, ATagInvalidatedWhileTheFactoryRunsLeavesNoStaleEntry) {
  ComputeOptions options;
  options.tags = {"users"};
  EXPECT_THAT(cache_.GetOrCompute(
                  "k",
                  [this] {
                    EXPECT_OK(cache_.InvalidateTag("users"));
                    return std::string("old");
                  },
                  options),
              Holds("old"));
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("new"), options), Holds("new"));
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("newer"), options), Holds("new"));
  // The same for one that the factory names.
  const auto adding = [this](ComputeContext& context) {
    EXPECT_OK(context.AddTag("late"));
    EXPECT_OK(cache_.InvalidateTag("late"));
    return std::string("old");
  };
  EXPECT_THAT(cache_.GetOrCompute("l", adding), Holds("old"));
  EXPECT_THAT(cache_.GetOrCompute("l", Returning("new")), Holds("new"));
}

TEST_F(ComputeTest, WhatCannotGetItsTagIsNotStored) {
  const auto made = cache_.GetOrCompute("k", [this](ComputeContext& context) {
    backend_->reads_away = true;
    EXPECT_FALSE(context.AddTag("t").ok());
    backend_->reads_away = false;
    return 1;
  });
  EXPECT_THAT(made, Holds(1));
  EXPECT_THAT(cache_.Exists("k"), IsOkAndHolds(false));
}

class StaleComputeTest : public ComputeTest {
 protected:
  StaleComputeTest() {
    options_.ttl = kMinute;
    options_.stale_for = absl::Hours(1);
    EXPECT_THAT(cache_.GetOrCompute("k", Returning("old"), options_), Holds("old"));
    clock_.Advance(2 * kMinute);
    runs_ = 0;
  }
  ComputeOptions options_;
};

TEST_F(StaleComputeTest, AStaleValueIsMadeAnewOrServedWhenThatFails) {
  EXPECT_THAT(cache_.GetOrCompute("k", Failing(), options_), HoldsStale("old"));
  EXPECT_THAT(cache_.GetOrCompute(
                  "k", []() -> std::string { throw std::runtime_error(""); }, options_),
              HoldsStale("old"));
  EXPECT_EQ(watcher_->stale, 2u);
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("new"), options_), Holds("new"));
  clock_.Advance(absl::Hours(2));
  EXPECT_THAT(cache_.GetOrCompute("k", Failing(), options_), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(StaleComputeTest, WithASoftTimeoutOfZeroNobodyWaitsAndTheFactoryGoesOn) {
  options_.soft_timeout = absl::ZeroDuration();
  auto gate = std::make_shared<Gate>();
  auto stopped = std::make_shared<std::atomic<bool>>(false);
  const auto slow = [this, gate, stopped](ComputeContext& context) {
    ++runs_;
    EXPECT_TRUE(gate->Wait());
    *stopped = context.stop_token().stop_requested();
    return std::string("new");
  };
  EXPECT_THAT(cache_.GetOrCompute("k", slow, options_), HoldsStale("old"));
  EXPECT_THAT(cache_.GetOrCompute("k", slow, options_), HoldsStale("old"));
  gate->Open();
  EXPECT_TRUE(Eventually([&] { return cache_.Get<std::string>("k")->hit(); }));
  EXPECT_THAT(cache_.GetOrCompute("k", slow, options_), Holds("new"));
  EXPECT_EQ(runs_, 1);
  EXPECT_FALSE(*stopped) << "who was served a stale value wants the new one";
}

TEST_F(StaleComputeTest, AnErrorThatNobodyWaitsForIsReported) {
  options_.soft_timeout = absl::ZeroDuration();
  EXPECT_THAT(cache_.GetOrCompute("k", Failing(), options_), HoldsStale("old"));
  EXPECT_TRUE(Eventually([&] { return !problems().empty(); }));
  EXPECT_THAT(problems(), ElementsAre(StatusIs(absl::StatusCode::kNotFound)));
}

TEST_F(ComputeTest, AFactoryThatHangsHoldsNobodyLongerThanHisHardTimeout) {
  ComputeOptions options;
  options.hard_timeout = absl::Milliseconds(20);
  auto gate = std::make_shared<Gate>();
  auto stopped = std::make_shared<std::atomic<bool>>(false);
  const auto hanging = [this, gate, stopped](ComputeContext& context) {
    ++runs_;
    EXPECT_TRUE(Eventually([&] { return context.stop_token().stop_requested(); }));
    *stopped = true;
    EXPECT_TRUE(gate->Wait());
    return std::string("late");
  };
  EXPECT_THAT(cache_.GetOrCompute("k", hanging, options),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("\"k\"")));
  EXPECT_THAT(cache_.GetOrCompute("k", hanging, options),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(Eventually([&] { return stopped->load(); }));
  gate->Open();
  EXPECT_TRUE(Eventually([&] { return *cache_.Exists("k"); })) << "it is stored all the same";
  EXPECT_THAT(cache_.GetOrCompute("k", hanging, options), Holds("late"));
  EXPECT_EQ(runs_, 1);
}

TEST_F(ComputeTest, WhoJoinsWhatOthersGaveUpIsNotGivenItsError) {
  ComputeOptions options;
  options.hard_timeout = absl::Milliseconds(20);
  auto gate = std::make_shared<Gate>();
  const auto obeying = [gate](ComputeContext& context) -> absl::StatusOr<std::string> {
    EXPECT_TRUE(Eventually([&] { return context.stop_token().stop_requested(); }));
    EXPECT_TRUE(gate->Wait());
    return absl::CancelledError("as I was told");
  };
  EXPECT_THAT(cache_.GetOrCompute("k", obeying, options),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  std::thread patient(
      [&] { EXPECT_THAT(cache_.GetOrCompute("k", Returning("mine")), Holds("mine")); });
  gate->Open();
  patient.join();
}

TEST_F(ComputeTest, AStopTokenEndsAWaitAndNotTheFactory) {
  ComputeOptions options;
  options.hard_timeout = kMinute;
  std::stop_source stop;
  options.call.stop = stop.get_token();
  auto gate = std::make_shared<Gate>();
  auto begun = std::make_shared<Gate>();
  std::thread caller([&] {
    EXPECT_THAT(cache_.GetOrCompute(
                    "k",
                    [gate, begun] {
                      begun->Open();
                      EXPECT_TRUE(gate->Wait());
                      return 1;
                    },
                    options),
                StatusIs(absl::StatusCode::kCancelled));
  });
  EXPECT_TRUE(begun->Wait());
  stop.request_stop();
  caller.join();
  gate->Open();
  EXPECT_TRUE(Eventually([&] { return *cache_.Exists("k"); }));
}

TEST_F(ComputeTest, ACachedValueThatCannotBeDecodedIsMadeAnew) {
  EXPECT_OK(cache_.Set("k", std::string("no number")));
  EXPECT_THAT(cache_.GetOrCompute("k", [] { return 5; }), Holds(5));
  EXPECT_EQ(watcher_->undecodable, 1u);
  EXPECT_THAT(cache_.Get<int>("k"), Holds(5));
}

TEST_F(ComputeTest, WhoCannotDecodeWhatAnotherMadeIsToldSo) {
  Gate begun, go;
  std::thread text([&] {
    EXPECT_THAT(cache_.GetOrCompute("k",
                                    [&] {
                                      begun.Open();
                                      EXPECT_TRUE(go.Wait());
                                      return std::string("no number");
                                    }),
                Holds("no number"));
  });
  EXPECT_TRUE(begun.Wait());
  std::thread number([&] {
    ComputeOptions quick;
    quick.hard_timeout = absl::Milliseconds(1);
    // So that this one has joined before the other ends.
    EXPECT_THAT(cache_.GetOrCompute(
                    "k", [] { return 1; }, quick),
                StatusIs(absl::StatusCode::kDeadlineExceeded));
    std::thread opener([&] { go.Open(); });
    const auto made = cache_.GetOrCompute("k", [] { return 1; });
    // Either it has joined the other's flight, or made its own after that.
    if (!made.ok()) {
      EXPECT_THAT(made, StatusIs(absl::StatusCode::kDataLoss));
    } else {
      EXPECT_THAT(made, Holds(1));
    }
    opener.join();
  });
  number.join();
  text.join();
}

TEST_F(ComputeTest, WhatIsWrittenWhileTheFactoryRunsIsNotOverwritten) {
  EXPECT_THAT(cache_.GetOrCompute("k",
                                  [this] {
                                    EXPECT_OK(cache_.Set("k", std::string("written")));
                                    return std::string("older");
                                  }),
              Holds("older"));
  EXPECT_THAT(cache_.Get<std::string>("k"), Holds("written"));
  EXPECT_THAT(cache_.GetOrCompute("d",
                                  [this] {
                                    EXPECT_OK(cache_.Delete("d"));
                                    return std::string("older");
                                  }),
              Holds("older"));
  EXPECT_THAT(cache_.Exists("d"), IsOkAndHolds(false));
}

TEST_F(ComputeTest, RefreshRunsWhateverIsThereAndTheNewerOneWins) {
  EXPECT_OK(cache_.Set("k", std::string("cached")));
  EXPECT_THAT(cache_.Refresh("k", Returning("new")), Holds("new"));
  EXPECT_THAT(cache_.Get<std::string>("k"), Holds("new"));
  Gate begun, go;
  std::thread older([&] {
    EXPECT_THAT(cache_.Refresh("k",
                               [&] {
                                 begun.Open();
                                 EXPECT_TRUE(go.Wait());
                                 return std::string("older");
                               }),
                Holds("older"));
  });
  EXPECT_TRUE(begun.Wait());
  EXPECT_THAT(cache_.Refresh("k", Returning("newer")), Holds("newer"));
  go.Open();
  older.join();
  EXPECT_THAT(cache_.Get<std::string>("k"), Holds("newer"));
}

TEST_F(ComputeTest, AnEarlyRefreshIsBegunByOneReaderAndKeepsNobodyWaiting) {
  ComputeOptions options;
  options.ttl = kMinute;
  options.early_refresh = 1e6;  // whatever the random number is
  EXPECT_THAT(cache_.GetOrCompute(
                  "k",
                  [this] {
                    clock_.Advance(absl::Seconds(1));
                    return std::string("old");
                  },
                  options),
              Holds("old"));
  clock_.Advance(absl::Seconds(1));
  auto gate = std::make_shared<Gate>();
  const auto slow = [this, gate] {
    ++runs_;
    EXPECT_TRUE(gate->Wait());
    return std::string("new");
  };
  EXPECT_THAT(cache_.GetOrCompute("k", slow, options), Holds("old"));
  EXPECT_THAT(cache_.GetOrCompute("k", slow, options), Holds("old"));
  gate->Open();
  ComputeOptions calm = options;
  calm.early_refresh = 0;
  EXPECT_TRUE(Eventually([&] { return **cache_.GetOrCompute("k", slow, calm) == "new"; }));
  EXPECT_EQ(runs_, 1);
}

TEST_F(ComputeTest, WithoutTheCacheTheFactoryStillRuns) {
  const Cache cache = WithFallback({.mode = Fallback::Mode::kMiss});
  backend_->reads_away = true;
  backend_->writes_away = true;
  EXPECT_THAT(cache.GetOrCompute("k", Returning("v")), Holds("v"));
  EXPECT_EQ(watcher_->fell_back, 1u);
  EXPECT_THAT(problems(), IsEmpty()) << "nobody tries to write to what cannot be read";
  // By default the error is told, and nothing runs.
  EXPECT_TRUE(coord::IsUnavailable(cache_.GetOrCompute("k", Returning("v")).status()));
  EXPECT_EQ(runs_, 1);
}

TEST_F(ComputeTest, AFallbackThatGivesBytesIsAskedBeforeTheFactory) {
  std::optional<std::string> given = "\"given\"";
  const Cache cache = WithFallback(
      {.mode = Fallback::Mode::kCallback,
       .callback = [&](std::string_view, std::string_view, const absl::Status&) { return given; }});
  backend_->reads_away = true;
  EXPECT_THAT(cache.GetOrCompute("k", Returning("v")), Holds("given"));
  EXPECT_EQ(runs_, 0);
  given = std::nullopt;
  EXPECT_THAT(cache.GetOrCompute("k", Returning("v")), Holds("v"));
}

TEST_F(ComputeTest, AWriteThatFailsLosesNobodyTheValueAndIsReported) {
  backend_->writes_away = true;
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("v")), Holds("v"));
  EXPECT_THAT(problems(), ElementsAre(StatusIs(absl::StatusCode::kUnavailable)));
  // So does a time to live that makes no sense.
  backend_->writes_away = false;
  EXPECT_THAT(cache_.GetOrCompute("k",
                                  [](ComputeContext& context) {
                                    context.SetTtl(absl::ZeroDuration());
                                    return 1;
                                  }),
              Holds(1));
  EXPECT_EQ(problems().size(), 2u);
}

TEST_F(ComputeTest, CloseWaitsForFactoriesAndAFactoryMayClose) {
  ComputeOptions options;
  options.hard_timeout = absl::Milliseconds(1);
  auto begun = std::make_shared<Gate>();
  auto ended = std::make_shared<std::atomic<bool>>(false);
  EXPECT_THAT(cache_.GetOrCompute(
                  "k",
                  [begun, ended](ComputeContext& context) {
                    begun->Open();
                    EXPECT_TRUE(Eventually([&] { return context.stop_token().stop_requested(); }));
                    *ended = true;
                    return 1;
                  },
                  options),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(begun->Wait());
  cache_.Close();
  EXPECT_TRUE(*ended);
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("v")),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  const Cache other = Make();
  EXPECT_THAT(other.GetOrCompute("k2",
                                 [&] {
                                   other.Close();
                                   return 1;
                                 }),
              Holds(1));
}

TEST_F(ComputeTest, TheLastHandleMayGoInsideAFactory) {
  auto begun = std::make_shared<Gate>();
  auto go = std::make_shared<Gate>();
  auto gone = std::make_shared<Gate>();
  {
    auto last = std::make_shared<std::optional<Cache>>(Make());
    ComputeOptions options;
    options.hard_timeout = absl::Milliseconds(1);
    Cache cache = **last;
    EXPECT_THAT(cache.GetOrCompute(
                    "k",
                    [=] {
                      begun->Open();
                      EXPECT_TRUE(go->Wait());
                      last->reset();
                      gone->Open();
                      return 1;
                    },
                    options),
                StatusIs(absl::StatusCode::kDeadlineExceeded));
    EXPECT_TRUE(begun->Wait());
  }
  go->Open();
  EXPECT_TRUE(gone->Wait());
}

TEST_F(ComputeTest, AnExecutorThatDropsTheFactoryKeepsNobodyWaiting) {
  CacheOptions dropping;
  dropping.executor = [](std::function<void()>) {};
  const Cache cache = Make(dropping);
  ComputeOptions options;
  options.hard_timeout = kMinute;
  EXPECT_THAT(cache.GetOrCompute("k", Returning("v"), options),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("executor")));
}

TEST_F(ComputeTest, WhatMakesNoSenseIsRefusedBeforeAnythingRuns) {
  const auto refused = [&](ComputeOptions options) {
    return cache_.GetOrCompute("k", Returning("v"), options).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused({.ttl = absl::ZeroDuration()}));
  EXPECT_TRUE(refused({.null_ttl = coord::Ttl(-kMinute)}));
  EXPECT_TRUE(refused({.stale_for = -kMinute}));
  EXPECT_TRUE(refused({.stale_for = absl::InfiniteDuration()}));
  EXPECT_TRUE(refused({.soft_timeout = -kMinute}));
  EXPECT_TRUE(refused({.hard_timeout = -kMinute}));
  EXPECT_TRUE(refused({.early_refresh = -1}));
  EXPECT_THAT(cache_.GetOrCompute("k", Returning("v"), {.across_processes = true}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(runs_, 0);
}

}  // namespace
}  // namespace coord
