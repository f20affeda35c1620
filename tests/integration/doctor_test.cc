// `coord doctor` and `coord demo` as a person runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "tests/support/deployment.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"
#include "tools/dev/sentinels.h"
#include "tools/dev/servers.h"

namespace coord::testing {
namespace {

using internal::StrCat;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

ProcessResult Coord(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), COORD_PROGRAM);
  return RunProgram(arguments, {.env = {{"COORD_URL", "unix:///nowhere/at/all"}}},
                    absl::Seconds(90));
}

// The level of a subject's gravest finding, as --json gives it.
std::string LevelOf(const ProcessResult& result, const std::string& subject) {
  const auto report = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  if (report.is_discarded()) return "no JSON: " + result.out;
  std::string found = "nothing";
  for (const auto& finding : report["findings"]) {
    if (finding["subject"] != subject) continue;
    if (found != "bad") found = finding["level"];
  }
  return found;
}

TEST(DoctorTest, APlainServerIsGoodEnough) {
  const RedisServer server;
  const ProcessResult result = Coord({"doctor", "--url", server.url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  for (const char* part : {"server", "role", "round trip", "scripts", "persistence", "eviction",
                           "noeviction", "clock", "encryption", "replicas"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
  EXPECT_THAT(result.out, Not(HasSubstr("\033["))) << "colour without a terminal";
}

TEST(DoctorTest, JsonGivesEverything) {
  const RedisServer server({.append_only = true});
  const ProcessResult result = Coord({"--json", "doctor", "--url", server.url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto report = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(report.is_discarded()) << result.out;
  EXPECT_EQ(report["verdict"], "ok");
  EXPECT_EQ(report["role"], "master");
  EXPECT_EQ(report["append_only"], true);
  EXPECT_EQ(report["maxmemory_policy"], "noeviction");
  EXPECT_GT(report["scripts_expected"], 0);
  EXPECT_EQ(report["scripts_loaded"], report["scripts_expected"]);
  EXPECT_EQ(report["round_trip_us"]["samples"], 100);
  EXPECT_GT(report["round_trip_us"]["p50"], 0);
  EXPECT_GE(report["round_trip_us"]["p99"], report["round_trip_us"]["p50"]);
  EXPECT_TRUE(report["clock_ms"]["server_ahead"].is_number());
}

TEST(DoctorTest, EvictionIsWarnedOf) {
  const RedisServer server({.args = {"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}});
  const ProcessResult result = Coord({"doctor", "--url", server.url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("warn: eviction: allkeys-lru"));
  EXPECT_EQ(LevelOf(Coord({"--json", "doctor", "--url", server.url()}), "eviction"), "warn");
}

TEST(DoctorTest, AReplicaIsBad) {
  const RedisServer master({.port = 0, .args = {"--repl-diskless-sync-delay", "0"}});
  const RedisServer replica({.args = {"--replicaof", "127.0.0.1", std::to_string(master.port())}});
  RawRedis redis(replica);
  ASSERT_TRUE(Eventually([&] {
    return redis.Text({"INFO", "replication"}).find("master_link_status:up") != std::string::npos;
  }));
  const ProcessResult result = Coord({"doctor", "--url", replica.url()});
  EXPECT_EQ(result.exit_code, 1) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("bad: role"));
  EXPECT_THAT(result.out, HasSubstr(std::to_string(master.port())));
  EXPECT_EQ(LevelOf(Coord({"--json", "doctor", "--url", master.url()}), "replicas"), "warn");
}

TEST(DoctorTest, NoPasswordIsPrinted) {
  const RedisServer server({.args = {"--requirepass", "right-geheim"}});
  const std::string socket = server.socket_path();
  for (const char* json : {"--json", ""}) {
    for (const char* password : {"right-geheim", "wrong-geheim"}) {
      std::vector<std::string> arguments = {"doctor", "--url",
                                            "unix://:" + std::string(password) + "@" + socket};
      if (*json != '\0') arguments.insert(arguments.begin(), json);
      const ProcessResult result = Coord(arguments);
      EXPECT_EQ(result.exit_code == 0, std::string(password) == "right-geheim") << result.out;
      EXPECT_THAT(result.out + result.err, Not(HasSubstr("geheim")));
    }
  }
}

TEST(DoctorTest, AWrongPasswordIsNamedAsTheReason) {
  const RedisServer server({.args = {"--requirepass", "right-geheim"}});
  const ProcessResult result =
      Coord({"doctor", "--url", "unix://:wrong-geheim@" + server.socket_path()});
  EXPECT_EQ(result.exit_code, 1) << result.out;
  EXPECT_THAT(result.out, HasSubstr("WRONGPASS"));
}

TEST(DoctorTest, WhatTheUserMayNotAskIsUnknown) {
  const RedisServer server;
  RawRedis redis(server);
  redis.Text({"ACL", "SETUSER", "least", "on", ">pw", "~coord:*", "-@all", "+ping", "+hello",
              "+client|setname", "+script|load", "+evalsha", "+eval", "+get", "+time"});
  const ProcessResult result =
      Coord({"--json", "doctor", "--url", "unix://least:pw@" + server.socket_path()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_EQ(LevelOf(result, "persistence"), "unknown");
  EXPECT_EQ(LevelOf(result, "scripts"), "unknown");
  EXPECT_EQ(LevelOf(result, "round trip"), "ok");
}

TEST(DoctorTest, NoServerIs69AndSaysWhatWasTried) {
  const TempDir directory;
  const std::string url = "unix://:geheim@" + directory.File("nobody.sock");
  const ProcessResult result = Coord({"doctor", "--url", url});
  EXPECT_EQ(result.exit_code, 69) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr(directory.File("nobody.sock")));
  EXPECT_THAT(result.out, Not(HasSubstr("geheim")));
  const ProcessResult json = Coord({"--json", "doctor", "--url", url});
  EXPECT_EQ(json.exit_code, 69);
  EXPECT_EQ(LevelOf(json, "connection"), "bad");
}

TEST(DoctorTest, AClusterIsLookedAtAsAWholeAndEveryMasterOfIt) {
  const auto cluster = OrFatal(dev::Cluster::Start({.replicas = 0}));
  const ProcessResult result = Coord({"doctor", "--url", cluster->url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("all 16384 served by 3 masters"));
  EXPECT_THAT(result.out, HasSubstr("all 3 nodes: no replica"));
  EXPECT_THAT(result.out, HasSubstr("cluster-require-full-coverage yes"));
  EXPECT_THAT(result.out, HasSubstr("\nguarantees\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("does not speak")));
  const ProcessResult json = Coord({"--json", "doctor", "--url", cluster->url()});
  const auto report = nlohmann::json::parse(json.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(report.is_discarded()) << json.out;
  EXPECT_EQ(report["nodes"].size(), 3u);
  // One node of it, as if it were a server on its own.
  const ProcessResult one = Coord({"doctor", "--url", cluster->node(0).url()});
  EXPECT_EQ(one.exit_code, 1) << one.out << one.err;
  EXPECT_THAT(one.out, HasSubstr("redis+cluster://127.0.0.1:"));
}

TEST(DoctorTest, AGroupIsLookedAtThroughItsSentinels) {
  const auto group = OrFatal(dev::Sentinels::Start({.replicas = 1, .quorum = 1}));
  const ProcessResult result = Coord({"doctor", "--url", group->url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("3, which agree on 127.0.0.1:"));
  EXPECT_THAT(result.out, HasSubstr("warn: quorum: 1 of 3"));
  EXPECT_THAT(result.out, HasSubstr("SENTINEL SET mymaster quorum 2"));
  EXPECT_THAT(result.out, HasSubstr("across a failover"));
  const ProcessResult past = Coord({"doctor", "--url", group->server(0).url()});
  EXPECT_EQ(past.exit_code, 0) << past.out << past.err;
  EXPECT_THAT(past.out, HasSubstr("redis+sentinel://"));
}

TEST(DoctorTest, AQuorumIsLookedAtServerByServer) {
  const auto quorum = OrFatal(dev::Quorum::Start({.servers = 3}));
  std::vector<std::string> words = {"doctor"};
  for (const std::string& url : quorum->urls()) {
    words.push_back("--url");
    words.push_back(url);
  }
  const ProcessResult fresh = Coord(words);
  EXPECT_EQ(fresh.exit_code, 0) << fresh.out << fresh.err;
  EXPECT_THAT(fresh.out, HasSubstr("all 3 nodes: it does not vote yet"));
  EXPECT_THAT(fresh.out, HasSubstr("at most 1 of 3 servers"));
  quorum->server(0).Kill();
  quorum->server(1).Kill();
  EXPECT_EQ(Coord(words).exit_code, 1);
}

TEST(DoctorTest, ThePlainWayToATlsServerIsNamedAsTheReason) {
  const auto server = OrFatal(dev::TlsServer::Start());
  const ProcessResult right = Coord({"doctor", "--url", server->url()});
  EXPECT_EQ(right.exit_code, 0) << right.out << right.err;
  EXPECT_THAT(right.out, HasSubstr("TLS: nobody on the way"));
  const ProcessResult plain =
      Coord({"doctor", "--url", "redis://127.0.0.1:" + std::to_string(server->server().port()),
             "--timeout", "2s"});
  EXPECT_NE(plain.exit_code, 0);
  EXPECT_THAT(plain.out, HasSubstr("rediss://"));
}

// What the demo says, cut at the numbered headlines; what stands before the first is left out.
std::vector<std::string> Scenes(const std::string& text) {
  std::vector<std::string> scenes;
  std::size_t start = text.find("\n1. ");
  while (start != std::string::npos) {
    const std::size_t next = text.find(StrCat("\n", scenes.size() + 2, ". "), start + 1);
    scenes.push_back(text.substr(start, next == std::string::npos ? next : next - start));
    start = next;
  }
  return scenes;
}

// All whole numbers of the first line that begins with `start`.
std::vector<std::int64_t> NumbersOf(const std::string& start, const std::string& text) {
  std::vector<std::int64_t> numbers;
  const std::size_t found = text.find("\n" + start);
  if (found == std::string::npos) return numbers;
  const std::string line = text.substr(found + 1, text.find('\n', found + 1) - found - 1);
  const std::regex number("[0-9]+");
  for (std::sregex_iterator it(line.begin(), line.end(), number), end; it != end; ++it) {
    numbers.push_back(std::stoll(it->str()));
  }
  return numbers;
}

// What is checked wherever processes take turns.
void ExpectTurns(const std::string& scene) {
  EXPECT_THAT(scene, HasSubstr("\n  ok     every token is larger than all before it\n"));
  EXPECT_THAT(scene, HasSubstr("\n  ok     never two inside at once"));
  EXPECT_THAT(scene, HasSubstr("\n  ok     whoever came in left, and still had the lock then\n"));
}

int EntriesOf(const TempDir& directory) {
  const std::filesystem::directory_iterator entries(directory.path());
  return static_cast<int>(std::distance(begin(entries), end(entries)));
}

// Processes whose command line names the directory.
int ServersIn(const TempDir& directory) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::string line;
    std::getline(file, line);  // says so when the process has ended meanwhile, and throws nothing
    if (line.find(directory.path()) != std::string::npos) ++count;
  }
  return count;
}

TEST(DemoTest, EveryNumberIsRight) {
  const ProcessResult result = Coord({"demo"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("All right"));
  EXPECT_THAT(result.out, Not(HasSubstr("WRONG")));
  const std::vector<std::string> scenes = Scenes(result.out);
  ASSERT_EQ(scenes.size(), 16u) << result.out;

  const std::string& lock = scenes[0];
  EXPECT_THAT(lock, ContainsRegex("from one's release to the next one's grant: p50 [0-9.]+ [mu]?s, "
                                  "p99 [0-9.]+ [mu]?s; the longest wait [0-9.]+ [mu]?s\n"));
  EXPECT_THAT(lock, ContainsRegex("\n  ok     first come, first served: in "));
  ExpectTurns(lock);
  const std::vector<std::int64_t> turns = NumbersOf("  turns: ", lock);
  ASSERT_EQ(turns.size(), 8u) << lock;
  const std::vector<std::int64_t> held = NumbersOf("  ok     held ", lock);
  ASSERT_EQ(held.size(), 3u) << lock;
  EXPECT_EQ(held[0], std::accumulate(turns.begin(), turns.end(), std::int64_t{0}));
  EXPECT_EQ(held[1], *std::min_element(turns.begin(), turns.end()));
  EXPECT_EQ(held[2], *std::max_element(turns.begin(), turns.end()));

  EXPECT_THAT(scenes[1], HasSubstr("A is killed (SIGKILL)"));
  EXPECT_THAT(scenes[1], ContainsRegex("\n  ok     C came in after B had left"));
  EXPECT_THAT(scenes[2],
              ContainsRegex("\n  ok     A, B and C were inside together, with one token\n"));
  EXPECT_THAT(scenes[2], ContainsRegex("\n  ok     W was alone, and D waited for it\n"));
  EXPECT_THAT(scenes[2], ContainsRegex("\n  ok     W's token is larger than theirs"));
  EXPECT_THAT(scenes[3], ContainsRegex("\n  ok     the lock works with two of three servers\n"));
  EXPECT_THAT(scenes[3],
              ContainsRegex("\n  ok     with one of three there is an error within 1 s"));
  ExpectTurns(scenes[3]);
  EXPECT_THAT(scenes[5], ContainsRegex("\n  ok     exactly 50 together, and nobody more than "));
  EXPECT_THAT(scenes[7], HasSubstr("\n  ok     it was told that it had missed 19\n"));
  EXPECT_THAT(scenes[9], ContainsRegex("\n  ok     exactly one took it over: [A-H]\n"));
  EXPECT_THAT(scenes[11], ContainsRegex("\n  ok     with ids all [0-9]+ additions counted "));
  EXPECT_THAT(scenes[12],
              ContainsRegex("killed the master on port [0-9]+ .*; the counter went on"));
  EXPECT_THAT(scenes[12], ContainsRegex("\n  ok     nothing was lost and nothing counted twice"));
  EXPECT_THAT(scenes[12], ContainsRegex("\n  ok     .* its token rose from [0-9]+ to [0-9]+\n"));
  EXPECT_THAT(scenes[13], HasSubstr("\n  ok     one of them made it, once\n"));
  EXPECT_THAT(scenes[13], HasSubstr("\n  ok     all eight have the same value\n"));
  EXPECT_THAT(scenes[14], HasSubstr("\n  values: A 1, B 1, C 1, D 1, E 2, F 2\n"));
  EXPECT_THAT(scenes[15], HasSubstr("\n  ok     one of the eight asked the origin, once\n"));
  EXPECT_THAT(scenes[15], HasSubstr("\n  ok     the four have the page that was, and know "));
}

TEST(DemoTest, AClaimThatIsFalseIsSaidAndEndsWith1) {
  const RedisServer server;
  Process demo({COORD_PROGRAM, "demo", "--url", server.url()});
  RawRedis redis(server);
  std::string name;
  ASSERT_TRUE(Eventually([&] {
    const Reply keys = redis.Command({"KEYS", "coord:{demo-*-lock}:lease"});
    if (!keys.is_array() || keys.items().empty()) return false;
    const std::string& key = keys.items()[0].text();
    name = key.substr(7, key.find('}') - 7);
    return true;
  }));
  // An operator takes the lock from whoever has it, again and again, and so lets two in.
  const auto client = Client::Connect(server.url());
  ASSERT_OK(client);
  const Mutex mutex(*client, name);
  EXPECT_TRUE(Eventually([&] {
    EXPECT_OK(mutex.ForceRelease());
    return demo.out().find("\n2. ") != std::string::npos;
  }));
  // And counts one more than was asked for.
  ASSERT_TRUE(Eventually(
      [&] {
        const Reply keys = redis.Command({"KEYS", "coord:{demo-*-cut}:count"});
        if (!keys.is_array() || keys.items().empty()) return false;
        return redis.Integer({"INCR", keys.items()[0].text()}) > 0;
      },
      absl::Seconds(60)));
  const ProcessResult result = demo.Wait(absl::Seconds(90));
  EXPECT_EQ(result.exit_code, 1) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("\n  WRONG  two were inside at once: "));
  EXPECT_THAT(result.out, ContainsRegex("\n  WRONG  with ids [0-9]+ additions counted as "));
  EXPECT_THAT(result.err, HasSubstr("WRONG: two were inside at once: "));
  EXPECT_THAT(result.out, Not(HasSubstr("All right")));
}

TEST(DemoTest, LeavesNothingOnTheServer) {
  const RedisServer server;
  const ProcessResult result = Coord({"--json", "demo", "--url", server.url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto report = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(report.is_discarded()) << result.out;
  EXPECT_EQ(report["ok"], true);
  ASSERT_EQ(report["scenes"].size(), 16u);
  const auto& lock = report["scenes"][0];
  EXPECT_GE(lock["last_token"].get<std::int64_t>() - lock["first_token"].get<std::int64_t>(),
            lock["held"].get<std::int64_t>() - 1);
  for (const auto& [scene, tokens] : {std::pair(1, 3u), std::pair(2, 3u)}) {
    const auto rising = report["scenes"][scene]["tokens"].get<std::vector<std::int64_t>>();
    EXPECT_EQ(rising.size(), tokens);
    EXPECT_TRUE(std::is_sorted(rising.begin(), rising.end(), std::less_equal<>())) << result.out;
  }
  const auto& quorum = report["scenes"][3];
  EXPECT_GE(quorum["turns_with_two"].get<int>(), 12) << result.out;
  EXPECT_THAT(quorum["error"].get<std::string>(), HasSubstr("no majority of 3 servers"));
  RawRedis redis(server);
  EXPECT_EQ(redis.Integer({"DBSIZE"}), 0);
}

TEST(DemoTest, InterruptedItCleansUp) {
  const RedisServer server;
  Process demo({COORD_PROGRAM, "demo", "--url", server.url()});
  RawRedis redis(server);
  ASSERT_TRUE(Eventually([&] { return redis.Integer({"DBSIZE"}) > 0; }));
  demo.Signal(SIGTERM);
  EXPECT_EQ(demo.Wait().exit_code, 128 + SIGTERM);
  EXPECT_EQ(redis.Integer({"DBSIZE"}), 0);
  // Its workers are gone too: the connection that is left is the test's own.
  EXPECT_TRUE(Eventually([&] {
    return redis.Text({"INFO", "clients"}).find("connected_clients:1\r") != std::string::npos;
  }));
}

// Ended among the servers that vote, by a signal that it hears of and by one that it does not, it
// leaves neither servers nor their directories.
class DemoEndedTest : public ::testing::TestWithParam<int> {};

TEST_P(DemoEndedTest, LeavesNoServers) {
  const TempDir directory;
  Process demo({COORD_PROGRAM, "demo"}, {.env = {{"TMPDIR", directory.path()}}});
  const auto is_voting = [&] { return demo.out().find("\n4. ") != std::string::npos; };
  // Its own, and the three.
  ASSERT_TRUE(Eventually(
      [&] { return is_voting() && EntriesOf(directory) == 4 && ServersIn(directory) == 4; },
      absl::Seconds(60)))
      << demo.out() << demo.err();
  demo.Signal(GetParam());
  (void)demo.Wait();
  EXPECT_TRUE(Eventually([&] { return EntriesOf(directory) == 0 && ServersIn(directory) == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Signals, DemoEndedTest, ::testing::Values(SIGTERM, SIGKILL));

}  // namespace
}  // namespace coord::testing
