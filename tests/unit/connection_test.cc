// The shared connection against a peer in the same process, at the other end of a socketpair.
#include "coord/wire/connection.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "tests/support/pair_socket.h"
#include "tests/support/wait.h"

namespace coord::internal {
namespace {

using WaitResult = Connection::WaitResult;
using coord::testing::Eventually;
using coord::testing::PairSocket;

struct Wire {
  Wire(SpinMode spin = SpinMode::kAdaptive) {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    peer.Reset(fds[1]);
    connection =
        std::make_unique<Connection>(std::make_unique<PairSocket>(fds[0]), "peer", SpinJudge(spin));
  }
  void Say(std::string_view bytes) const {
    EXPECT_EQ(send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  std::string Hear(std::size_t size) const {
    std::string heard(size, '\0');
    std::size_t at = 0;
    while (at < size) {
      const ssize_t n = recv(peer.get(), heard.data() + at, size - at, 0);
      if (n <= 0) break;
      at += static_cast<std::size_t>(n);
    }
    heard.resize(at);
    return heard;
  }
  UniqueFd peer;
  std::unique_ptr<Connection> connection;
};

// A command and the slot for its reply.
struct Call {
  explicit Call(std::string text) : bytes(std::move(text)) {}
  std::string bytes;
  Reply reply;
  Exchange exchange{bytes, bytes.size(), std::span<Reply>(&reply, 1)};
};

CallLimits Within(absl::Duration wait, std::stop_token stop = {}) {
  return {DeadlineAfter(wait), stop};
}

// Answers every line "n\n" with the integer n, coalescing and splitting at random, until the
// connection ends.
void EchoNumbers(int fd, unsigned seed) {
  std::minstd_rand random(seed);
  std::string in;
  std::string out;
  char buffer[4096];
  while (true) {
    const ssize_t n = recv(fd, buffer, 1 + random() % sizeof(buffer), 0);
    if (n <= 0) return;
    in.append(buffer, static_cast<std::size_t>(n));
    std::size_t end;
    while ((end = in.find('\n')) != std::string::npos) {
      out += StrCat(":", std::string_view(in).substr(0, end), "\r\n");
      in.erase(0, end + 1);
    }
    while (!out.empty()) {
      const std::size_t piece = 1 + random() % out.size();
      if (send(fd, out.data(), piece, MSG_NOSIGNAL) < 0) return;
      out.erase(0, piece);
      if (random() % 8 == 0) std::this_thread::yield();
    }
  }
}

TEST(ConnectionTest, OneCallerSendsAndReceivesByItself) {
  Wire wire;
  wire.Say(":7\r\n");
  Call call("get\n");
  EXPECT_EQ(wire.connection->Run(call.exchange, Within(absl::Seconds(5))), WaitResult::kDone);
  EXPECT_TRUE(call.exchange.status().ok());
  EXPECT_EQ(call.reply, Reply::Integer(7));
  EXPECT_EQ(wire.Hear(4), "get\n");
}

class ManyCallersTest : public ::testing::TestWithParam<SpinMode> {};

TEST_P(ManyCallersTest, EachGetsItsOwnReplyWhateverDeadlinesPass) {
  Wire wire(GetParam());
  std::thread peer(EchoNumbers, wire.peer.get(), 42u);
  std::atomic<int> wrong{0};
  std::atomic<int> answered{0};
  std::atomic<int> abandoned{0};
  std::vector<std::thread> callers;
  for (unsigned t = 0; t < 16; ++t) {
    callers.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      for (int i = 0; i < 1500; ++i) {
        const int number = static_cast<int>(t) * 1'000'000 + i;
        Call call(StrCat(number, "\n"));
        // A third cannot have its reply in time.
        const absl::Duration patience =
            random() % 3 == 0 ? absl::Microseconds(random() % 100) : absl::Seconds(30);
        std::stop_source stop;
        if (random() % 16 == 0) stop.request_stop();
        switch (wire.connection->Run(call.exchange, Within(patience, stop.get_token()))) {
          case WaitResult::kDone:
            if (!call.exchange.status().ok() || call.reply.integer() != number) ++wrong;
            ++answered;
            break;
          case WaitResult::kDeadline:
          case WaitResult::kStopped:
            wire.connection->Abandon(call.exchange);
            ++abandoned;
            break;
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(answered, 1000);
  EXPECT_GT(abandoned, 100);
  EXPECT_FALSE(wire.connection->broken());
  wire.connection->Break(absl::UnavailableError("the test is over"));
  peer.join();
}

INSTANTIATE_TEST_SUITE_P(Spin, ManyCallersTest,
                         ::testing::Values(SpinMode::kAdaptive, SpinMode::kNever,
                                           SpinMode::kAlways));

TEST(ConnectionTest, AStopTokenWakesASleepingCallerAndTheReader) {
  Wire wire;
  std::stop_source stop;
  std::atomic<int> stopped{0};
  std::atomic<int> submitted{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      Call call("x\n");
      wire.connection->Submit(call.exchange);
      ++submitted;
      if (wire.connection->Wait(call.exchange, Within(absl::Seconds(60), stop.get_token())) ==
          WaitResult::kStopped) {
        ++stopped;
      }
      wire.connection->Abandon(call.exchange);
    });
  }
  ASSERT_TRUE(Eventually([&] { return submitted == 4; }, absl::Seconds(10)));
  stop.request_stop();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(stopped, 4);
}

TEST(ConnectionTest, TheRoleOfAReaderThatLeavesGoesOn) {
  Wire wire(SpinMode::kNever);
  Call first("a\n");
  Call second("b\n");
  wire.connection->Submit(first.exchange);
  wire.connection->Submit(second.exchange);
  // The first is the reader until its deadline, in the middle of a reply.
  std::atomic<bool> reading{false};
  std::thread reader([&] {
    reading = true;
    EXPECT_EQ(wire.connection->Wait(first.exchange, Within(absl::Milliseconds(50))),
              WaitResult::kDeadline);
    wire.connection->Abandon(first.exchange);
  });
  ASSERT_TRUE(Eventually([&] { return reading.load(); }, absl::Seconds(10)));
  wire.Say("$5\r\nab");
  std::thread other([&] {
    EXPECT_EQ(wire.connection->Wait(second.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  });
  reader.join();
  wire.Say("cde\r\n:2\r\n");
  other.join();
  EXPECT_EQ(second.reply, Reply::Integer(2));
}

TEST(ConnectionTest, WhatBreaksBehindASentCommandIsUnknown) {
  Wire wire;
  Call call("a\n");
  std::thread peer([&] {
    wire.Hear(2);
    wire.peer.Reset();
  });
  EXPECT_EQ(wire.connection->Run(call.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  peer.join();
  EXPECT_TRUE(IsOutcomeUnknown(call.exchange.status())) << call.exchange.status();
  EXPECT_FALSE(call.exchange.not_sent());
  Call later("b\n");
  EXPECT_EQ(wire.connection->Run(later.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  EXPECT_TRUE(later.exchange.not_sent());
  EXPECT_TRUE(coord::IsUnavailable(later.exchange.status()));
  EXPECT_FALSE(IsOutcomeUnknown(later.exchange.status()));
}

TEST(ConnectionTest, WhatTheKernelNeverTookWasNotSent) {
  Wire wire;
  // Fills the socket: the peer does not read.
  Call large(std::string(8u << 20, 'x'));
  Call small("b\n");
  wire.connection->Submit(large.exchange);
  wire.connection->Submit(small.exchange);
  wire.connection->Break(absl::UnavailableError("the cable was cut"));
  EXPECT_TRUE(large.exchange.not_sent());  // a part of one command cannot have run
  EXPECT_TRUE(small.exchange.not_sent());
}

TEST(ConnectionTest, AnAbandonedCommandThatNobodyTookIsTakenOut) {
  Wire wire;
  Call large(std::string(8u << 20, 'x'));
  Call small("gone\n");
  Call last("c\n");
  wire.connection->Submit(large.exchange);
  wire.connection->Submit(small.exchange);
  wire.connection->Submit(last.exchange);
  EXPECT_TRUE(wire.connection->Abandon(small.exchange));
  std::string tail;
  std::thread peer([&] {
    wire.Hear(large.bytes.size());
    tail = wire.Hear(2);
    wire.Say(":1\r\n:3\r\n");
  });
  EXPECT_EQ(wire.connection->Wait(last.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  peer.join();
  EXPECT_EQ(tail, "c\n");
  EXPECT_EQ(large.reply, Reply::Integer(1));
  EXPECT_EQ(last.reply, Reply::Integer(3));
}

TEST(ConnectionTest, APeerThatAnswersBeforeItReadsDoesNotBlockALargeBatch) {
  Wire wire;
  constexpr int kCommands = 200'000;
  std::string bytes;
  for (int i = 0; i < kCommands; ++i) bytes += StrCat(i, "\n");
  std::vector<Reply> replies(kCommands);
  Exchange exchange(bytes, 2, replies);
  // Takes no more than it can answer at once, so that both directions fill up.
  std::thread peer(EchoNumbers, wire.peer.get(), 7u);
  EXPECT_EQ(wire.connection->Run(exchange, Within(absl::Seconds(60))), WaitResult::kDone);
  EXPECT_TRUE(exchange.status().ok()) << exchange.status();
  for (int i = 0; i < kCommands; ++i) ASSERT_EQ(replies[static_cast<std::size_t>(i)].integer(), i);
  wire.connection->Break(absl::UnavailableError("the test is over"));
  peer.join();
}

TEST(ConnectionTest, AnAnswerThatNobodyAskedForEndsTheConnection) {
  Wire wire;
  wire.Say(":1\r\n:2\r\n");
  Call first("a\n");
  EXPECT_EQ(wire.connection->Run(first.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  EXPECT_TRUE(wire.connection->broken());
  EXPECT_EQ(wire.connection->broken_status().code(), absl::StatusCode::kDataLoss);
}

TEST(ConnectionTest, NonsenseIsAProtocolErrorThatNamesThePeer) {
  Wire wire;
  wire.Say("HTTP/1.1 400 Bad Request\r\n");
  Call call("a\n");
  EXPECT_EQ(wire.connection->Run(call.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  EXPECT_EQ(call.exchange.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(call.exchange.status().message().find("peer"), absl::string_view::npos);
}

}  // namespace
}  // namespace coord::internal
