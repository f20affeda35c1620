// lua/json_cas.lua against random documents.
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/internal/json_text.h"
#include "coord/json_document.h"
#include "coord/script.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "scripts.h"
#include "tests/support/json_maker.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::testing::JsonMaker;
using ::coord::testing::JsonNode;
using ::coord::testing::JsonPlace;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;

class JsonCasScriptTest : public ::testing::Test {
 protected:
  static std::string Without(std::string text, const std::string& line,
                             const std::string& instead) {
    const std::size_t at = text.find(line);
    EXPECT_NE(at, text.npos) << "the script no longer has the line: " << line;
    if (at != text.npos) text.replace(at, line.size(), instead);
    return text;
  }

  static Client Connect(const RedisServer& server) {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    if (!client.ok()) ADD_FAILURE() << client.status();
    return *std::move(client);
  }

  void Store(const std::string& text) { redis_.Command({"SET", "coord:{doc}:json", text}); }
  std::string Stored() { return redis_.Text({"GET", "coord:{doc}:json"}); }

  // What `script` answers for one test and one set on `text`, and what it leaves.
  std::pair<Reply, std::string> RunOn(const Script& script, const std::string& text,
                                      const std::string& path, const std::string& expected,
                                      const std::string& value) {
    Store(text);
    const absl::StatusOr<Reply> reply =
        client_.Run(script, {"coord:{doc}:json"}, {"1", path, expected, path, value});
    EXPECT_OK(reply) << text;
    return {reply.ok() ? *reply : Reply(), Stored()};
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = Connect(server_);
  JsonDocument document_{client_, "doc"};
  const std::string text_{internal::kJsonCas.text};
  const Script script_{text_};
  // Without the quick path; and without the fast patterns either, which looks at each name by
  // itself and reads each document to its end.
  const std::string scanning_ = Without(text_, "local outer, name = nil, match(path",
                                        "do return end local outer, name = nil, match(path");
  const Script scanner_{scanning_};
  const Script strict_{Without(
      Without(
          Without(Without(scanning_, "local function past_members(i, stop)",
                          "local function past_members(i, stop) do return i end"),
                  "behind = match(shape, element_string, i) or match(shape, element_integer, i)",
                  "behind = nil"),
          "local loose = ", "local loose = true or "),
      "if rough or find(shape", "if true or find(shape")};
};

TEST_F(JsonCasScriptTest, WhatIsAppliedTouchesNoOtherByte) {
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    JsonMaker maker(seed);
    maker.set_style(static_cast<int>(seed % 4));
    JsonNode root = maker.Document();
    const std::string text = maker.Render(root);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + text);
    ASSERT_FALSE(internal::FindJsonFault(text)) << internal::FindJsonFault(text)->why;
    std::vector<JsonPlace> places;
    JsonMaker::Places(root, "", places);
    const JsonPlace test = maker.Pick(places);
    const JsonPlace set = maker.OneIn(2) ? test : maker.Pick(places);
    const std::string current = text.substr(test.node->start, test.node->end - test.node->start);
    JsonNode same = maker.Reordered(*test.node);
    const std::string equal = maker.Render(same);
    JsonNode fresh = maker.Value(1);
    const std::string value = maker.Render(fresh);

    Store(text);
    auto result = document_.CompareAndSetFields({{test.pointer, equal}}, {{set.pointer, value}});
    ASSERT_OK(result) << test.pointer << " = " << equal;
    ASSERT_TRUE(result->applied()) << test.pointer << " = " << equal;
    const std::string after =
        set.pointer.empty() ? value
                            : text.substr(0, set.node->start) + value + text.substr(set.node->end);
    ASSERT_EQ(Stored(), after) << set.pointer;

    Store(text);
    JsonNode other = maker.Changed(*test.node);
    const std::string different = maker.Render(other);
    result = document_.CompareAndSetFields({{test.pointer, different}}, {{set.pointer, value}});
    ASSERT_OK(result);
    ASSERT_EQ(result->outcome, CasResult::Outcome::kMismatch) << test.pointer << " = " << different;
    ASSERT_EQ(result->current, current);
    result = document_.CompareAndSetFields({{test.pointer, equal}, {test.pointer, std::nullopt}},
                                           {{set.pointer, value}});
    ASSERT_OK(result);
    ASSERT_EQ(result->failed_test, 1U);
    ASSERT_EQ(result->current, current);
    ASSERT_EQ(Stored(), text);

    if (set.node->kind == JsonNode::kObject) {
      const std::string name = maker.Name(*set.node);
      const std::string pointer = set.pointer + "/" + JsonMaker::Token(name);
      result = document_.CompareAndSetField(pointer, value, value);
      ASSERT_OK(result);
      ASSERT_EQ(result->outcome, CasResult::Outcome::kMismatch) << pointer;
      ASSERT_EQ(result->current, std::nullopt);
      result = document_.CompareAndSetFields({{test.pointer, equal}, {pointer, std::nullopt}},
                                             {{pointer, value}});
      ASSERT_OK(result);
      ASSERT_TRUE(result->applied()) << pointer;
      const std::string stored = Stored();
      const std::string before = text.substr(0, set.node->tail);
      const std::string behind = ":" + value + text.substr(set.node->tail);
      ASSERT_TRUE(stored.starts_with(before) && stored.ends_with(behind)) << stored;
      std::string middle =
          stored.substr(before.size(), stored.size() - before.size() - behind.size());
      if (!set.node->children.empty()) {
        ASSERT_EQ(middle[0], ',');
        middle.erase(0, 1);
      }
      ASSERT_EQ(nlohmann::json::parse(middle, nullptr, false), nlohmann::json(name));
      ASSERT_FALSE(internal::FindJsonFault(stored));
    }
  }
}

TEST_F(JsonCasScriptTest, SeveralAssignmentsAreTheSameAsOneAfterTheOther) {
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    JsonMaker maker(seed * 7919);
    maker.set_style(static_cast<int>(seed % 4));
    JsonNode root = maker.Document();
    const std::string text = maker.Render(root);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + text);
    std::vector<JsonPlace> places;
    JsonMaker::Places(root, "", places);
    std::vector<JsonAssignment> assignments;
    for (int i = 0; i < 4; ++i) {
      const JsonPlace& place = maker.Pick(places);
      JsonNode fresh = maker.Value(1);
      assignments.push_back({place.pointer, maker.Render(fresh)});
      if (place.node->kind == JsonNode::kObject && maker.OneIn(2)) {
        assignments.back().path += "/" + JsonMaker::Token(maker.Name(*place.node));
      }
    }
    Store(text);
    bool refused = false;
    for (const JsonAssignment& one : assignments) {
      const auto result = document_.CompareAndSetFields(
          std::vector<JsonTest>{{"/no such", std::nullopt}}, std::vector<JsonAssignment>{one});
      refused = refused || !result.ok();
      if (result.ok()) {
        ASSERT_TRUE(result->applied());
      }
      if (refused) break;
    }
    const std::string after = refused ? text : Stored();
    Store(text);
    const auto result = document_.CompareAndSetFields(
        std::vector<JsonTest>{{"/no such", std::nullopt}}, assignments);
    ASSERT_EQ(result.ok(), !refused) << result.status();
    ASSERT_EQ(Stored(), after);
  }
}

TEST_F(JsonCasScriptTest, TheQuickPathsAgreeWithTheScannerOnBrokenDocumentsToo) {
  int applied = 0;
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 12000; ++seed) {
    JsonMaker maker(seed * 104729);
    maker.set_style(static_cast<int>(seed % 4));
    JsonNode root = maker.Document();
    std::string text = maker.Render(root);
    std::vector<JsonPlace> places;
    JsonMaker::Places(root, "", places);
    const JsonPlace place = maker.Pick(places);
    JsonNode same = maker.Reordered(*place.node);
    const std::string equal = maker.Render(same);
    for (int i = maker.Below(3); i > 0 && !text.empty(); --i) {
      const auto at = static_cast<std::size_t>(maker.Below(static_cast<int>(text.size())));
      static constexpr std::string_view kBytes = "{}[]\",:0 1-.e\\ntx\n\x01";
      const char byte =
          kBytes[static_cast<std::size_t>(maker.Below(static_cast<int>(kBytes.size())))];
      switch (maker.Below(4)) {
        case 0:
          text[at] = byte;
          break;
        case 1:
          text.insert(at, 1, byte);
          break;
        case 2:
          text.erase(at, 1);
          break;
        default:
          if (maker.OneIn(4)) text.resize(at);
      }
    }
    SCOPED_TRACE("seed " + std::to_string(seed) + ", path " + place.pointer + ": " + text);
    const std::string value = "[\"\xf0\x9f\xa6\x8a new\"]";
    const auto usual = RunOn(script_, text, place.pointer, equal, value);
    const auto scanned = RunOn(scanner_, text, place.pointer, equal, value);
    const auto strict = RunOn(strict_, text, place.pointer, equal, value);
    ASSERT_EQ(usual.second, scanned.second);
    ASSERT_EQ(usual.first, scanned.first);
    if (!strict.first.is_array() || strict.first.items()[0].integer() != -2) {
      ASSERT_EQ(usual.second, strict.second);
      ASSERT_EQ(usual.first, strict.first);
    }
    const auto fault = internal::FindJsonFault(text);
    if (!fault) {
      ASSERT_EQ(usual.first, strict.first);
    }
    if (usual.first == Reply::Integer(1)) {
      ++applied;
      if (place.pointer.empty()) continue;
      const std::size_t start = usual.second.find(value);
      ASSERT_NE(start, usual.second.npos);
      const std::size_t end = text.size() - (usual.second.size() - start - value.size());
      ASSERT_EQ(usual.second, text.substr(0, start) + value + text.substr(end));
      if (fault && fault->grammar && fault->why.find("UTF-8") == fault->why.npos &&
          fault->why.find("surrogate") == fault->why.npos) {
        ASSERT_GE(fault->at, end)
            << fault->why;  // all up to the value's end was read and found good
      }
    } else {
      ++refused;
      ASSERT_EQ(usual.second, text);
    }
  }
  EXPECT_GT(applied, 2000);
  EXPECT_GT(refused, 2000);
}

}  // namespace
}  // namespace coord
