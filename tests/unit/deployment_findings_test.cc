// The doctor's judgement of several servers that belong together.
#include "tools/deployment_findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace coord::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Finding Well(std::string what) { return {Level::kOk, "memory", std::move(what), "", ""}; }
Finding Warning(std::string what) { return {Level::kWarn, "memory", std::move(what), "w", "d"}; }

// The gravest finding of that subject; level kOk and no words where there is none.
Finding About(const std::vector<Finding>& findings, std::string_view subject) {
  Finding gravest;
  for (const Finding& finding : findings) {
    if (finding.subject == subject && (gravest.what.empty() || finding.level > gravest.level)) {
      gravest = finding;
    }
  }
  return gravest;
}

ClusterFacts GoodCluster() {
  ClusterFacts facts;
  facts.info = Fields{
      {"cluster_state", "ok"}, {"cluster_slots_assigned", "16384"}, {"cluster_slots_fail", "0"}};
  facts.config = {{"cluster-require-full-coverage", "no"},
                  {"cluster-node-timeout", "5000"},
                  {"tls-cluster", "no"},
                  {"tls-replication", "no"}};
  facts.masters = 3;
  facts.replicas = {{"a:1", ""}, {"a:2", ""}, {"a:3", ""}};
  return facts;
}

Fields Master(const std::string& quorum = "2") {
  return {{"ip", "10.0.0.1"},
          {"port", "6379"},
          {"quorum", quorum},
          {"num-other-sentinels", "2"},
          {"down-after-milliseconds", "5000"}};
}

SentinelFacts GoodGroup() {
  SentinelFacts facts;
  facts.name = "mymaster";
  facts.sentinels = {{"s:1", "", Master()}, {"s:2", "", Master()}, {"s:3", "", Master()}};
  facts.replicas = {{"r:1", ""}};
  return facts;
}

TEST(DeploymentFindingsTest, WhatAllNodesHaveIsSaidOnce) {
  const std::vector<Finding> merged =
      Merge({{"a:1", {Warning("full")}}, {"a:2", {Warning("full")}}});
  ASSERT_EQ(merged.size(), 1u);
  EXPECT_EQ(merged[0].what, "all 2 nodes: full");
}

TEST(DeploymentFindingsTest, WhatDiffersHasItsNodesInFront) {
  const std::vector<Finding> merged =
      Merge({{"a:1", {Well("fine")}}, {"a:2", {Warning("full")}}, {"a:3", {Warning("full")}}});
  ASSERT_EQ(merged.size(), 2u);
  EXPECT_EQ(merged[0].what, "a:2, a:3: full");
  EXPECT_EQ(merged[1].what, "a:1: fine");
}

TEST(DeploymentFindingsTest, WhereAllIsWellOneStandsForAll) {
  const std::vector<Finding> merged =
      Merge({{"a:1", {Well("1 MB")}}, {"a:2", {Well("2 MB")}}, {"a:3", {Well("3 MB")}}});
  ASSERT_EQ(merged.size(), 1u);
  EXPECT_THAT(merged[0].what, AllOf(HasSubstr("1 MB"), HasSubstr("2 more")));
}

TEST(DeploymentFindingsTest, OneNodeIsNotNamed) {
  EXPECT_EQ(Merge({{"a:1", {Warning("full")}}})[0].what, "full");
}

TEST(DeploymentFindingsTest, AGoodDeploymentGetsNoWarning) {
  for (const auto& findings : {JudgeCluster(GoodCluster()), JudgeSentinels(GoodGroup())}) {
    for (const Finding& finding : findings) {
      EXPECT_EQ(finding.level, Level::kOk) << finding.subject << ": " << finding.what;
    }
  }
}

TEST(DeploymentFindingsTest, SlotsThatNobodyServesAreBad) {
  ClusterFacts facts = GoodCluster();
  (*facts.info)["cluster_slots_fail"] = "5461";
  const Finding slots = About(JudgeCluster(facts), "slots");
  EXPECT_EQ(slots.level, Level::kBad);
  EXPECT_THAT(slots.what, HasSubstr("5461 of 16384"));
  EXPECT_THAT(slots.why, HasSubstr("those slots"));
  facts.config["cluster-require-full-coverage"] = "yes";
  EXPECT_THAT(About(JudgeCluster(facts), "slots").why, HasSubstr("refuses everything"));
}

TEST(DeploymentFindingsTest, ACoverageThatMustBeFullIsWarnedOf) {
  ClusterFacts facts = GoodCluster();
  facts.config["cluster-require-full-coverage"] = "yes";
  EXPECT_EQ(About(JudgeCluster(facts), "coverage").level, Level::kWarn);
}

TEST(DeploymentFindingsTest, AMasterWithoutReplicaIsNamed) {
  ClusterFacts facts = GoodCluster();
  facts.bare = {"a:7"};
  const Finding failover = About(JudgeCluster(facts), "failover");
  EXPECT_EQ(failover.level, Level::kWarn);
  EXPECT_THAT(failover.what, HasSubstr("a:7"));
}

TEST(DeploymentFindingsTest, NodesThatTalkInTheClearBehindTlsAreWarnedOf) {
  ClusterFacts facts = GoodCluster();
  facts.tls = true;
  EXPECT_EQ(About(JudgeCluster(facts), "encryption").level, Level::kWarn);
  facts.config["tls-cluster"] = facts.config["tls-replication"] = "yes";
  EXPECT_EQ(About(JudgeCluster(facts), "encryption").what, "");
  facts.tls = false;
  EXPECT_EQ(About(JudgeCluster(facts), "encryption").level, Level::kWarn);
}

TEST(DeploymentFindingsTest, TimesThatAreTooShortOrTooLongAreWarnedOf) {
  ClusterFacts cluster = GoodCluster();
  SentinelFacts group = GoodGroup();
  for (const char* time : {"100", "60000"}) {
    cluster.config["cluster-node-timeout"] = time;
    EXPECT_EQ(About(JudgeCluster(cluster), "node timeout").level, Level::kWarn) << time;
    for (SentinelView& one : group.sentinels) (*one.master)["down-after-milliseconds"] = time;
    EXPECT_EQ(About(JudgeSentinels(group), "down after").level, Level::kWarn) << time;
  }
}

TEST(DeploymentFindingsTest, FewerThanThreeSentinelsAreWarnedOf) {
  SentinelFacts facts = GoodGroup();
  facts.sentinels.resize(2);
  for (SentinelView& one : facts.sentinels) (*one.master)["num-other-sentinels"] = "1";
  EXPECT_EQ(About(JudgeSentinels(facts), "sentinels").level, Level::kWarn);
}

TEST(DeploymentFindingsTest, SentinelsThatAreNotInTheUrlCountToo) {
  SentinelFacts facts = GoodGroup();
  facts.sentinels.resize(1);
  EXPECT_EQ(About(JudgeSentinels(facts), "sentinels").level, Level::kOk);
}

TEST(DeploymentFindingsTest, AQuorumOfHalfOrLessIsWarnedOf) {
  SentinelFacts facts = GoodGroup();
  for (SentinelView& one : facts.sentinels) one.master = Master("1");
  const Finding quorum = About(JudgeSentinels(facts), "quorum");
  EXPECT_EQ(quorum.level, Level::kWarn);
  EXPECT_THAT(quorum.advice, HasSubstr("SENTINEL SET mymaster quorum 2"));
}

TEST(DeploymentFindingsTest, SentinelsThatDisagreeAreBadAndOneThatIsSilentIsNamed) {
  SentinelFacts facts = GoodGroup();
  (*facts.sentinels[1].master)["port"] = "6380";
  EXPECT_EQ(About(JudgeSentinels(facts), "sentinels").level, Level::kBad);
  facts = GoodGroup();
  facts.sentinels[1] = {"s:2", "refused", std::nullopt};
  const Finding silent = About(JudgeSentinels(facts), "sentinels");
  EXPECT_EQ(silent.level, Level::kWarn);
  EXPECT_THAT(silent.what, HasSubstr("s:2: refused"));
}

TEST(DeploymentFindingsTest, EveryDeploymentSaysWhatItGuarantees) {
  for (const auto kind :
       {Setting::Kind::kServer, Setting::Kind::kEmbedded, Setting::Kind::kSentinel,
        Setting::Kind::kCluster, Setting::Kind::kQuorum}) {
    Setting setting{.kind = kind, .append_only = true, .servers = 3};
    const std::vector<std::string> plain = Guarantees(setting);
    EXPECT_GE(plain.size(), 3u);
    EXPECT_LE(plain.size(), 5u);
    setting.tls = true;
    EXPECT_EQ(Guarantees(setting).size(), plain.size() + 1);
  }
}

TEST(DeploymentFindingsTest, AServerWithoutAppendOnlyFileForgets) {
  Setting setting;
  setting.append_only = false;
  EXPECT_THAT(Guarantees(setting)[1], HasSubstr("forgets everything"));
  setting.append_only = true;
  EXPECT_THAT(Guarantees(setting)[1], HasSubstr("last second"));
  setting.append_only.reset();
  EXPECT_THAT(Guarantees(setting)[1], Not(HasSubstr("forgets everything")));
}

}  // namespace
}  // namespace coord::tools
