// Inputs at which a change of a JSON document once went wrong, or took the server too long.
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"

namespace coord {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using Operator = JsonTest::Operator;

class JsonFindingsTest : public ::testing::Test {
 protected:
  // Whether a test holds, on both of the scripts where both know it.
  void Expect(const std::string& stored, const JsonTest& test, bool holds) {
    SCOPED_TRACE(StrCat(stored, " against ", test.expected.value_or("(nothing)")));
    for (const bool simple : {true, false}) {
      redis_.Command({"SET", "coord:{d}:json", stored});
      JsonChange change{.when = {{test}}, .set = {{"/found", "1"}}};
      if (!simple) change.ttl = absl::Hours(1);
      const absl::StatusOr<CasResult> result = document_.Apply(change);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->applied(), holds);
    }
  }

  static Client Connect(const RedisServer& server) {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
    return *std::move(client);
  }

  RedisServer server_;
  RawRedis redis_{server_};
  JsonDocument document_{Connect(server_), "d"};
};

TEST_F(JsonFindingsTest, AStringEqualsNoNumberAndNoWordOfTheSameLetters) {
  Expect(R"({"a":["true"]})", {"/a", "[true]"}, false);
  Expect(R"({"a":["5e0"]})", {"/a", "[5]"}, false);
  Expect(R"({"a":[0]})", {"/a", R"(["0"])"}, false);
  Expect(R"({"a":null})", {"/a", R"( "null")"}, false);
  Expect(R"({"a":["true"]})", {"/a", R"([ "tru\u0065"])"}, true);
}

TEST_F(JsonFindingsTest, ATextOfManyEscapesIsReadInOnePass) {
  std::string lines;
  for (int i = 0; i < 100'000; ++i) lines += "\\n";
  // Minutes, were it looked through from each escape on.
  Expect(StrCat(R"({"log":")", lines, R"(","a":[1]})"), {"/a/0", "1.0"}, true);
  Expect(StrCat(R"({"log":")", lines, R"(","\u0061":[1]})"), {"/a/0", "1.0"}, true);
}

TEST_F(JsonFindingsTest, StringsAreOrderedByteByByte) {
  const std::vector<std::string> ordered = {R"("")",   R"("B")", R"("a")",  R"("a\u0000")",
                                            R"("ab")", R"("b")", R"("b ")", "\"\xc3\xa9\""};
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    for (std::size_t j = 0; j < ordered.size(); ++j) {
      const std::string stored = StrCat(R"({"a":)", ordered[i], "}");
      Expect(stored, {"/a", ordered[j], Operator::kLess}, i < j);
      Expect(stored, {"/a", ordered[j], Operator::kGreater}, i > j);
    }
  }
}

TEST_F(JsonFindingsTest, NothingIsNotTheSameTextAsNone) {
  Expect("{}", {"/a", "", Operator::kSameText}, false);
  Expect("{}", {"/a", std::nullopt, Operator::kSameText}, true);
}

}  // namespace
}  // namespace coord
