#include "coord/deployment/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coord/deployment/server_error.h"
#include "coord/errors.h"
#include "coord/wire/request.h"

namespace coord::internal {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr ScriptText kScript{"thing_do", "return 1", "0123456789012345678901234567890123456789",
                             true};
constexpr const ScriptText* kScripts[] = {&kScript};

Reply Error(std::string text) { return Reply::Text(Reply::Kind::kError, std::move(text)); }
Reply Ok() { return Reply::Text(Reply::Kind::kStatus, "OK"); }

std::string Encoded(std::vector<std::string_view> args) {
  std::string out;
  AppendCommand(out, args);
  return out;
}

TEST(HandshakeTest, EverythingGoesInOneBatch) {
  const Handshake handshake({"ann", "secret", 3, "me"}, kScripts, Handshake::Protocol::kResp3);
  EXPECT_EQ(handshake.bytes(), Encoded({"HELLO", "3", "AUTH", "ann", "secret"}) +
                                   Encoded({"CLIENT", "SETNAME", "me"}) + Encoded({"SELECT", "3"}) +
                                   Encoded({"SCRIPT", "LOAD", "return 1"}));
  EXPECT_EQ(handshake.commands(), 4u);
}

TEST(HandshakeTest, OlderServersAreAskedInTheirOwnWords) {
  const Handshake handshake({"", "secret", 0, ""}, {}, Handshake::Protocol::kResp2);
  EXPECT_EQ(handshake.bytes(), Encoded({"AUTH", "secret"}));
}

TEST(HandshakeTest, AServerWithoutHelloIsAskedAgain) {
  const Handshake handshake({}, kScripts, Handshake::Protocol::kResp3);
  const Reply replies[] = {Error("ERR unknown command `HELLO`"), Ok()};
  const auto result = handshake.Judge(replies, "db1");
  EXPECT_TRUE(result.try_resp2);
  EXPECT_TRUE(result.status.ok());
}

TEST(HandshakeTest, AWrongPasswordIsFinalAndNotRepeated) {
  const Handshake handshake({"ann", "secret", 0, ""}, {}, Handshake::Protocol::kResp3);
  const Reply replies[] = {Error("WRONGPASS invalid username-password pair or user is disabled.")};
  const auto result = handshake.Judge(replies, "db1");
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(IsLasting(result.status));
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("db1"));
  EXPECT_THAT(std::string(result.status.message()), Not(HasSubstr("secret")));
}

TEST(HandshakeTest, AMissingDatabaseIsFinal) {
  const Handshake handshake({"", "", 99, ""}, {}, Handshake::Protocol::kResp3);
  const Reply replies[] = {Ok(), Error("ERR DB index is out of range")};
  const auto result = handshake.Judge(replies, "db1");
  EXPECT_TRUE(IsLasting(result.status)) << result.status;
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("99"));
}

TEST(HandshakeTest, AUserWhoMayNotLoadScriptsIsLetIn) {
  const Handshake handshake({}, kScripts, Handshake::Protocol::kResp3);
  const Reply replies[] = {Ok(), Error("NOPERM this user has no permissions to run 'script|load'")};
  const auto result = handshake.Judge(replies, "db1");
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.scripts_loaded, 0);
}

TEST(HandshakeTest, AServerThatStillReadsItsDataIsNotFinal) {
  const Handshake handshake({}, kScripts, Handshake::Protocol::kResp3);
  const Reply replies[] = {Error("LOADING Redis is loading the dataset in memory"), Ok()};
  const auto result = handshake.Judge(replies, "db1");
  EXPECT_TRUE(coord::IsUnavailable(result.status)) << result.status;
  EXPECT_FALSE(IsLasting(result.status));
}

TEST(ServerErrorTest, TheFirstWordIsTheCode) {
  EXPECT_EQ(ErrorCode("WRONGTYPE Operation against a key"), "WRONGTYPE");
  EXPECT_EQ(ErrorCode("ERR"), "ERR");
  EXPECT_EQ(ErrorCode(""), "");
}

TEST(ServerErrorTest, OlderServersBuryTheCodeOfAScript) {
  EXPECT_EQ(
      ErrorCode("ERR Error running script (call to f_00): @user_script:5: WRONGTYPE Operation "
                "against a key holding the wrong kind of value"),
      "WRONGTYPE");
}

TEST(ServerErrorTest, CodesBecomeStatusesThatSayWhatToDo) {
  const auto code = [](std::string_view text) { return ServerError(text, "GET at db1").code(); };
  EXPECT_EQ(code("NOAUTH Authentication required."), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(code("NOPERM no"), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(code("WRONGTYPE no"), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(code("OOM command not allowed"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("ERR whatever"), absl::StatusCode::kFailedPrecondition);
  const absl::Status readonly = ServerError("READONLY You can't write", "SET at db1");
  EXPECT_TRUE(coord::IsUnavailable(readonly));
  EXPECT_FALSE(IsOutcomeUnknown(readonly));
  EXPECT_THAT(std::string(readonly.message()), HasSubstr("SET at db1"));
  EXPECT_THAT(std::string(readonly.message()), HasSubstr("replica"));
}

TEST(RequestTest, EvalCarriesTheTextAndTheSameKeysAndArguments) {
  const std::string_view keys[] = {"k1", "k2"};
  const std::string_view args[] = {"a"};
  Request request = Request::Call(kScript, keys, args);
  EXPECT_EQ(request.bytes(), Encoded({"EVALSHA", kScript.sha1, "2", "k1", "k2", "a"}));
  EXPECT_TRUE(request.retry_safe());
  EXPECT_TRUE(request.UseEval());
  EXPECT_EQ(request.bytes(), Encoded({"EVAL", "return 1", "2", "k1", "k2", "a"}));
  EXPECT_TRUE(request.retry_safe());
  EXPECT_FALSE(request.UseEval());
}

TEST(RequestTest, WithAPingInFrontOthersHearOfItFirstAndTheLastReplyIsItsOwn) {
  const std::string_view keys[] = {"k1"};
  Request request = Request::Call(kScript, keys, {});
  EXPECT_EQ(request.replies(), 1u);
  request.TellOthersFirst();
  request.TellOthersFirst();  // once is enough
  EXPECT_EQ(request.replies(), 2u);
  EXPECT_EQ(request.bytes(), Encoded({"PING"}) + Encoded({"EVALSHA", kScript.sha1, "1", "k1"}));
  EXPECT_TRUE(request.UseEval());
  EXPECT_EQ(request.replies(), 2u);
  EXPECT_EQ(request.bytes(), Encoded({"PING"}) + Encoded({"EVAL", "return 1", "1", "k1"}));
}

}  // namespace
}  // namespace coord::internal
