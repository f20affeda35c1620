// The limiter's scripts against plain models, step by step, at the time that each run of a script
// has read from the server; and on clocks that step back.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"

namespace coord {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using Wide = std::int64_t;  // wide enough for the short periods here

// What an algorithm promises, in the words of its definition. Times never go back.
class Model {
 public:
  virtual ~Model() = default;
  virtual std::int64_t Free(std::int64_t now) const = 0;
  virtual void Take(std::int64_t now, std::int64_t count) = 0;
  virtual void Refund(std::int64_t now, std::int64_t count) = 0;
};

struct Shape {
  std::int64_t permits, period, burst;
};

class Gcra : public Model {
 public:
  explicit Gcra(Shape s) : interval_((s.period + s.permits - 1) / s.permits), burst_(s.burst) {}
  std::int64_t Free(std::int64_t now) const override {
    return burst_ - (std::max(now, paid_) - now + interval_ - 1) / interval_;
  }
  void Take(std::int64_t now, std::int64_t count) override {
    paid_ = std::max(now, paid_) + count * interval_;
  }
  void Refund(std::int64_t, std::int64_t count) override { paid_ -= count * interval_; }

 private:
  const std::int64_t interval_, burst_;
  std::int64_t paid_ = 0;
};

class Bucket : public Model {
 public:
  explicit Bucket(Shape s) : s_(s), level_(Wide{s.burst} * s.period) {}
  std::int64_t Free(std::int64_t now) const override {
    return static_cast<std::int64_t>(Level(now) / s_.period);
  }
  void Take(std::int64_t now, std::int64_t count) override { Add(now, -count); }
  void Refund(std::int64_t now, std::int64_t count) override { Add(now, count); }

 private:
  Wide Level(std::int64_t now) const {
    return std::min(Wide{s_.burst} * s_.period, level_ + Wide{now - since_} * s_.permits);
  }
  void Add(std::int64_t now, std::int64_t count) {
    level_ = std::min(Wide{s_.burst} * s_.period, Level(now) + Wide{count} * s_.period);
    since_ = now;
  }
  const Shape s_;
  Wide level_;
  std::int64_t since_ = 0;
};

// The fixed window is the sliding one that forgets what was before.
class Windows : public Model {
 public:
  Windows(Shape s, bool slides) : s_(s), slides_(slides) {}
  std::int64_t Free(std::int64_t now) const override {
    const std::int64_t left = s_.period - now % s_.period;
    const Wide before = slides_ ? Wide{Of(now / s_.period - 1)} * left : 0;
    const std::int64_t weight = static_cast<std::int64_t>((before + s_.period - 1) / s_.period);
    return std::max(std::int64_t{0}, s_.permits - Of(now / s_.period) - weight);
  }
  void Take(std::int64_t now, std::int64_t count) override { At(now / s_.period) += count; }
  void Refund(std::int64_t now, std::int64_t count) override {
    for (const std::int64_t window : {now / s_.period, now / s_.period - 1}) {
      std::int64_t& taken = At(window);
      const std::int64_t back = std::min(taken, count);
      taken -= back;
      count -= back;
    }
  }

 private:
  std::int64_t Of(std::int64_t window) const {
    for (const auto& [which, count] : counts_)
      if (which == window) return count;
    return 0;
  }
  std::int64_t& At(std::int64_t window) {
    for (auto& [which, count] : counts_)
      if (which == window) return count;
    if (counts_.size() > 4) counts_.pop_front();
    return counts_.emplace_back(window, 0).second;
  }
  const Shape s_;
  const bool slides_;
  std::deque<std::pair<std::int64_t, std::int64_t>> counts_;
};

class Log : public Model {
 public:
  explicit Log(Shape s) : s_(s) {}
  std::int64_t Free(std::int64_t now) const override {
    return s_.permits - std::count_if(times_.begin(), times_.end(),
                                      [&](std::int64_t time) { return time + s_.period > now; });
  }
  void Take(std::int64_t now, std::int64_t count) override {
    Forget(now);
    times_.insert(times_.end(), static_cast<std::size_t>(count), now);
  }
  void Refund(std::int64_t now, std::int64_t count) override {
    Forget(now);
    for (; count > 0 && !times_.empty(); --count) times_.pop_back();
  }

 private:
  void Forget(std::int64_t now) {
    while (!times_.empty() && times_.front() + s_.period <= now) times_.pop_front();
  }
  const Shape s_;
  std::deque<std::int64_t> times_;
};

// One algorithm: its script, how a shape becomes arguments, and its model.
struct Kind {
  std::string name;
  const internal::ScriptText* script;
  bool windowed;  // the burst is the permits
  std::function<std::unique_ptr<Model>(Shape)> model;
  std::function<std::vector<std::string>(Shape, std::int64_t cost, std::string mode)> arguments;
};

std::vector<Kind> Kinds() {
  const auto window = [](Shape s, std::int64_t cost, const std::string& mode) {
    return std::vector<std::string>{StrCat(s.permits), StrCat(s.period), StrCat(cost), mode};
  };
  return {
      {"Gcra", &internal::kLimiterTake, false, [](Shape s) { return std::make_unique<Gcra>(s); },
       [](Shape s, std::int64_t cost, const std::string& mode) {
         const std::int64_t interval = (s.period + s.permits - 1) / s.permits;
         return std::vector<std::string>{StrCat(interval), StrCat(interval * s.burst), StrCat(cost),
                                         mode};
       }},
      {"TokenBucket", &internal::kLimiterTakeBucket, false,
       [](Shape s) { return std::make_unique<Bucket>(s); },
       [](Shape s, std::int64_t cost, const std::string& mode) {
         return std::vector<std::string>{StrCat(s.permits), StrCat(s.period), StrCat(cost), mode,
                                         StrCat(s.burst)};
       }},
      {"FixedWindow", &internal::kLimiterTakeFixed, true,
       [](Shape s) { return std::make_unique<Windows>(s, false); }, window},
      {"SlidingWindow", &internal::kLimiterTakeSliding, true,
       [](Shape s) { return std::make_unique<Windows>(s, true); }, window},
      {"SlidingLog", &internal::kLimiterTakeLog, true,
       [](Shape s) { return std::make_unique<Log>(s); }, window},
  };
}

class LimiterModelTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  struct Step {
    std::int64_t now = 0, taken = 0, free = 0, wait = 0, reset = 0;
    std::int64_t expiry = 0;  // PTTL afterwards
    bool changed = false;     // the key
  };

  // The shipped text, in a function in which `redis` tells what time it was told. With `clock` the
  // test says what time it is: two arguments behind all others.
  std::string Load(const internal::ScriptText& script, bool clock) {
    const std::string time = clock ? "{ARGV[#ARGV - 1], ARGV[#ARGV]}" : "real.call('TIME')";
    return redis_.Text(
        {"SCRIPT", "LOAD",
         StrCat("local real, told = redis, nil\n"
                "local redis = {call = function(name, ...)\n"
                "  if name ~= 'TIME' then return real.call(name, ...) end\n  told = ",
                time, "\n  return told\nend}\nlocal function shipped() ", script.text,
                "\nend\n"
                "local before = real.call('DUMP', KEYS[1])\nlocal answer = shipped()\n"
                "local after = real.call('DUMP', KEYS[1])\n"
                "return {told[1] * 1000000 + told[2], answer, real.call('PTTL', KEYS[1]), "
                "before == after and 0 or 1}")});
  }

  Step Run(const std::string& sha, const std::string& key, std::vector<std::string> arguments) {
    std::vector<std::string> command = {"EVALSHA", sha, "1", key};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const Reply reply = redis_.Command(command);
    const auto items = reply.items();
    if (items.size() != 4 || items[1].items().size() != 4) {
      ADD_FAILURE() << reply.ToDebugString();
      return {};
    }
    const auto answer = items[1].items();
    return {items[0].integer(),  answer[0].integer(), answer[1].integer(),    answer[2].integer(),
            answer[3].integer(), items[2].integer(),  items[3].integer() == 1};
  }

  RedisServer server_;
  RawRedis redis_{server_};
  const Kind kind_ = Kinds()[GetParam()];
};

TEST_P(LimiterModelTest, EveryAnswerIsTheModels) {
  const unsigned seed = std::random_device()();
  RecordProperty("seed", StrCat(seed));
  SCOPED_TRACE(StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const auto between = [&random](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  const std::string sha = Load(*kind_.script, false);
  for (int round = 0; round < 20; ++round) {
    Shape shape{between(1, 30), between(300, 15'000), between(1, 30)};
    if (kind_.windowed) shape.burst = shape.permits;
    const std::string key = StrCat("key", round);
    const std::unique_ptr<Model> model = kind_.model(shape);
    for (int step = 0; step < 500; ++step) {
      static const char* const kModes[] = {"take", "take", "take",  "take",
                                           "upto", "peek", "refund"};
      const std::string mode = kModes[between(0, 6)];
      const std::int64_t asked =
          mode == "refund" ? between(1, 3) : between(1, std::max<std::int64_t>(1, shape.burst / 3));
      const Step got = Run(sha, key, kind_.arguments(shape, asked, mode));
      const std::int64_t now = got.now, there = model->Free(now);
      SCOPED_TRACE(StrCat("round ", round, " permits ", shape.permits, " period ", shape.period,
                          " burst ", shape.burst, " step ", step, " ", mode, " ", asked, " at ",
                          now, ", ", there, " there"));
      if (mode == "refund") {
        model->Refund(now, asked);
        EXPECT_EQ(got.taken, 0);
        EXPECT_EQ(got.free, model->Free(now));
      } else {
        const std::int64_t cost =
            mode == "upto" ? std::clamp<std::int64_t>(there, 1, asked) : asked;
        EXPECT_EQ(got.taken, cost <= there ? cost : 0);
        if (mode == "peek") {
          EXPECT_EQ(got.free, cost <= there ? there - cost : there);
        } else {
          if (cost <= there) model->Take(now, cost);
          EXPECT_EQ(got.free, model->Free(now));
        }
        EXPECT_EQ(got.changed, got.taken > 0 && mode != "peek");
        if (cost > there) {
          // The first time at which it would be taken.
          EXPECT_LT(model->Free(now + got.wait - 1), cost);
          EXPECT_GE(model->Free(now + got.wait), cost);
        } else {
          EXPECT_EQ(got.wait, 0);
        }
      }
      if (mode != "peek") {
        EXPECT_EQ(model->Free(now + got.reset), shape.burst);
        if (got.reset > 0) {
          EXPECT_LT(model->Free(now + got.reset - 1), shape.burst);
        }
      }
      // What is there expires by itself.
      if (got.changed && got.reset > 0) {
        EXPECT_GT(got.expiry, 0);
      }
      EXPECT_LE(got.expiry, 3 + 2 * std::max(shape.period, shape.burst * shape.period) / 1000);
      EXPECT_NE(got.expiry, -1);
      if (HasFailure()) return;
    }
  }
}

TEST_P(LimiterModelTest, AClockThatStepsBackCostsNoMoreThanAFullLimit) {
  const std::string sha = Load(*kind_.script, true);
  const Shape shape{4, 1'000'000, 4};
  const auto run = [&](std::int64_t now, std::int64_t cost, const std::string& mode) {
    std::vector<std::string> arguments = kind_.arguments(shape, cost, mode);
    arguments.push_back(StrCat(now / 1'000'000));
    arguments.push_back(StrCat(now % 1'000'000));
    return Run(sha, "key", arguments);
  };
  const std::int64_t today = 1'700'000'000'250'000, tomorrow = today + 86'400'000'000;
  ASSERT_EQ(run(tomorrow, 4, "take").taken, 4);
  EXPECT_EQ(run(today, 1, "peek").taken, 0);
  const Step denied = run(today, 4, "take");
  EXPECT_EQ(denied.taken, 0);
  EXPECT_LE(denied.wait, 2 * shape.period);
  EXPECT_LE(denied.reset, 2 * shape.period);
  EXPECT_GT(denied.expiry, 0);
  EXPECT_LE(denied.expiry, 2001);
  EXPECT_EQ(run(today + denied.wait - 1, 4, "peek").taken, 0);
  EXPECT_EQ(run(today + denied.wait, 4, "take").taken, 4);
}

TEST_P(LimiterModelTest, ALimitThatIsLoweredHoldsAtOnce) {
  const std::string sha = Load(*kind_.script, false);
  const std::int64_t year = 31'536'000'000'000;
  EXPECT_EQ(Run(sha, "key", kind_.arguments({50, year, 50}, 40, "take")).taken, 40);
  // Windows and the log count permits: none is left of ten. GCRA counts time: four fifths of it are
  // taken. A bucket counts what is left: ten.
  const std::int64_t left = kind_.name == "Gcra" ? 2 : kind_.name == "TokenBucket" ? 10 : 0;
  EXPECT_EQ(Run(sha, "key", kind_.arguments({10, year, 10}, 10, "upto")).taken, left);
  EXPECT_EQ(Run(sha, "key", kind_.arguments({10, year, 10}, 1, "take")).taken, 0);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, LimiterModelTest,
                         ::testing::Range(std::size_t{0}, std::size_t{5}),
                         [](const ::testing::TestParamInfo<std::size_t>& which) {
                           return Kinds()[which.param].name;
                         });

}  // namespace
}  // namespace coord
