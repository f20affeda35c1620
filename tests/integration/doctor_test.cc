// `coord doctor` and `coord demo` as a person runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

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

TEST(DemoTest, EveryNumberIsRight) {
  const ProcessResult result = Coord({"demo"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("All right"));
  EXPECT_THAT(result.out, Not(HasSubstr("WRONG")));
}

TEST(DemoTest, LeavesNothingOnTheServer) {
  const RedisServer server;
  const ProcessResult result = Coord({"--json", "demo", "--url", server.url()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto report = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(report.is_discarded()) << result.out;
  EXPECT_EQ(report["ok"], true);
  EXPECT_EQ(report["scenes"].size(), 6u);
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

}  // namespace
}  // namespace coord::testing
