// `coord health` as monitors and persons run it, against real deployments. Some 5 s each: that is
// what it takes to start one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/deployment.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"
#include "tools/dev/sentinels.h"
#include "tools/dev/servers.h"

namespace coord::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

ProcessResult Coord(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), COORD_PROGRAM);
  return RunProgram(arguments, {.env = {{"COORD_URL", "unix:///nowhere/at/all"}}},
                    absl::Seconds(60));
}

json Parsed(const std::string& text) {
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(parsed.is_discarded()) << text;
  return parsed;
}

// Exits with that code in the end: who reports a state may learn of it late.
::testing::AssertionResult EndsWith(int code, const std::vector<std::string>& arguments) {
  ProcessResult last;
  if (Eventually([&] { return (last = Coord(arguments)).exit_code == code; }, absl::Seconds(30))) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << last.exit_code << ": " << last.out << last.err;
}

TEST(HealthCliTest, AServerIsFineAndItsJsonHasEveryField) {
  const RedisServer server({.args = {"--requirepass", "geheim"}});
  const ProcessResult result =
      Coord({"--json", "health", "--url", "unix://:geheim@" + server.socket_path()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out + result.err, Not(HasSubstr("geheim")));
  const json look = Parsed(result.out);
  for (const char* field : {"at", "url", "deployment", "verdict", "summary", "nodes", "history"}) {
    EXPECT_TRUE(look.contains(field)) << field;
  }
  EXPECT_EQ(look["deployment"], "server");
  EXPECT_EQ(look["verdict"], "ok");
  ASSERT_EQ(look["nodes"].size(), 1u);
  const json& node = look["nodes"][0];
  for (const char* field :
       {"node", "role", "needed", "ok", "problem", "state", "since", "server", "round_trip_us",
        "latency_p50_us", "latency_p99_us", "connections_made", "last_error", "last_error_at"}) {
    EXPECT_TRUE(node.contains(field)) << field;
  }
  EXPECT_EQ(node["role"], "master");
  EXPECT_EQ(node["state"], "ready");
  EXPECT_GT(node["round_trip_us"], 0);
}

TEST(HealthCliTest, NobodyThereIs2AndSaysWhatWasTriedWithoutThePassword) {
  for (const char* json_flag : {"--json", ""}) {
    std::vector<std::string> arguments = {"health", "--url", "unix://:geheim@/nowhere/at/all"};
    if (*json_flag != '\0') arguments.insert(arguments.begin(), json_flag);
    const ProcessResult result = Coord(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.out, HasSubstr("/nowhere/at/all"));
    EXPECT_THAT(result.out + result.err, Not(HasSubstr("geheim")));
  }
}

TEST(HealthCliTest, ABadArgumentLeavesStandardOutputEmpty) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"health", "--interval", "1s"},
        {"health", "--watch", "--interval", "1ms"},
        {"health", "--url", "nonsense://:geheim@x"}}) {
    const ProcessResult result = Coord(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, Not(HasSubstr("geheim")));
  }
}

TEST(HealthCliTest, AClusterWithoutAReplicaIs1AndWithoutAMasterIs2) {
  const auto cluster = OrFatal(dev::Cluster::Start({.full_coverage = false}));
  const std::string url = cluster->url();
  EXPECT_TRUE(EndsWith(0, {"health", "--url", url}));
  cluster->KillNode(3);  // a replica of master 0
  EXPECT_TRUE(EndsWith(1, {"health", "--url", url}));
  cluster->KillNode(0);  // which nobody can take over any more
  EXPECT_TRUE(EndsWith(2, {"health", "--url", url}));
  const json look = Parsed(Coord({"--json", "health", "--url", url}).out);
  EXPECT_EQ(look["verdict"], "failed");
  EXPECT_EQ(look["deployment"], "cluster");
}

TEST(HealthCliTest, AGroupThatMissesASentinelOrAReplicaIs1) {
  const auto group = OrFatal(dev::Sentinels::Start({.replicas = 1}));
  EXPECT_TRUE(EndsWith(0, {"health", "--url", group->url()}));
  const json look = Parsed(Coord({"--json", "health", "--url", group->url()}).out);
  ASSERT_EQ(look["nodes"].size(), 5u) << look.dump();  // the master, three Sentinels, the replica
  group->sentinel(1).Kill();
  EXPECT_TRUE(EndsWith(1, {"health", "--url", group->url()}));
  group->server(1).Kill();
  EXPECT_TRUE(EndsWith(1, {"health", "--url", group->url()}));
  group->server(0).Kill();
  EXPECT_TRUE(EndsWith(2, {"health", "--url", group->url(), "--timeout", "2s"}));
}

TEST(HealthCliTest, WatchingTellsOfAFailover) {
  const auto group = OrFatal(dev::Sentinels::Start({.replicas = 1}));
  Process watch(
      {COORD_PROGRAM, "--json", "health", "--watch", "--interval", "200ms", "--url", group->url()});
  ASSERT_TRUE(Eventually([&] { return watch.out().find('\n') != std::string::npos; }));
  const int old_port = group->server(0).port();
  const int new_port = group->server(1).port();
  EXPECT_EQ(OrFatal(group->KillMaster()), 0u);
  // The last whole line.
  const auto last = [&] {
    const std::string out = watch.out();
    const std::size_t end = out.rfind('\n');
    const std::size_t start = out.rfind('\n', end - 1);
    return json::parse(out.substr(start + 1, end - start - 1), nullptr, false);
  };
  EXPECT_TRUE(Eventually(
      [&] {
        const json look = last();
        if (look.is_discarded() || look["verdict"] == "failed") return false;
        return look["nodes"][0]["node"] == "127.0.0.1:" + std::to_string(new_port) &&
               look["nodes"][0]["ok"] == true;
      },
      // Sentinels that the machine has held up for 2 s do nothing for 30 s.
      absl::Seconds(75)))
      << last().dump();
  EXPECT_THAT(last()["history"].dump(), HasSubstr(std::to_string(old_port)));
  watch.Signal(SIGTERM);
  EXPECT_EQ(watch.Wait().exit_code, 128 + SIGTERM);
}

TEST(HealthCliTest, WatchingPrintsEachChangeForAPerson) {
  dev::ServerOptions options;
  const auto server = OrFatal(dev::Server::Start(options));
  Process watch(
      {COORD_PROGRAM, "health", "--watch", "--interval", "200ms", "--url", server->url()});
  ASSERT_TRUE(Eventually([&] { return watch.out().find("  ok: ") != std::string::npos; }));
  server->Kill();
  EXPECT_TRUE(Eventually([&] { return watch.out().find("  ! ") != std::string::npos; }));
  EXPECT_TRUE(Eventually([&] { return watch.out().find("  failed: ") != std::string::npos; }));
  OrFatal(server->Restart());
  const std::size_t failed = watch.out().size();
  EXPECT_TRUE(Eventually([&] { return watch.out().find("  ok: ", failed) != std::string::npos; }));
  watch.Signal(SIGINT);
  (void)watch.Wait();
}

TEST(HealthCliTest, AQuorumWorksWithAMajorityThatVotes) {
  const auto quorum = OrFatal(dev::Quorum::Start({.servers = 3}));
  std::vector<std::string> urls;
  for (const std::string& url : quorum->urls()) {
    urls.push_back("--url");
    urls.push_back(url);
  }
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.end(), urls.begin(), urls.end());
    return words;
  };
  const ProcessResult fresh = Coord(with({"health"}));
  EXPECT_EQ(fresh.exit_code, 2) << fresh.out;
  EXPECT_THAT(fresh.out, HasSubstr("does not vote yet"));
  ASSERT_EQ(Coord(with({"quorum", "init"})).exit_code, 0);
  EXPECT_EQ(Coord(with({"health"})).exit_code, 0);
  quorum->server(1).Kill();
  const ProcessResult two = Coord(with({"--json", "health"}));
  EXPECT_EQ(two.exit_code, 1) << two.out;
  EXPECT_EQ(Parsed(two.out)["deployment"], "quorum");
  quorum->server(2).Kill();
  EXPECT_EQ(Coord(with({"health"})).exit_code, 2);
}

}  // namespace
}  // namespace coord::testing
