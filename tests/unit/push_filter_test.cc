// The filter between a server and its subscribers loses what it should and nothing else.
#include "tests/support/push_filter.h"

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_server.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Cut(std::string_view bytes, std::size_t piece) {
  FrameCutter cutter;
  std::vector<std::string> frames;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    cutter.Feed(bytes.substr(at, piece));
    while (auto frame = cutter.Next()) frames.push_back(*std::move(frame));
  }
  EXPECT_EQ(cutter.rest(), "");
  EXPECT_FALSE(cutter.broken());
  return frames;
}

TEST(FrameCutterTest, FramesAreCutWhereverTheBytesAreSplit) {
  const std::vector<std::string> frames = {
      "+OK\r\n",
      "-ERR no\r\n",
      ":42\r\n",
      "$4\r\n\r\n\r\n\r\n",  // the text is two line ends
      "$-1\r\n",
      "*-1\r\n",
      "*0\r\n",
      "$0\r\n\r\n",
      "*2\r\n*2\r\n:1\r\n*0\r\n$1\r\na\r\n",
      "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
      "~1\r\n#t\r\n",
      ",1.5\r\n",
      "(123456789012345678901234567890\r\n",
      "=7\r\ntxt:abc\r\n",
      "!5\r\nERR x\r\n",
      "|1\r\n+ttl\r\n:3\r\n+OK\r\n",
      "*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n",
      ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
  };
  std::string all;
  for (const std::string& frame : frames) all += frame;
  for (std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{7}, all.size()}) {
    EXPECT_EQ(Cut(all, piece), frames) << "in pieces of " << piece;
  }
}

TEST(FrameCutterTest, WhatIsNoRespIsBroken) {
  FrameCutter cutter;
  cutter.Feed("HTTP/1.1 400 Bad Request\r\n");
  EXPECT_FALSE(cutter.Next());
  EXPECT_TRUE(cutter.broken());
}

TEST(FrameCutterTest, TextsOfAFlatFrame) {
  EXPECT_THAT(*FrameTexts(">3\r\n+message\r\n$2\r\nc\r\r\n:7\r\n"),
              ElementsAre("message", "c\r", "7"));
  EXPECT_FALSE(FrameTexts("*1\r\n*0\r\n"));
  EXPECT_FALSE(FrameTexts("+OK\r\n"));
}

// A subscriber with a socket of its own, to see every byte.
class Subscriber {
 public:
  explicit Subscriber(const PushFilter& filter) : fd_(Connect(ParseEndpoint(filter.url()))) {}
  void Send(std::string_view bytes) {
    ASSERT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // So much as is there within `timeout`, ending early at `size` bytes or the end.
  std::string Receive(std::size_t size, int timeout_ms = 5000) {
    std::string got;
    while (got.size() < size) {
      pollfd polled{.fd = fd_.get(), .events = POLLIN, .revents = 0};
      if (poll(&polled, 1, timeout_ms) == 0) return got + "<silence>";
      char buffer[4096];
      const ssize_t n = recv(fd_.get(), buffer, std::min(sizeof(buffer), size - got.size()), 0);
      if (n <= 0) return got + "<end>";
      got.append(buffer, static_cast<std::size_t>(n));
    }
    return got;
  }
  void Expect(std::string_view bytes) { EXPECT_EQ(Receive(bytes.size()), bytes); }
  void ExpectNothing() { EXPECT_EQ(Receive(1, 50), "<silence>"); }

 private:
  UniqueFd fd_;
};

constexpr std::string_view kSubscribe = "SUBSCRIBE c\r\n";
constexpr std::string_view kSubscribed2 = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";

std::string Message2(std::string_view text) {
  return "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$" + std::to_string(text.size()) + "\r\n" +
         std::string(text) + "\r\n";
}

class PushFilterTest : public ::testing::Test {
 protected:
  void Publish(const std::string& text) { redis_.Integer({"PUBLISH", "c", text}); }

  RedisServer server_;
  RawRedis redis_{server_};
  PushFilter filter_{server_.url()};
};

TEST_F(PushFilterTest, WithoutAJudgeEverythingPasses) {
  Subscriber subscriber(filter_);
  subscriber.Send("PING\r\n");
  subscriber.Expect("+PONG\r\n");
  subscriber.Send(kSubscribe);
  subscriber.Expect(kSubscribed2);
  Publish("one");
  subscriber.Expect(Message2("one"));
  EXPECT_EQ(filter_.messages(), 1u);
}

TEST_F(PushFilterTest, EverySecondMessageIsLostAndAnswersAreNot) {
  std::vector<std::string> seen;
  filter_.OnMessage([&](const PushMessage& message) {
    seen.push_back(message.kind + " " + message.channel + " " + message.payload);
    return message.number % 2 == 1 ? PushVerdict::kDrop : PushVerdict::kPass;
  });
  Subscriber subscriber(filter_);
  subscriber.Send("HELLO 3\r\n");
  (void)Eventually([&] { return !subscriber.Receive(4096, 50).empty(); });
  subscriber.Send(kSubscribe);
  subscriber.Expect(">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
  for (const char* text : {"one", "two", "three"}) Publish(text);
  subscriber.Expect(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\none\r\n");
  subscriber.Expect(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nthree\r\n");
  subscriber.Send("ECHO message\r\n");
  subscriber.Expect("$7\r\nmessage\r\n");
  EXPECT_EQ(filter_.dropped(), 1u);
  filter_.OnMessage(nullptr);
  EXPECT_THAT(seen, ElementsAre("message c one", "message c two", "message c three"));
}

TEST_F(PushFilterTest, HeldMessagesComeWhenReleased) {
  filter_.OnMessage([](const PushMessage&) { return PushVerdict::kHold; });
  Subscriber subscriber(filter_);
  subscriber.Send(kSubscribe);
  subscriber.Expect(kSubscribed2);
  Publish("one");
  Publish("two");
  EXPECT_TRUE(Eventually([&] { return filter_.held() == 2; }));
  subscriber.ExpectNothing();
  EXPECT_EQ(filter_.ReleaseHeld(), 2u);
  subscriber.Expect(Message2("one") + Message2("two"));
  EXPECT_EQ(filter_.held(), 0u);
}

TEST_F(PushFilterTest, HeldMessagesCanComeLateAfterAReconnect) {
  filter_.OnMessage([](const PushMessage&) { return PushVerdict::kHold; });
  Subscriber gone(filter_);
  gone.Send(kSubscribe);
  gone.Expect(kSubscribed2);
  Publish("old");
  EXPECT_TRUE(Eventually([&] { return filter_.held() == 1; }));
  filter_.CloseConnections();
  EXPECT_EQ(gone.Receive(1), "<end>");
  EXPECT_EQ(filter_.ReleaseHeld(), 0u);
  EXPECT_EQ(filter_.held(), 1u);
  Subscriber back(filter_);
  back.Send(kSubscribe);
  back.Expect(kSubscribed2);
  EXPECT_EQ(filter_.ReleaseHeld(), 1u);
  back.Expect(Message2("old"));
}

TEST_F(PushFilterTest, ALargeAnswerIsCutByNobody) {
  const std::string text(3'000'000, 'x');
  redis_.Command({"SET", "large", text});
  Subscriber subscriber(filter_);
  subscriber.Send("GET large\r\n");
  subscriber.Expect("$3000000\r\n" + text + "\r\n");
}

TEST_F(PushFilterTest, AServerThatGoesEndsTheConnection) {
  Subscriber subscriber(filter_);
  subscriber.Send("PING\r\n");
  subscriber.Expect("+PONG\r\n");
  server_.Kill();
  EXPECT_EQ(subscriber.Receive(1), "<end>");
  Subscriber refused(filter_);
  EXPECT_EQ(refused.Receive(1), "<end>");
}

TEST(PushFilterLiarTest, ATruncatedFrameIsPassedOnAsFarAsItCame) {
  const FakeServer liar(Says("*2\r\n:1\r\n$5\r\nab", FakeAnswer::Then::kClose));
  PushFilter filter(liar.url());
  Subscriber subscriber(filter);
  EXPECT_EQ(subscriber.Receive(100), "*2\r\n:1\r\n$5\r\nab<end>");
}

}  // namespace
}  // namespace coord::testing
