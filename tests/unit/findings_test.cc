// The doctor's judgement: from what a server says about itself to what is wrong with it.
#include "tools/findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace coord::tools {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A server with which nothing is wrong.
Examination Healthy() {
  Examination seen;
  seen.address = "unix:/run/redis.sock";
  seen.info = Fields{{"redis_version", "7.0.15"},
                     {"redis_mode", "standalone"},
                     {"role", "master"},
                     {"aof_enabled", "1"},
                     {"aof_last_write_status", "ok"},
                     {"aof_last_bgrewrite_status", "ok"},
                     {"rdb_last_bgsave_status", "ok"},
                     {"maxmemory", "0"},
                     {"maxmemory_policy", "noeviction"},
                     {"used_memory", "1000000"},
                     {"used_memory_human", "976.56K"},
                     {"connected_slaves", "0"},
                     {"connected_clients", "3"},
                     {"maxclients", "10000"}};
  seen.config = {{"appendfsync", "everysec"}, {"save", ""}, {"min-replicas-to-write", "0"}};
  seen.round_trips =
      RoundTrips{100, absl::Microseconds(60), absl::Microseconds(90), absl::Microseconds(200)};
  seen.clock = ClockDifference{absl::Microseconds(3), absl::Microseconds(20)};
  seen.scripts_loaded = 12;
  seen.scripts_expected = 12;
  return seen;
}

// The gravest finding of that subject.
Finding About(const Examination& seen, std::string_view subject) {
  Finding gravest;
  gravest.what = "(no finding)";
  bool any = false;
  for (const Finding& finding : Judge(seen)) {
    if (finding.subject != subject || (any && finding.level <= gravest.level)) continue;
    gravest = finding;
    any = true;
  }
  EXPECT_TRUE(any) << "nothing about " << subject;
  return gravest;
}

TEST(FindingsTest, AHealthyServerGetsNoWarning) {
  for (const Finding& finding : Judge(Healthy())) {
    EXPECT_EQ(finding.level, Level::kOk) << finding.subject << ": " << finding.what;
    EXPECT_EQ(finding.advice, "") << finding.subject;
  }
}

TEST(FindingsTest, WhatIsNotOkSaysWhyAndWhatToDo) {
  Examination seen = Healthy();
  seen.info = Fields{{"redis_version", "5.0.1"},
                     {"role", "slave"},
                     {"aof_enabled", "0"},
                     {"rdb_last_bgsave_status", "err"},
                     {"maxmemory_policy", "volatile-ttl"},
                     {"evicted_keys", "7"},
                     {"used_memory", "5"},
                     {"connected_slaves", "1"},
                     {"connected_clients", "99"},
                     {"maxclients", "100"}};
  seen.address = "db1:6379";
  seen.script_run = absl::UnavailableError("gone");
  seen.round_trips->p99 = absl::Seconds(1);
  seen.clock->ahead = absl::Seconds(5);
  int found = 0;
  for (const Finding& finding : Judge(seen)) {
    if (finding.level == Level::kOk) continue;
    ++found;
    EXPECT_NE(finding.why, "") << finding.subject;
    EXPECT_NE(finding.advice, "") << finding.subject;
  }
  EXPECT_GE(found, 10);
  EXPECT_EQ(Worst(Judge(seen)), Level::kBad);
}

TEST(FindingsTest, RedisBefore62IsBad) {
  Examination seen = Healthy();
  for (const char* version : {"6.0.20", "5.0.14", "2.8.0"}) {
    (*seen.info)["redis_version"] = version;
    EXPECT_EQ(About(seen, "server").level, Level::kBad) << version;
  }
  for (const char* version : {"6.2.0", "7.0.15", "10.1.0"}) {
    (*seen.info)["redis_version"] = version;
    EXPECT_EQ(About(seen, "server").level, Level::kOk) << version;
  }
}

TEST(FindingsTest, ValkeyIsNamedAsWhatItIs) {
  Examination seen = Healthy();
  (*seen.info)["redis_version"] = "7.2.4";
  (*seen.info)["valkey_version"] = "8.0.1";
  EXPECT_EQ(About(seen, "server").what, "valkey 8.0.1");
}

TEST(FindingsTest, AReplicaIsBadAndItsMasterNamed) {
  Examination seen = Healthy();
  (*seen.info)["role"] = "slave";
  (*seen.info)["master_host"] = "db1";
  (*seen.info)["master_port"] = "6380";
  EXPECT_EQ(About(seen, "role").level, Level::kBad);
  EXPECT_THAT(About(seen, "role").advice, HasSubstr("db1:6380"));
}

TEST(FindingsTest, AServerOfAClusterIsRightForAClusterAlone) {
  Examination seen = Healthy();
  (*seen.info)["redis_mode"] = "cluster";
  seen.address = "db1:6379";
  EXPECT_EQ(About(seen, "server").level, Level::kBad);
  EXPECT_THAT(About(seen, "server").advice, HasSubstr("redis+cluster://db1:6379"));
  seen.info->erase("redis_mode");
  (*seen.info)["server_mode"] = "cluster";  // as Valkey says it
  EXPECT_EQ(About(seen, "server").level, Level::kBad);
  seen.duty = Duty::kVoter;
  EXPECT_EQ(About(seen, "server").level, Level::kBad);
  seen.duty = Duty::kClusterMaster;
  EXPECT_EQ(About(seen, "server").level, Level::kOk);
}

TEST(FindingsTest, AMasterThatIsReachedPastItsSentinelsIsWarnedOf) {
  Examination seen = Healthy();
  seen.sentinels = 3;
  EXPECT_EQ(About(seen, "sentinels").level, Level::kWarn);
  EXPECT_THAT(About(seen, "sentinels").advice, HasSubstr("redis+sentinel://"));
  seen.duty = Duty::kSentinelMaster;
  for (const Finding& finding : Judge(seen)) EXPECT_NE(finding.subject, "sentinels");
}

TEST(FindingsTest, AVoterMayForgetAndMayNotEvictNorHaveAnotherTime) {
  Examination seen = Healthy();
  seen.duty = Duty::kVoter;
  (*seen.info)["aof_enabled"] = "0";
  EXPECT_EQ(About(seen, "persistence").level, Level::kOk);
  (*seen.info)["maxmemory_policy"] = "allkeys-lru";
  EXPECT_EQ(About(seen, "eviction").level, Level::kBad);
  seen.clock = ClockDifference{absl::Seconds(16), absl::Microseconds(20)};
  EXPECT_EQ(About(seen, "clock").level, Level::kBad);
  EXPECT_EQ(About(seen, "vote").level, Level::kOk);
  seen.vote = absl::UnavailableError("it does not vote for another 30 s");
  EXPECT_EQ(About(seen, "vote").level, Level::kWarn);
}

TEST(FindingsTest, ClusterAndSentinelAreBad) {
  Examination seen = Healthy();
  (*seen.info)["redis_mode"] = "cluster";
  EXPECT_EQ(About(seen, "server").level, Level::kBad);
  (*seen.info)["redis_mode"] = "sentinel";
  EXPECT_EQ(About(seen, "role").level, Level::kBad);
}

TEST(FindingsTest, EveryPolicyButNoevictionIsWarnedOf) {
  Examination seen = Healthy();
  for (const char* policy : {"allkeys-lru", "volatile-ttl", "allkeys-random"}) {
    (*seen.info)["maxmemory_policy"] = policy;
    EXPECT_EQ(About(seen, "eviction").level, Level::kWarn) << policy;
    EXPECT_THAT(About(seen, "eviction").what, HasSubstr("no maxmemory")) << policy;
  }
  (*seen.info)["maxmemory"] = "104857600";
  (*seen.info)["maxmemory_human"] = "100.00M";
  EXPECT_EQ(About(seen, "eviction").level, Level::kWarn);
  EXPECT_THAT(About(seen, "eviction").what, HasSubstr("100.00M"));
}

TEST(FindingsTest, EvictedKeysAreBadUnlessThePolicyIsNoeviction) {
  Examination seen = Healthy();
  (*seen.info)["evicted_keys"] = "7";
  EXPECT_EQ(About(seen, "eviction").level, Level::kOk);
  (*seen.info)["maxmemory_policy"] = "allkeys-lru";
  EXPECT_EQ(About(seen, "eviction").level, Level::kBad);
}

TEST(FindingsTest, MemoryWarnsNearTheLimitAndIsBadAtIt) {
  Examination seen = Healthy();
  (*seen.info)["maxmemory"] = "1000";
  (*seen.info)["used_memory"] = "899";
  EXPECT_EQ(About(seen, "memory").level, Level::kOk);
  (*seen.info)["used_memory"] = "900";
  EXPECT_EQ(About(seen, "memory").level, Level::kWarn);
  (*seen.info)["used_memory"] = "1000";
  EXPECT_EQ(About(seen, "memory").level, Level::kBad);
}

TEST(FindingsTest, WithoutAppendOnlyFileLocksAreForgotten) {
  Examination seen = Healthy();
  (*seen.info)["aof_enabled"] = "0";
  EXPECT_EQ(About(seen, "persistence").level, Level::kWarn);
  EXPECT_THAT(About(seen, "persistence").what, HasSubstr("no snapshots"));
  seen.config["save"] = "3600 1";
  EXPECT_EQ(About(seen, "persistence").level, Level::kWarn);
  EXPECT_THAT(About(seen, "persistence").what, HasSubstr("3600 1"));
  seen.config.erase("save");
  EXPECT_THAT(About(seen, "persistence").what, Not(HasSubstr("snapshots")));
}

TEST(FindingsTest, AFailedSnapshotIsBadOnlyWhereItStopsWrites) {
  Examination seen = Healthy();
  seen.config["save"] = "3600 1";
  (*seen.info)["rdb_last_bgsave_status"] = "err";
  EXPECT_EQ(About(seen, "last save").level, Level::kBad);
  seen.config["stop-writes-on-bgsave-error"] = "no";
  EXPECT_EQ(About(seen, "last save").level, Level::kWarn);
  (*seen.info)["aof_last_write_status"] = "err";
  EXPECT_EQ(About(seen, "last save").level, Level::kBad);
}

TEST(FindingsTest, ClocksApartAreWarnedOfBeyondWhatTheMeasurementCanTell) {
  Examination seen = Healthy();
  for (const absl::Duration ahead : {absl::Milliseconds(500), -absl::Milliseconds(500)}) {
    seen.clock = ClockDifference{ahead, absl::Milliseconds(10)};
    EXPECT_EQ(About(seen, "clock").level, Level::kWarn);
    seen.clock = ClockDifference{ahead, absl::Milliseconds(450)};
    EXPECT_EQ(About(seen, "clock").level, Level::kOk);
  }
  seen.clock = ClockDifference{-absl::Seconds(2), absl::Milliseconds(1)};
  EXPECT_THAT(About(seen, "clock").what, HasSubstr("behind"));
}

TEST(FindingsTest, OnlyAWayThatOthersCanListenToNeedsTls) {
  Examination seen = Healthy();
  for (const char* here : {"unix:/run/x", "127.0.0.1:6379", "localhost:6379", "[::1]:6379"}) {
    seen.address = here;
    EXPECT_EQ(About(seen, "encryption").level, Level::kOk) << here;
  }
  for (const char* there : {"db1:6379", "10.0.0.7:6379", "localhost.example.org:6379"}) {
    seen.address = there;
    EXPECT_EQ(About(seen, "encryption").level, Level::kWarn) << there;
  }
  seen.tls = true;
  EXPECT_EQ(About(seen, "encryption").level, Level::kOk);
  seen.insecure = true;
  seen.address = "127.0.0.1:6379";  // also here: it was asked for, and is not kept
  EXPECT_EQ(About(seen, "encryption").level, Level::kOk);
  seen.address = "db1:6379";
  EXPECT_EQ(About(seen, "encryption").level, Level::kWarn);
}

TEST(FindingsTest, TooFewGoodReplicasAreBad) {
  Examination seen = Healthy();
  (*seen.info)["connected_slaves"] = "2";
  EXPECT_EQ(About(seen, "replicas").level, Level::kWarn);
  seen.config["min-replicas-to-write"] = "2";
  (*seen.info)["min_slaves_good_slaves"] = "1";
  EXPECT_EQ(About(seen, "replicas").level, Level::kBad);
}

TEST(FindingsTest, WhatMayNotBeAskedIsUnknownAndNoFailure) {
  Examination seen;
  seen.address = "unix:/x";
  seen.scripts_expected = 12;
  const std::vector<Finding> findings = Judge(seen);
  EXPECT_EQ(Worst(findings), Level::kUnknown);
  for (const char* subject : {"server", "role", "round trip", "scripts", "persistence", "last save",
                              "eviction", "memory", "clock", "replicas", "clients"}) {
    EXPECT_EQ(About(seen, subject).level, Level::kUnknown) << subject;
    EXPECT_THAT(About(seen, subject).what, HasSubstr("not allowed to ask")) << subject;
  }
}

TEST(FindingsTest, AScriptThatIsRefusedIsBad) {
  Examination seen = Healthy();
  seen.script_run = absl::PermissionDeniedError("NOPERM this user has no permissions");
  EXPECT_EQ(About(seen, "scripts").level, Level::kBad);
  EXPECT_THAT(About(seen, "scripts").why, HasSubstr("NOPERM"));
}

TEST(ServerFactsTest, InfoIsReadByLines) {
  const Fields fields = ParseInfo(
      "# Server\r\nredis_version:7.0.15\r\n\r\nunixsocket:/a:b\r\nempty:\r\nno colon\r\nlast:1");
  EXPECT_EQ(
      fields,
      (Fields{{"redis_version", "7.0.15"}, {"unixsocket", "/a:b"}, {"empty", ""}, {"last", "1"}}));
  EXPECT_EQ(ParseInfo(""), Fields());
}

TEST(ServerFactsTest, NumbersAreWholeOrNotThere) {
  const Fields fields = {{"a", "12"}, {"b", "12K"}, {"c", ""}, {"d", "-3"}};
  EXPECT_EQ(Number(fields, "a"), 12);
  EXPECT_EQ(Number(fields, "b"), std::nullopt);
  EXPECT_EQ(Number(fields, "c"), std::nullopt);
  EXPECT_EQ(Number(fields, "d"), -3);
  EXPECT_EQ(Number(fields, "e"), std::nullopt);
}

TEST(ServerFactsTest, PercentilesAreSamples) {
  std::vector<absl::Duration> samples;
  for (int i = 100; i >= 1; --i) samples.push_back(absl::Microseconds(i));
  const auto trips = Summarize(samples);
  ASSERT_TRUE(trips);
  EXPECT_EQ(trips->samples, 100);
  EXPECT_EQ(trips->p50, absl::Microseconds(50));
  EXPECT_EQ(trips->p99, absl::Microseconds(99));
  EXPECT_EQ(trips->max, absl::Microseconds(100));
  EXPECT_EQ(Summarize({absl::Seconds(1)})->p50, absl::Seconds(1));
  EXPECT_FALSE(Summarize({}));
}

TEST(ServerFactsTest, ClocksAreComparedByTheShortestRoundTrip) {
  const absl::Time base = absl::FromUnixSeconds(1'000'000);
  const auto at = [&](int milliseconds) { return base + absl::Milliseconds(milliseconds); };
  const auto difference = Compare({{at(0), at(100), at(950)},       // says 900 ahead, +- 50
                                   {at(200), at(204), at(1202)},    // says 1000 ahead, +- 2
                                   {at(300), at(290), at(5000)}});  // the clock was set meanwhile
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->ahead, absl::Milliseconds(1000));
  EXPECT_EQ(difference->error, absl::Milliseconds(2));
  EXPECT_FALSE(Compare({}));
}

TEST(ServerFactsTest, NoPasswordIsShown) {
  for (const char* url :
       {"redis://:geheim@db1/0", "redis://user:geheim@db1:6379", "rediss://u:geheim@h?timeout=1s",
        "redis://user:gehe/im@geheim@db1", "redis://u:geheim?geheim@db1", "u:geheim@db1",
        "unix://:geheim@/run/redis.sock", "redis+sentinel://h1,h2/m?sentinel_password=geheim",
        "redis+sentinel://h1,h2/m?sentinel_password=geheim&sentinel_user=x"}) {
    const std::string shown = HidePasswords(url);
    EXPECT_THAT(shown, Not(HasSubstr("geheim"))) << url;
    EXPECT_THAT(shown, HasSubstr("***")) << url;
  }
  EXPECT_EQ(HidePasswords("redis://:x@db1:6379/2"), "redis://***@db1:6379/2");
  EXPECT_EQ(HidePasswords("embedded://"), "embedded://");
  EXPECT_EQ(HidePasswords("redis://db1:6379/2?timeout=1s"), "redis://db1:6379/2?timeout=1s");
}

}  // namespace
}  // namespace coord::tools
