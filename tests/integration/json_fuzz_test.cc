// Random changes of random documents through JsonDocument, compared byte for byte with what
// tests/support/json_reference.h works out by other means. A failure names the seed of its
// document; COORD_TEST_SEED=N tries that one alone.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/internal/json_text.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/json_maker.h"
#include "tests/support/json_reference.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"

namespace coord {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::ExpectJson;
using ::coord::testing::IdenticalJson;
using ::coord::testing::JsonExpectation;
using ::coord::testing::JsonMaker;
using ::coord::testing::JsonNode;
using ::coord::testing::JsonPlace;
using ::coord::testing::RawRedis;
using ::coord::testing::ReadJson;
using ::coord::testing::RedisServer;
using ::coord::testing::RepeatsAName;
using Operator = JsonTest::Operator;

struct Case {
  std::uint64_t seed = 0;
  std::optional<std::string> stored;
  JsonChange change;
};

class CaseMaker {
 public:
  explicit CaseMaker(std::uint64_t seed) : seed_(seed), maker_(seed) {
    maker_.set_style(static_cast<int>(seed % 4));
  }

  Case Make() {
    Case made;
    made.seed = seed_;
    root_ = maker_.Document();
    if (maker_.OneIn(10)) RepeatAName();
    text_ = maker_.Render(root_);
    JsonMaker::Places(root_, "", places_);
    made.stored = text_;
    if (seed_ / 4 % 3 == 0) {
      MakeSimple(made.change);
    } else {
      MakeAny(made.change);
    }
    if (maker_.OneIn(30)) {
      made.stored.reset();
      const bool removes =
          !made.change.set.empty() && made.change.set[0].path.empty() && !made.change.set[0].value;
      if (!removes && maker_.OneIn(2)) {
        made.change.when = {{{"", std::nullopt}}};
        made.change.set.insert(made.change.set.begin(), {"", maker_.Render(root_)});
        if (RepeatsAName(root_)) made.change.set.front().value = "{}";
      }
    }
    return made;
  }

 private:
  // What most callers do: lua/json_cas.lua.
  void MakeSimple(JsonChange& change) {
    change.when.emplace_back();
    for (int i = maker_.OneIn(3) ? 2 : 1; i > 0; --i) {
      auto [path, node] = Path();
      change.when[0].push_back({path, Expected(Operator::kEquals, node)});
    }
    if (maker_.OneIn(2)) {
      change.set.push_back({change.when[0].back().path, Fresh()});
    }
    while (change.set.empty() || maker_.OneIn(4)) change.set.push_back({SetPath(), Fresh()});
  }

  void MakeAny(JsonChange& change) {
    static constexpr Operator kOperators[] = {
        Operator::kEquals, Operator::kEquals,  Operator::kEquals,    Operator::kNotEquals,
        Operator::kLess,   Operator::kGreater, Operator::kNotEquals, Operator::kSameText};
    for (int lists = maker_.Below(4); lists > 0; --lists) {
      std::vector<JsonTest>& tests = change.when.emplace_back();
      for (int i = 1 + maker_.Below(lists == 1 ? 2 : 3); i > 0; --i) {
        auto [path, node] = Path();
        const Operator op = kOperators[maker_.Below(8)];
        tests.push_back({path, Expected(op, node), op});
      }
    }
    for (int i = 1 + maker_.Below(4); i > 0; --i) {
      JsonAssignment assignment{SetPath(), std::nullopt};
      if (!maker_.OneIn(4)) assignment.value = Fresh();
      if (!assignment.value && assignment.path.empty()) {
        if (!maker_.OneIn(4)) continue;
        change.set = {assignment};
        return;
      }
      change.set.push_back(std::move(assignment));
    }
    if (maker_.OneIn(10)) change.ttl = absl::InfiniteDuration();
    if (maker_.OneIn(10) || change.set.empty()) change.ttl = absl::Hours(1);
  }

  void RepeatAName() {
    std::vector<JsonPlace> places;
    JsonMaker::Places(root_, "", places);
    JsonNode& node = *maker_.Pick(places).node;
    if (node.kind != JsonNode::kObject || node.names.empty()) return;
    const std::string again = maker_.Pick(node.names);
    node.names.push_back(again);
    node.children.push_back(maker_.Value(1));
  }

  std::string Fresh() {
    JsonNode node = maker_.Value(maker_.OneIn(4) ? 2 : 1);
    return maker_.Render(node);
  }

  struct Chosen {
    std::string path;
    JsonNode* node;  // null: most likely nothing is there
  };

  Chosen Path() {
    JsonPlace& place = maker_.Pick(places_);
    if (!maker_.OneIn(6)) return {place.pointer, place.node};
    return {place.pointer + Below(*place.node), nullptr};
  }

  std::string SetPath() {
    JsonPlace& place = maker_.Pick(places_);
    const bool container =
        place.node->kind == JsonNode::kObject || place.node->kind == JsonNode::kArray;
    if (container ? maker_.OneIn(2) : maker_.OneIn(30)) {
      return place.pointer + Below(*place.node);
    }
    return place.pointer;
  }

  // A path from a value to what it does not have, or perhaps has.
  std::string Below(const JsonNode& node) {
    static constexpr const char* kOdd[] = {
        "/-1",  "/00",  "/01", "/1e0", "/4294967296", "/", "/99999999999999999999",
        "/-/x", "/x/y", "/+0"};
    if (maker_.OneIn(12)) return kOdd[maker_.Below(10)];
    if (node.kind == JsonNode::kArray) {
      if (!maker_.OneIn(4)) return "/-";
      return StrCat("/", node.children.size() + static_cast<std::size_t>(maker_.Below(2)));
    }
    return "/" + JsonMaker::Token(maker_.Name(node));
  }

  // A number or a word in it becomes the string of the same letters.
  void MakeLookalike(JsonNode& node) {
    if (!node.children.empty()) return MakeLookalike(maker_.Pick(node.children));
    if (node.kind == JsonNode::kNumber && node.word != "0") {
      node.word = StrCat(node.negative ? "-" : "", node.word, "e", node.exponent);
    }
    if (node.kind == JsonNode::kNumber || node.kind == JsonNode::kWord) {
      node.kind = JsonNode::kString;
    }
  }

  std::optional<std::string> Expected(Operator op, JsonNode* node) {
    const bool ordered = op == Operator::kLess || op == Operator::kGreater;
    if (op == Operator::kSameText) {
      if (maker_.OneIn(8)) return maker_.OneIn(2) ? std::nullopt : std::optional<std::string>("");
      if (node == &root_) return text_;
      return node == nullptr ? "x" : text_.substr(node->start, node->end - node->start);
    }
    if (!ordered && maker_.OneIn(node == nullptr ? 2 : 12)) return std::nullopt;
    const bool usable =
        node != nullptr && !RepeatsAName(*node) &&
        (!ordered || node->kind == JsonNode::kNumber || node->kind == JsonNode::kString);
    JsonNode other = usable ? *node : maker_.Value(1);
    if (!ordered && maker_.OneIn(10)) MakeLookalike(other);
    if (usable && !(op == Operator::kEquals ? maker_.OneIn(4) : maker_.OneIn(2))) {
      if (op == Operator::kEquals) other = maker_.Reordered(std::move(other));
    } else if (usable) {
      other = maker_.Changed(std::move(other));
    }
    if (ordered) {
      while (other.kind != JsonNode::kNumber && other.kind != JsonNode::kString) {
        other = maker_.Value(0);
      }
    }
    std::string text = maker_.Render(other);
    if (ordered) text.erase(0, text.find_first_not_of(" \n\r\t"));
    return text;
  }

  const std::uint64_t seed_;
  JsonMaker maker_;
  JsonNode root_;
  std::string text_;
  std::vector<JsonPlace> places_;
};

std::string Describe(const Case& one) {
  std::string text =
      StrCat("COORD_TEST_SEED=", one.seed, "\n  stored ", one.stored.value_or("(nothing)"));
  for (const std::vector<JsonTest>& list : one.change.when) {
    text += "\n  when";
    for (const JsonTest& test : list) {
      static constexpr const char* kSigns[] = {" == ", " != ", " < ", " > ", " is the text "};
      text += StrCat("\n    '", test.path, "'", kSigns[static_cast<int>(test.op)],
                     test.expected.value_or("(nothing)"));
    }
  }
  for (const JsonAssignment& assignment : one.change.set) {
    text += StrCat("\n  set '", assignment.path, "' = ", assignment.value.value_or("(removed)"));
  }
  return text;
}

constexpr std::size_t kBatch = 100;
constexpr std::uint64_t kDocuments = 25'000;

// Each part is a test of its own, so that they run side by side.
class JsonFuzzTest : public ::testing::TestWithParam<int> {
 protected:
  static Client Connect(const RedisServer& server) {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
    return *std::move(client);
  }

  JsonFuzzTest() {
    for (std::size_t i = 0; i < kBatch; ++i) {
      documents_.emplace_back(client_, StrCat(i));
      keys_.push_back(StrCat("coord:{", i, "}:json"));
    }
  }

  void Store(const std::vector<Case>& cases) {
    redis_.Command({"FLUSHALL"});
    std::vector<std::string> command = {"MSET"};
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (cases[i].stored) command.insert(command.end(), {keys_[i], *cases[i].stored});
    }
    if (command.size() > 1) redis_.Command(command);
  }

  std::vector<Reply> Stored() {
    std::vector<std::string> command = {"MGET"};
    command.insert(command.end(), keys_.begin(), keys_.end());
    Reply reply = redis_.Command(command);
    return std::move(reply.mutable_items());
  }

  void Check(const Case& one, const absl::StatusOr<CasResult>& result, const Reply& stored) {
    const JsonExpectation expected = ExpectJson(one.stored, one.change);
    if (!expected.refused.empty()) {
      ++refused_[expected.refused];
      ASSERT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition) << result.status();
      ASSERT_NE(result.status().message().find(expected.refused), result.status().message().npos)
          << result.status() << ", expected was: " << expected.refused;
    } else {
      ++outcomes_[expected.result.outcome];
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_EQ(result->outcome, expected.result.outcome);
      ASSERT_EQ(result->failed_test, expected.result.failed_test);
      ASSERT_EQ(result->current, expected.result.current);
      ASSERT_FALSE(result->omitted);
    }
    ASSERT_EQ(stored.is_nil(), !expected.after);
    if (!expected.after) return;
    ASSERT_EQ(stored.text(), *expected.after);
    ASSERT_TRUE(IdenticalJson(ReadJson(stored.text()), expected.meaning)) << stored.text();
    const auto fault = internal::FindJsonFault(stored.text());
    ASSERT_TRUE(!fault || !fault->grammar) << fault->why << ": " << stored.text();
  }

  void Try(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t seed = from; seed < to;) {
      std::vector<Case> cases;
      for (; cases.size() < kBatch && seed < to; ++seed) cases.push_back(CaseMaker(seed).Make());
      Store(cases);
      std::vector<absl::StatusOr<CasResult>> results;
      for (std::size_t i = 0; i < cases.size(); ++i) {
        results.push_back(documents_[i].Apply(cases[i].change));
      }
      const std::vector<Reply> stored = Stored();
      ASSERT_EQ(stored.size(), kBatch);
      for (std::size_t i = 0; i < cases.size(); ++i) {
        Check(cases[i], results[i], stored[i]);
        if (HasFatalFailure()) {
          ADD_FAILURE() << Describe(cases[i]);
          return;
        }
      }
    }
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = Connect(server_);
  std::vector<JsonDocument> documents_;
  std::vector<std::string> keys_;
  std::map<CasResult::Outcome, int> outcomes_;
  std::map<std::string, int> refused_;
};

TEST_P(JsonFuzzTest, AChangeDoesWhatTheReferenceDoesAndTouchesNoOtherByte) {
  if (const char* const given = std::getenv("COORD_TEST_SEED"); given != nullptr) {
    const std::uint64_t seed = std::strtoull(given, nullptr, 10);
    return Try(seed, seed + 1);
  }
  const std::uint64_t first = static_cast<std::uint64_t>(GetParam()) * kDocuments;
  Try(first, first + kDocuments);
  if (HasFatalFailure()) return;
  EXPECT_GT(outcomes_[CasResult::Outcome::kApplied], 8000);
  EXPECT_GT(outcomes_[CasResult::Outcome::kMismatch], 4000);
  EXPECT_GT(outcomes_[CasResult::Outcome::kMissing], 200);
  EXPECT_EQ(refused_.size(), 3U);
  for (const auto& [why, times] : refused_) EXPECT_GT(times, 100) << why;
}

INSTANTIATE_TEST_SUITE_P(Parts, JsonFuzzTest, ::testing::Range(0, 4));

}  // namespace
}  // namespace coord
