// What `coord --json` prints: the fields of the library's answers, for each subcommand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/redis_server.h"

namespace coord::testing {
namespace {

using Json = nlohmann::json;
using Fields = std::set<std::string>;

class JsonOutputTest : public ::testing::Test {
 protected:
  ProcessResult Run(std::vector<std::string> words) {
    words.insert(words.begin(), COORD_PROGRAM);
    return RunProgram(words, {.env = {{"COORD_URL", server_.url()}, {"COORD", COORD_PROGRAM}}});
  }

  // A value a line.
  std::vector<Json> Values(std::vector<std::string> words) {
    words.insert(words.begin(), "--json");
    const ProcessResult result = Run(words);
    std::vector<Json> values;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      values.push_back(Json::parse(line, nullptr, /*allow_exceptions=*/false));
      EXPECT_FALSE(values.back().is_discarded()) << line;
    }
    EXPECT_FALSE(values.empty()) << result.err;
    if (values.empty()) values.emplace_back();
    return values;
  }

  static Fields FieldsOf(const Json& value) {
    Fields fields;
    for (const auto& [name, unused] : value.items()) fields.insert(name);
    return fields;
  }
  Fields Printed(std::vector<std::string> words) { return FieldsOf(Values(std::move(words))[0]); }

  RedisServer server_;
};

TEST_F(JsonOutputTest, CountersAndIdsPrintTheirValues) {
  EXPECT_EQ(Printed({"counter", "add", "a"}), Fields({"value", "applied"}));
  EXPECT_EQ(Printed({"counter", "get", "a"}), Fields({"value"}));
  EXPECT_EQ(Printed({"counter", "set", "a", "5"}), Fields({"previous"}));
  EXPECT_EQ(Printed({"counter", "reset", "a"}), Fields({"previous"}));
  const std::vector<Json> ids = Values({"id", "a", "--count", "3"});
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(FieldsOf(ids[2]), Fields({"id"}));
  const std::string plain = Run({"id", "a", "--count", "3"}).out;
  EXPECT_EQ(std::count(plain.begin(), plain.end(), '\n'), 3);
}

TEST_F(JsonOutputTest, LimitersPrintTheWholeDecision) {
  const Fields decision = {"allowed",     "limit", "remaining",  "retry_after",
                           "reset_after", "taken", "from_server"};
  for (const std::string act : {"take", "peek", "refund"}) {
    EXPECT_EQ(Printed({"limit", act, "a", "--rate", "1/h"}), decision) << act;
  }
  EXPECT_EQ(Printed({"limit", "take", "a", "--rate", "9/h", "--cost", "5", "--up-to"}), decision);
  EXPECT_EQ(Printed({"limit", "reset", "a"}), Fields({"reset"}));
}

TEST_F(JsonOutputTest, SeveralLimitersSayWhichOneDenies) {
  const std::string odd = "all\xff";  // no UTF-8
  const std::vector<std::string> take = {"limit", "take", "a",      "--rate",
                                         "9/h",   odd,    "--rate", "1/h"};
  EXPECT_EQ(Printed(take).count("limiting"), 0u);
  const Json denied = Values(take)[0];
  EXPECT_EQ(denied["allowed"], false);
  EXPECT_EQ(denied["limiting_index"], 1);
  EXPECT_EQ(denied["limiting"], Json({{"base64", "YWxs/w=="}}));
}

TEST_F(JsonOutputTest, ListsPrintAnItemALineAndWhatWasMissed) {
  const Json pushed = Values({"list", "push", "a", "x", "--max", "2"})[0];
  EXPECT_EQ(FieldsOf(pushed), Fields({"length", "evicted", "sequence", "applied"}));
  Run({"list", "push", "a", "y", "z", "v", "--max", "2"});
  EXPECT_EQ(Printed({"list", "range", "a"}), Fields({"items"}));
  EXPECT_EQ(Printed({"list", "newest", "a"}), Fields({"sequence", "value"}));
  const std::int64_t first = pushed["sequence"].get<std::int64_t>();
  const std::vector<Json> since = Values({"list", "since", "a", std::to_string(first)});
  ASSERT_EQ(since.size(), 3u);
  EXPECT_EQ(since[0], Json({{"missed", 1}, {"newest", first + 3}}));
  EXPECT_EQ(since[2], Json({{"sequence", first + 3}, {"value", "v"}}));
  EXPECT_EQ(Run({"list", "range", "a"}).out, "z\nv\n");
}

TEST_F(JsonOutputTest, LocksAndTheirKinPrintWhoAndHowLong) {
  EXPECT_EQ(Printed({"lock", "a", "--", "sh", "-c", "\"$COORD\" --json locks"}),
            Fields({"name", "owner", "readers", "waiters", "token", "held_ms", "left_ms"}));
  EXPECT_EQ(Printed({"unlock", "a", "--force"}), Fields({"name", "released", "from"}));
  EXPECT_EQ(Printed({"latch", "down", "l", "--count", "2"}), Fields({"left", "open"}));
  EXPECT_EQ(Printed({"barrier", "b", "--parties", "1"}), Fields({"generation", "index"}));
  const Json seen = Values({"elect", "e", "--value", "v", "--", "sh", "-c",
                            "\"$COORD\" --json elect e --observe --once"})[0];
  EXPECT_EQ(FieldsOf(seen["leader"]), Fields({"term", "revision", "owner", "value"}));
}

}  // namespace
}  // namespace coord::testing
