// The limiter's scripts against plain models, step by step, on a server whose clock the test moves;
// and on clocks that step back.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/settable_clock.h"

namespace coord {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::CommandCalls;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::SettableClock;
using Command = std::vector<std::string>;
using Wide = std::int64_t;  // wide enough for the short periods here

constexpr std::int64_t kStart = 1'700'000'000'250'000;
constexpr std::int64_t kSteps = 100'000;    // of a test
constexpr std::int64_t kRounds = 40;        // over which they are spread, each with a new limit
constexpr std::int64_t kEpoch = 5'000'000;  // so much longer a key of GCRA may live

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
  std::string letter;  // as limiter_take_all knows it
  const internal::ScriptText* script;
  bool windowed;  // the burst is the permits
  std::function<std::unique_ptr<Model>(Shape)> model;
  std::string third = "";  // set where there is a third number: the burst
};

const std::vector<Kind>& Kinds() {
  static const auto* const kinds = new std::vector<Kind>{
      {"Gcra", "g", &internal::kLimiterTake, false,
       [](Shape s) { return std::make_unique<Gcra>(s); }},
      {"TokenBucket", "b", &internal::kLimiterTakeBucket, false,
       [](Shape s) { return std::make_unique<Bucket>(s); }, "burst"},
      {"FixedWindow", "f", &internal::kLimiterTakeFixed, true,
       [](Shape s) { return std::make_unique<Windows>(s, false); }},
      {"SlidingWindow", "s", &internal::kLimiterTakeSliding, true,
       [](Shape s) { return std::make_unique<Windows>(s, true); }},
      {"SlidingLog", "l", &internal::kLimiterTakeLog, true,
       [](Shape s) { return std::make_unique<Log>(s); }},
  };
  return *kinds;
}

std::int64_t IntervalOf(Shape s) { return (s.period + s.permits - 1) / s.permits; }

// The two numbers that say what a limit is.
Command NumbersOf(const Kind& kind, Shape s) {
  if (kind.letter == "g") return {StrCat(IntervalOf(s)), StrCat(IntervalOf(s) * s.burst)};
  return {StrCat(s.permits), StrCat(s.period)};
}

void Append(Command& command, const Command& more) {
  command.insert(command.end(), more.begin(), more.end());
}

// How long a key may live that has just been written.
std::int64_t LongestExpiry(const Kind& kind, Shape s) {
  return 3 + 2 * std::max(s.period, s.burst * s.period) / 1000 +
         (kind.letter == "g" ? kEpoch / 1000 + 100 : 0);
}

class Randomness {
 public:
  Randomness() : seed_(std::random_device()()), random_(seed_) {
    ::testing::Test::RecordProperty("seed", StrCat(seed_));
  }
  std::int64_t Between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }
  Shape ShapeOf(const Kind& kind) {
    static constexpr std::int64_t kLongest[] = {15'000, 3'000'000, 60'000'000, 3'600'000'000};
    Shape shape{Between(1, 30), Between(300, kLongest[Between(0, 3)]), Between(1, 30)};
    if (kind.windowed) shape.burst = shape.permits;
    return shape;
  }
  // How far the clock goes on: to what was just now said to be a boundary, just before it,
  // anywhere.
  std::int64_t Ahead(Shape s, std::int64_t wait, std::int64_t reset) {
    switch (Between(0, 9)) {
      case 0:
        return 0;
      case 1:
        return 1;
      case 2:
        return wait;
      case 3:
        return std::max<std::int64_t>(0, wait - 1);
      case 4:
        return Between(0, 3) == 0 ? reset : 0;
      case 5:
        return Between(0, 2 * s.period);
      case 6:
        return Between(0, 50) == 0 ? Between(0, 3 * (s.period + kEpoch)) : 0;
      default:
        return Between(0, 2 * IntervalOf(s));
    }
  }
  unsigned seed() const { return seed_; }

 private:
  const unsigned seed_;
  std::mt19937_64 random_;
};

class LimiterModelFixture {
 protected:
  void GoTo(std::int64_t now) {
    now_ = now;
    clock_.Set(static_cast<std::uint64_t>(now));
  }
  std::string Load(const internal::ScriptText& script) {
    return redis_.Text({"SCRIPT", "LOAD", std::string(script.text)});
  }
  // All in one pipeline.
  std::vector<Reply> Send(const std::vector<Command>& commands) {
    Pipeline pipeline;
    for (const Command& command : commands) {
      const std::vector<std::string_view> words(command.begin(), command.end());
      pipeline.Add(words);
    }
    absl::StatusOr<std::vector<Reply>> replies = client_.Execute(pipeline);
    if (!replies.ok()) testing::Fatal(replies.status().ToString());
    return *std::move(replies);
  }
  static std::vector<std::int64_t> Numbers(const Reply& reply) {
    std::vector<std::int64_t> numbers;
    for (const Reply& item : reply.items()) numbers.push_back(item.integer());
    if (numbers.size() < 4) ADD_FAILURE() << reply.ToDebugString();
    numbers.resize(5);
    return numbers;
  }

  std::int64_t now_ = kStart;
  SettableClock clock_;
  std::unique_ptr<RedisServer> server_ = [this] {
    clock_.Set(static_cast<std::uint64_t>(kStart));
    return clock_.StartServer();
  }();
  RawRedis redis_{*server_};
  Client client_ = [this] {
    absl::StatusOr<Client> client = Client::Connect(server_->url());
    if (!client.ok()) testing::Fatal(client.status().ToString());
    return *std::move(client);
  }();
};

class LimiterModelTest : public LimiterModelFixture, public ::testing::TestWithParam<std::size_t> {
 protected:
  struct Step {
    std::int64_t taken = 0, free = 0, wait = 0, reset = 0;
    std::string dump;         // afterwards
    std::int64_t expiry = 0;  // PTTL afterwards
  };
  struct Wish {
    std::string mode;
    std::int64_t cost;
  };

  std::vector<Step> Run(const std::string& sha, const std::string& key, Shape shape,
                        const std::vector<Wish>& wishes) {
    std::vector<Command> commands;
    for (const Wish& wish : wishes) {
      Command command = {"EVALSHA", sha, "1", key};
      Append(command, NumbersOf(kind_, shape));
      Append(command, {StrCat(wish.cost), wish.mode});
      if (!kind_.third.empty()) command.push_back(StrCat(shape.burst));
      commands.insert(commands.end(), {command, {"DUMP", key}, {"PTTL", key}});
    }
    const std::vector<Reply> replies = Send(commands);
    std::vector<Step> steps;
    for (std::size_t i = 0; i < replies.size(); i += 3) {
      const std::vector<std::int64_t> numbers = Numbers(replies[i]);
      steps.push_back({numbers[0], numbers[1], numbers[2], numbers[3],
                       std::string(replies[i + 1].text()), replies[i + 2].integer()});
    }
    return steps;
  }
  Step RunOne(const std::string& sha, Shape shape, std::int64_t cost, const std::string& mode) {
    return Run(sha, "key", shape, {{mode, cost}})[0];
  }

  // One step on the model, and whether the script did the same.
  void Judge(const Kind& kind, Model& model, Shape shape, const Wish& wish, const Step& got,
             const std::string& before) const {
    const std::int64_t now = now_, there = model.Free(now);
    const bool changed = got.dump != before;
    if (wish.mode == "refund") {
      model.Refund(now, wish.cost);
      EXPECT_EQ(got.taken, 0);
      EXPECT_EQ(got.free, model.Free(now));
    } else {
      const std::int64_t cost =
          wish.mode == "upto" ? std::clamp<std::int64_t>(there, 1, wish.cost) : wish.cost;
      EXPECT_EQ(got.taken, cost <= there ? cost : 0);
      if (wish.mode == "peek") {
        EXPECT_EQ(got.free, cost <= there ? there - cost : there);
      } else {
        if (cost <= there) model.Take(now, cost);
        EXPECT_EQ(got.free, model.Free(now));
      }
      EXPECT_EQ(changed, got.taken > 0 && wish.mode != "peek");
      if (cost > there) {
        // The first time at which it would be taken.
        EXPECT_LT(model.Free(now + got.wait - 1), cost);
        EXPECT_GE(model.Free(now + got.wait), cost);
      } else {
        EXPECT_EQ(got.wait, 0);
      }
    }
    if (wish.mode != "peek") {
      EXPECT_EQ(model.Free(now + got.reset), shape.burst);
      if (got.reset > 0) {
        EXPECT_LT(model.Free(now + got.reset - 1), shape.burst);
      }
      // What is there expires by itself, and not while it says something.
      if (got.reset > 0) {
        EXPECT_GE(got.expiry * 1000, got.reset);
      }
    }
    EXPECT_NE(got.expiry, -1);
    EXPECT_LE(got.expiry, LongestExpiry(kind, shape));
  }

  const Kind kind_ = Kinds()[GetParam()];
};

TEST_P(LimiterModelTest, EveryAnswerIsTheModels) {
  Randomness random;
  SCOPED_TRACE(StrCat("seed ", random.seed()));
  const std::string sha = Load(*kind_.script);
  for (std::int64_t round = 0; round < kRounds; ++round) {
    const Shape shape = random.ShapeOf(kind_);
    const std::string key = StrCat("key", round);
    const std::unique_ptr<Model> model = kind_.model(shape);
    std::string before;
    Step last;
    for (std::int64_t step = 0; step < kSteps / kRounds;) {
      GoTo(now_ + random.Ahead(shape, last.wait, last.reset));
      std::vector<Wish> wishes;
      for (std::int64_t i = random.Between(1, 9); i > 0; --i) {
        static const char* const kModes[] = {"take", "take", "take",  "take",
                                             "upto", "peek", "refund"};
        const std::string mode = kModes[random.Between(0, 6)];
        wishes.push_back(
            {mode,
             random.Between(1, mode == "refund" ? 3 : std::max<std::int64_t>(1, shape.burst / 3))});
      }
      // Between one pipeline and the next a key may have expired, which changes nothing.
      if (!before.empty() && redis_.Integer({"EXISTS", key}) == 0) before.clear();
      const std::vector<Step> steps = Run(sha, key, shape, wishes);
      for (std::size_t i = 0; i < steps.size(); ++i, ++step) {
        Judge(kind_, *model, shape, wishes[i], steps[i], before);
        before = steps[i].dump;
        last = steps[i];
        ASSERT_FALSE(HasFailure())
            << "round " << round << " permits " << shape.permits << " period " << shape.period
            << " burst " << shape.burst << " step " << step << ' ' << wishes[i].mode << ' '
            << wishes[i].cost << " at " << now_;
      }
    }
  }
}

TEST_P(LimiterModelTest, AClockThatStepsBackCostsNoMoreThanAFullLimit) {
  const std::string sha = Load(*kind_.script);
  const Shape shape{4, 1'000'000, 4};
  const std::int64_t today = kStart, tomorrow = today + 86'400'000'000;
  GoTo(tomorrow);
  ASSERT_EQ(RunOne(sha, shape, 4, "take").taken, 4);
  GoTo(today);
  EXPECT_EQ(RunOne(sha, shape, 1, "peek").taken, 0);
  const Step denied = RunOne(sha, shape, 4, "take");
  EXPECT_EQ(denied.taken, 0);
  EXPECT_LE(denied.wait, 2 * shape.period);
  EXPECT_LE(denied.reset, 2 * shape.period);
  EXPECT_GE(denied.expiry * 1000, denied.reset);
  EXPECT_LE(denied.expiry, LongestExpiry(kind_, {4, 1'000'000, 2}));
  GoTo(today + denied.wait - 1);
  EXPECT_EQ(RunOne(sha, shape, 4, "peek").taken, 0);
  GoTo(today + denied.wait);
  EXPECT_EQ(RunOne(sha, shape, 4, "take").taken, 4);
}

TEST_P(LimiterModelTest, ALimitThatIsLoweredHoldsAtOnce) {
  const std::string sha = Load(*kind_.script);
  const std::int64_t year = 31'536'000'000'000;
  EXPECT_EQ(RunOne(sha, {50, year, 50}, 40, "take").taken, 40);
  // Windows and the log count permits: none is left of ten. GCRA counts time: four fifths of it are
  // taken. A bucket counts what is left: ten.
  const std::int64_t left = kind_.name == "Gcra" ? 2 : kind_.name == "TokenBucket" ? 10 : 0;
  EXPECT_EQ(RunOne(sha, {10, year, 10}, 10, "upto").taken, left);
  EXPECT_EQ(RunOne(sha, {10, year, 10}, 1, "take").taken, 0);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, LimiterModelTest,
                         ::testing::Range(std::size_t{0}, std::size_t{5}),
                         [](const ::testing::TestParamInfo<std::size_t>& which) {
                           return Kinds()[which.param].name;
                         });

// What is in the key of GCRA, and when it expires: epochs of five seconds begin at kStart - 250 ms.
class GcraKeyTest : public LimiterModelFixture, public ::testing::Test {
 protected:
  // One permit a microsecond.
  std::vector<std::int64_t> Take(std::int64_t cost) {
    return Numbers(
        redis_.Command({"EVALSHA", sha_, "1", "key", "1", "10000000", StrCat(cost), "take"}));
  }
  std::int64_t Expiry() { return redis_.Integer({"PTTL", "key"}); }

  const std::string sha_ = Load(internal::kLimiterTake);
};

TEST_F(GcraKeyTest, IsToldWhenToExpireOnceInAnEpoch) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 10; ++i) Take(10);
  EXPECT_EQ(CommandCalls(redis_, "set"), 1);
  EXPECT_EQ(CommandCalls(redis_, "incrby"), 9);
  EXPECT_EQ(redis_.Text({"GET", "key"}), StrCat(kStart + 100));
  EXPECT_EQ(Expiry(), 4'851);
  GoTo(kStart + 4'000'000);
  Take(10);  // idle meanwhile
  EXPECT_EQ(CommandCalls(redis_, "set"), 1);
  EXPECT_EQ(redis_.Text({"GET", "key"}), StrCat(kStart + 4'000'010));
  Take(1'000'000);
  EXPECT_EQ(CommandCalls(redis_, "set"), 2);
  EXPECT_EQ(Expiry(), 750 + 5'101);
}

TEST_F(GcraKeyTest, HasATimeToLiveAgainInTheNextEpochWhenSomebodyTookItAway) {
  Take(10);
  ASSERT_EQ(redis_.Integer({"PERSIST", "key"}), 1);
  Take(10);
  GoTo(kStart + 4'750'000);
  Take(10);
  EXPECT_GT(Expiry(), 0);
}

TEST_F(GcraKeyTest, IsANumberHoweverItIsWritten) {
  for (const char* const text : {"1700000000250100.0", "01700000000250100", "1.7000000002501e15"}) {
    redis_.Command({"SET", "key", text, "PX", "5000"});
    EXPECT_EQ(Take(10)[3], 110) << text;
    EXPECT_EQ(redis_.Text({"GET", "key"}), StrCat(kStart + 110)) << text;
    EXPECT_EQ(Expiry(), 4'851) << text;
  }
}

TEST_F(GcraKeyTest, OfAClockThatHasSteppedBackExpiresAsIfItHadNot) {
  GoTo(kStart + 86'400'000'000);
  Take(10'000'000);
  GoTo(kStart);
  EXPECT_EQ(Take(1)[0], 0);
  EXPECT_LE(Expiry(), 15'101);
  EXPECT_EQ(Take(1)[2], 1);
}

// Several limits at once. Rounds in turn are of any algorithms, of GCRA with the general script,
// and of GCRA with its own beside it, on other keys: the two must answer and leave the same.
class LimiterTakeAllModelTest : public LimiterModelFixture, public ::testing::Test {
 protected:
  struct Limit {
    const Kind* kind;
    Shape shape;
    std::unique_ptr<Model> model;
    std::string key;
  };

  Command General(const std::vector<Limit>& limits, const std::vector<std::int64_t>& costs) const {
    Command command = {"EVALSHA", general_, StrCat(limits.size())};
    for (const Limit& limit : limits) command.push_back(limit.key);
    for (std::size_t i = 0; i < limits.size(); ++i) {
      command.push_back(limits[i].kind->letter);
      Append(command, NumbersOf(*limits[i].kind, limits[i].shape));
      Append(command, {StrCat(costs[i]),
                       limits[i].kind->third.empty() ? "" : StrCat(limits[i].shape.burst)});
    }
    return command;
  }
  Command OfGcra(const std::vector<Limit>& limits, const std::vector<std::int64_t>& costs) const {
    Command command = {"EVALSHA", of_gcra_, StrCat(limits.size())};
    for (const Limit& limit : limits) command.push_back(limit.key + "-gcra");
    for (const Limit& limit : limits) Append(command, NumbersOf(*limit.kind, limit.shape));
    if (std::count(costs.begin(), costs.end(), 1) == static_cast<std::ptrdiff_t>(costs.size())) {
      return command;
    }
    for (std::size_t i = 0; i < limits.size(); ++i) {
      command.push_back(StrCat(costs[i] * IntervalOf(limits[i].shape)));
    }
    return command;
  }

  void Judge(const std::vector<Limit>& limits, const std::vector<std::int64_t>& costs,
             const std::vector<std::int64_t>& got, bool changed) const {
    bool all = true;
    for (std::size_t i = 0; i < limits.size(); ++i) {
      all = all && limits[i].model->Free(now_) >= costs[i];
    }
    const std::int64_t denied = got[0], wait = got[3];
    EXPECT_EQ(denied, all ? 0 : 1);
    EXPECT_EQ(changed, all);
    ASSERT_GE(got[1], 0);
    ASSERT_LT(got[1], static_cast<std::int64_t>(limits.size()));
    const std::size_t which = static_cast<std::size_t>(got[1]);
    const Limit& said = limits[which];
    if (all) {
      std::int64_t fewest = 1'000'000;
      for (std::size_t i = 0; i < limits.size(); ++i) {
        limits[i].model->Take(now_, costs[i]);
        fewest = std::min(fewest, limits[i].model->Free(now_));
      }
      EXPECT_EQ(got[2], fewest);
      EXPECT_EQ(wait, 0);
    } else {
      EXPECT_LT(said.model->Free(now_ + wait - 1), costs[which]);
      for (std::size_t i = 0; i < limits.size(); ++i) {
        if (limits[i].model->Free(now_) >= costs[i]) continue;
        EXPECT_GE(limits[i].model->Free(now_ + wait), costs[i]);
      }
    }
    EXPECT_EQ(got[2], said.model->Free(now_));
    EXPECT_EQ(said.model->Free(now_ + got[4]), said.shape.burst);
  }

  const std::string general_ = Load(internal::kLimiterTakeAll);
  const std::string of_gcra_ = Load(internal::kLimiterTakeAllGcra);
};

TEST_F(LimiterTakeAllModelTest, AllOrNothingAsTheModelsSay) {
  Randomness random;
  SCOPED_TRACE(StrCat("seed ", random.seed()));
  for (std::int64_t round = 0; round < kRounds; ++round) {
    const bool gcra = round % 2 == 1;
    const std::int64_t number = round % 8 == 7 ? random.Between(1, 6) : 3;
    std::vector<Limit> limits;
    for (std::int64_t i = 0; i < number; ++i) {
      const Kind& kind = Kinds()[gcra ? 0 : static_cast<std::size_t>(random.Between(0, 4))];
      const Shape shape = random.ShapeOf(kind);
      limits.push_back({&kind, shape, kind.model(shape), StrCat("key-", round, "-", i)});
    }
    std::vector<std::string> before(limits.size());
    std::vector<std::int64_t> last(5);
    for (std::int64_t step = 0; step < kSteps / kRounds; ++step) {
      // Several at one time, and on with the clock of one of them.
      if (random.Between(0, 2) == 0) {
        const std::size_t whose =
            static_cast<std::size_t>(random.Between(0, static_cast<std::int64_t>(number) - 1));
        GoTo(now_ + random.Ahead(limits[whose].shape, last[3], last[4]));
      }
      std::vector<std::int64_t> costs;
      const bool ones = random.Between(0, 1) == 0;
      for (const Limit& limit : limits) {
        costs.push_back(ones ? 1
                             : random.Between(1, std::max<std::int64_t>(1, limit.shape.burst / 3)));
      }
      std::vector<Command> commands;
      for (const Limit& limit : limits) commands.push_back({"DUMP", limit.key});
      commands.push_back(General(limits, costs));
      for (const Limit& limit : limits) {
        commands.insert(commands.end(), {{"DUMP", limit.key}, {"PTTL", limit.key}});
      }
      if (gcra) {
        commands.push_back(OfGcra(limits, costs));
        for (const Limit& limit : limits) {
          commands.insert(commands.end(),
                          {{"DUMP", limit.key + "-gcra"}, {"PTTL", limit.key + "-gcra"}});
        }
      }
      const std::vector<Reply> replies = Send(commands);
      const std::size_t count = limits.size();
      int changes = 0;
      for (std::size_t i = 0; i < count; ++i) {
        if (replies[i].text() != replies[count + 1 + 2 * i].text()) ++changes;
      }
      last = Numbers(replies[count]);
      EXPECT_TRUE(changes == 0 || changes == static_cast<int>(count)) << changes;
      Judge(limits, costs, last, changes > 0);
      for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t expiry = replies[count + 2 + 2 * i].integer();
        EXPECT_NE(expiry, -1);
        EXPECT_LE(expiry, LongestExpiry(*limits[i].kind, limits[i].shape));
        // A key is there for as long as its limit is not whole.
        if (expiry > 0) {
          EXPECT_EQ(limits[i].model->Free(now_ + expiry * 1000), limits[i].shape.burst);
        } else {
          EXPECT_EQ(limits[i].model->Free(now_), limits[i].shape.burst);
        }
        if (gcra) {
          const std::size_t at = 3 * count + 2 + 2 * i;
          // What is owed is the same; one may have expired a while before the other.
          if (!replies[at].text().empty() && expiry > 0) {
            EXPECT_EQ(replies[at].text(), replies[count + 1 + 2 * i].text());
          }
          EXPECT_NE(replies[at + 1].integer(), -1);
          EXPECT_LE(replies[at + 1].integer(), LongestExpiry(*limits[i].kind, limits[i].shape));
          EXPECT_EQ(limits[i].model->Free(
                        now_ + std::max<std::int64_t>(0, replies[at + 1].integer()) * 1000),
                    limits[i].shape.burst);
        }
      }
      if (gcra) {
        EXPECT_EQ(Numbers(replies[3 * count + 1]), last);
      }
      ASSERT_FALSE(HasFailure()) << "round " << round << " step " << step << " at " << now_
                                 << (gcra ? ", all GCRA" : "");
    }
  }
}

}  // namespace
}  // namespace coord
