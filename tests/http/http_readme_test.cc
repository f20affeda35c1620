// README.md and cache/http/README.md say what is so: their examples with a session print what they
// say.
#include <algorithm>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_format.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "gtest/gtest.h"
#include "tests/support/readme_example.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tools/dev/origin.h"

namespace coord::testing {
namespace {

std::string origin_url;  // of the test that runs

std::unique_ptr<dev::Origin> StartOrigin() {
  absl::StatusOr<std::unique_ptr<dev::Origin>> origin = dev::Origin::Start();
  EXPECT_OK(origin);
  (*origin)->On("/users/7", [](const dev::Origin::Request& request) {
    const dev::Origin::Fields fields = {{"Cache-Control", "max-age=60"}, {"ETag", "\"7\""}};
    if (request.header("If-None-Match") == "\"7\"") return dev::Origin::Reply{304, fields};
    return dev::Origin::Reply{200, fields, "{\"name\":\"Ada\"}"};
  });
  // Says nothing of time.
  (*origin)->On("/page", dev::Origin::Reply{.body = "the page"});
  (*origin)->On("/live", dev::Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}}});
  return *std::move(origin);
}

TEST(HttpReadmeTest, EveryExamplePrintsWhatItsCommentsSayAndHasAtMostTenLines) {
  RedisServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  const std::unique_ptr<dev::Origin> origin = StartOrigin();
  origin_url = origin->Url("");
  ASSERT_GE(ReadmeExamples().size(), 4u);
  for (const ReadmeExample& example : ReadmeExamples()) {
    SCOPED_TRACE(internal::StrCat("line ", example.line));
    ASSERT_OK(client.Command({"FLUSHALL"}));
    std::ostringstream printed;
    std::streambuf* const before = std::cout.rdbuf(printed.rdbuf());
    example.run(client);
    std::cout.rdbuf(before);
    EXPECT_NE(ClaimedOutput(example.text), "") << "an example without a claim";
    EXPECT_EQ(OnOneLine(printed.str()), ClaimedOutput(example.text));
    EXPECT_LE(std::count(example.text.begin(), example.text.end(), '\n') + 1, 10);
  }
}

}  // namespace

std::string ExampleOrigin() { return origin_url; }

}  // namespace coord::testing
