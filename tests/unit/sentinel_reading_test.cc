#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coord/deployment/handshake.h"
#include "coord/deployment/sentinel.h"
#include "coord/errors.h"
#include "coord/wire/resp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::internal {
namespace {

using ::coord::testing::StatusIs;
using ::testing::HasSubstr;

Reply String(std::string text) { return Reply::Text(Reply::Kind::kString, std::move(text)); }

// The answer to SENTINEL MASTER, in the kind of a protocol.
Reply Answer(std::vector<std::string> words, Reply::Kind kind = Reply::Kind::kMap) {
  std::vector<Reply> items;
  for (std::string& word : words) items.push_back(String(std::move(word)));
  return Reply::Items(kind, std::move(items));
}

TEST(SentinelReadingTest, AMasterReportIsReadInBothProtocols) {
  for (const Reply::Kind kind : {Reply::Kind::kMap, Reply::Kind::kArray}) {
    ASSERT_OK_AND_ASSIGN(const MasterReport report,
                         ReadMasterReport(Answer({"name", "m", "ip", "10.0.0.1", "port", "7000",
                                                  "flags", "master", "config-epoch", "12"},
                                                 kind),
                                          "s1:26379"));
    EXPECT_EQ(report.endpoint.ToString(), "10.0.0.1:7000");
    EXPECT_EQ(report.epoch, 12);
  }
}

TEST(SentinelReadingTest, AnUnknownEpochIsTheOldestOfAll) {
  for (const char* epoch : {"", "x", "1x"}) {
    ASSERT_OK_AND_ASSIGN(
        const MasterReport report,
        ReadMasterReport(Answer({"ip", "h", "port", "1", "config-epoch", epoch}), "s1"));
    EXPECT_EQ(report.epoch, 0) << epoch;
  }
  ASSERT_OK_AND_ASSIGN(const MasterReport report,
                       ReadMasterReport(Answer({"ip", "h", "port", "1"}), "s1"));
  EXPECT_EQ(report.epoch, 0);
}

TEST(SentinelReadingTest, AnAnswerThatNamesNoAddressIsAnErrorThatNamesTheSentinel) {
  const std::vector<std::vector<std::string>> answers = {
      {},
      {"ip"},
      {"ip", "10.0.0.1"},
      {"port", "7000"},
      {"ip", "", "port", "7000"},
      {"ip", "10.0.0.1", "port", "0"},
      {"ip", "10.0.0.1", "port", "65536"},
      {"ip", "10.0.0.1", "port", "-1"},
      {"ip", "10.0.0.1", "port", "x"},
      {"ip", "10.0.0.1", "port"},
  };
  for (const auto& answer : answers) {
    EXPECT_THAT(ReadMasterReport(Answer(answer), "s1:26379"),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("s1:26379")));
  }
  EXPECT_THAT(ReadMasterReport(Reply(), "s1"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ReadMasterReport(Reply::Integer(3), "s1"), StatusIs(absl::StatusCode::kDataLoss));
}

// The Sentinel that leads a failover takes the new epoch when the replica has become a master, and
// the new address only when the other replicas follow it.
TEST(SentinelReadingTest, WhileItsLeaderFailsOverTheOldAddressIsOfTheOldEpoch) {
  const struct {
    const char* state;
    std::int64_t epoch;
  } cases[] = {{"wait_start", 7},     {"select_slave", 7},  {"send_slaveof_noone", 7},
               {"wait_promotion", 7}, {"reconf_slaves", 6}, {"update_config", 6}};
  for (const auto& c : cases) {
    ASSERT_OK_AND_ASSIGN(const MasterReport report,
                         ReadMasterReport(Answer({"ip", "10.0.0.1", "port", "7000",
                                                  "failover-state", c.state, "config-epoch", "7"}),
                                          "s1"));
    EXPECT_EQ(report.epoch, c.epoch) << c.state;
  }
}

TEST(SentinelReadingTest, ASwitchOfThatMasterIsRead) {
  EXPECT_EQ(ReadSwitch("m 10.0.0.1 7000 10.0.0.2 7001", "m")->ToString(), "10.0.0.2:7001");
  EXPECT_EQ(ReadSwitch("m ::1 7000 fe80::2 7001", "m")->host, "fe80::2");
  EXPECT_EQ(ReadSwitch("my.main-1_x db1 7000 db2.example.org 65535", "my.main-1_x")->host,
            "db2.example.org");
}

TEST(SentinelReadingTest, WhatIsNoSwitchOfThatMasterIsPassedOver) {
  for (const std::string_view text :
       {"", "m", "m 10.0.0.1 7000", "m 10.0.0.1 7000 10.0.0.2", "m 10.0.0.1 7000 10.0.0.2 ",
        "m 10.0.0.1 7000 10.0.0.2 x", "m 10.0.0.1 7000 10.0.0.2 0",
        "m 10.0.0.1 7000 10.0.0.2 65536", "m 10.0.0.1 7000  7001",
        "m 10.0.0.1 7000 10.0.0.2 7001 more", "mm 10.0.0.1 7000 10.0.0.2 7001",
        " m 10.0.0.1 7000 10.0.0.2 7001"}) {
    EXPECT_FALSE(ReadSwitch(text, "m").has_value()) << text;
  }
}

std::string Encoded(std::vector<std::string_view> args) {
  std::string out;
  AppendCommand(out, args);
  return out;
}

Identity OfMaster() {
  Identity identity;
  identity.must_be_master = true;
  return identity;
}

Reply Role(const std::string& role) {
  return Reply::Items(Reply::Kind::kArray, {String(role), Reply::Integer(3)});
}

TEST(SentinelHandshakeTest, TheRoleIsAskedForOnlyOfAMasterThatWasLookedFor) {
  EXPECT_EQ(Handshake({}, {}, Handshake::Protocol::kResp3).bytes(), Encoded({"HELLO", "3"}));
  EXPECT_EQ(Handshake(OfMaster(), {}, Handshake::Protocol::kResp3).bytes(),
            Encoded({"HELLO", "3"}) + Encoded({"ROLE"}));
  EXPECT_EQ(Handshake(OfMaster(), {}, Handshake::Protocol::kResp2).bytes(), Encoded({"ROLE"}));
}

TEST(SentinelHandshakeTest, OnlyAMasterIsTaken) {
  const Handshake handshake(OfMaster(), {}, Handshake::Protocol::kResp2);
  const Reply master[] = {Role("master")};
  EXPECT_OK(handshake.Judge(master, "db1:1").status);
  for (const Reply& role : {Role("slave"), Role("sentinel"), Role(""), Reply(), Reply::Integer(1),
                            Reply::Items(Reply::Kind::kArray, {})}) {
    const Reply replies[] = {role};
    const absl::Status status = handshake.Judge(replies, "db1:1").status;
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("db1:1")));
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_FALSE(IsLasting(status)) << "it may become the master: " << status;
  }
}

TEST(SentinelHandshakeTest, ARightThatIsMissingToAskForTheRoleIsFinal) {
  const Handshake handshake(OfMaster(), {}, Handshake::Protocol::kResp2);
  const Reply replies[] = {Reply::Text(
      Reply::Kind::kError, "NOPERM this user has no permissions to run the 'role' command")};
  const absl::Status status = handshake.Judge(replies, "db1:1").status;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("role")));
  EXPECT_TRUE(IsLasting(status));
}

}  // namespace
}  // namespace coord::internal
