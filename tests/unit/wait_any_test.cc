// One thread that waits for several connections, each against a peer in the same process.
#include "coord/wire/wait_any.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
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

using coord::testing::Eventually;
using coord::testing::PairSocket;
using Result = WaitAny::Result;
using WaitResult = Connection::WaitResult;

struct Wire {
  explicit Wire(SpinMode spin = SpinMode::kAdaptive) {
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
  UniqueFd peer;
  std::unique_ptr<Connection> connection;
};

struct Call {
  explicit Call(std::string text) : bytes(std::move(text)) {}
  std::string bytes;
  Reply reply;
  Exchange exchange{bytes, bytes.size(), std::span<Reply>(&reply, 1)};
};

CallLimits Within(absl::Duration wait, std::stop_token stop = {}) {
  return {DeadlineAfter(wait), stop};
}

// Answers every line "n\n" with the integer n until the connection ends.
void EchoNumbers(int fd, unsigned seed) {
  std::minstd_rand random(seed);
  std::string in;
  char buffer[4096];
  while (true) {
    const ssize_t n = recv(fd, buffer, 1 + random() % sizeof(buffer), 0);
    if (n <= 0) return;
    in.append(buffer, static_cast<std::size_t>(n));
    std::size_t end;
    while ((end = in.find('\n')) != std::string::npos) {
      std::string out = StrCat(":", std::string_view(in).substr(0, end), "\r\n");
      in.erase(0, end + 1);
      if (random() % 8 == 0) std::this_thread::yield();
      while (!out.empty()) {
        const std::size_t piece = 1 + random() % out.size();
        if (send(fd, out.data(), piece, MSG_NOSIGNAL) < 0) return;
        out.erase(0, piece);
      }
    }
  }
}

TEST(WaitAnyTest, ReturnsThemInTheOrderInWhichTheyAreAnswered) {
  for (const SpinMode spin : {SpinMode::kNever, SpinMode::kAlways}) {
    Wire wires[3] = {Wire(spin), Wire(spin), Wire(spin)};
    Call a("a\n"), b("b\n"), c("c\n");
    wires[0].connection->Submit(a.exchange);
    wires[1].connection->Submit(b.exchange);
    wires[2].connection->Submit(c.exchange);
    WaitAny any;
    any.Add(*wires[0].connection, a.exchange);
    any.Add(*wires[1].connection, b.exchange);
    any.Add(*wires[2].connection, c.exchange);
    std::size_t which = 9;
    wires[2].Say(":3\r\n");
    EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
    EXPECT_EQ(which, 2u);
    EXPECT_EQ(c.reply, Reply::Integer(3));
    std::thread peer([&] { wires[0].Say(":1\r\n"); });
    EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
    peer.join();
    EXPECT_EQ(which, 0u);
    EXPECT_EQ(any.Next(Within(absl::Milliseconds(10)), &which), Result::kDeadline);
    EXPECT_FALSE(b.exchange.done());
    wires[1].Say(":2\r\n");
    EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
    EXPECT_EQ(which, 1u);
  }
}

TEST(WaitAnyTest, AStragglersReplyIsDroppedAndTheNextCallerGetsItsOwn) {
  Wire quick, slow;
  {
    Call a("a\n"), b("b\n");
    quick.connection->Submit(a.exchange);
    slow.connection->Submit(b.exchange);
    quick.Say(":1\r\n");
    {
      WaitAny any;
      any.Add(*quick.connection, a.exchange);
      any.Add(*slow.connection, b.exchange);
      std::size_t which = 9;
      EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
      EXPECT_EQ(which, 0u);
    }
    EXPECT_FALSE(slow.connection->Abandon(b.exchange));  // it was sent
  }
  slow.Say(":2\r\n:3\r\n");
  Call next("c\n");
  EXPECT_EQ(slow.connection->Run(next.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
  EXPECT_EQ(next.reply, Reply::Integer(3));
}

TEST(WaitAnyTest, AnotherThreadThatReadsWakesIt) {
  Wire shared, own;
  std::atomic<bool> reading{false};
  Call first("a\n"), second("b\n"), third("c\n");
  shared.connection->Submit(first.exchange);
  shared.connection->Submit(second.exchange);
  own.connection->Submit(third.exchange);
  std::thread reader([&] {
    reading = true;
    EXPECT_EQ(shared.connection->Wait(first.exchange, Within(absl::Seconds(30))),
              WaitResult::kDone);
  });
  ASSERT_TRUE(Eventually([&] { return reading.load(); }));
  // Not proof that it has the role by now; whoever has it, both get theirs.
  std::thread peer([&] { shared.Say(":1\r\n:2\r\n"); });
  WaitAny any;
  any.Add(*shared.connection, second.exchange);
  any.Add(*own.connection, third.exchange);
  std::size_t which = 9;
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
  EXPECT_EQ(which, 0u);
  EXPECT_EQ(second.reply, Reply::Integer(2));
  peer.join();
  reader.join();
}

TEST(WaitAnyTest, ItTakesTheRoleOverFromAReaderThatLeaves) {
  Wire shared;
  Call first("a\n"), second("b\n");
  shared.connection->Submit(first.exchange);
  shared.connection->Submit(second.exchange);
  std::thread reader([&] {
    EXPECT_EQ(shared.connection->Wait(first.exchange, Within(absl::Milliseconds(30))),
              WaitResult::kDeadline);
    shared.connection->Abandon(first.exchange);
    shared.Say(":1\r\n:2\r\n");
  });
  WaitAny any;
  any.Add(*shared.connection, second.exchange);
  std::size_t which = 9;
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
  EXPECT_EQ(second.reply, Reply::Integer(2));
  reader.join();
}

TEST(WaitAnyTest, OneThatLeavesPassesTheRoleOn) {
  Wire wire;
  Call first("a\n"), second("b\n");
  wire.connection->Submit(first.exchange);
  wire.connection->Submit(second.exchange);
  auto any = std::make_unique<WaitAny>();
  any->Add(*wire.connection, first.exchange);
  std::size_t which = 9;
  EXPECT_EQ(any->Next(Within(absl::Milliseconds(1)), &which), Result::kDeadline);
  std::thread other([&] {
    EXPECT_EQ(wire.connection->Wait(second.exchange, Within(absl::Seconds(30))), WaitResult::kDone);
    EXPECT_EQ(second.reply, Reply::Integer(2));
  });
  any.reset();
  wire.connection->Abandon(first.exchange);
  wire.Say(":1\r\n:2\r\n");
  other.join();
}

TEST(WaitAnyTest, SeveralExchangesOnOneConnectionComeInOrder) {
  Wire wire;
  Call first("a\n"), second("b\n");
  wire.connection->Submit(first.exchange);
  wire.connection->Submit(second.exchange);
  WaitAny any;
  any.Add(*wire.connection, first.exchange);
  any.Add(*wire.connection, second.exchange);
  std::thread peer([&] { wire.Say(":1\r\n:2\r\n"); });
  std::size_t which = 9;
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
  EXPECT_EQ(which, 0u);
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
  EXPECT_EQ(which, 1u);
  peer.join();
}

TEST(WaitAnyTest, ABrokenConnectionIsAnOutcomeAndTheOthersGoOn) {
  Wire broken, sound;
  Call a("a\n"), b("b\n");
  broken.connection->Submit(a.exchange);
  sound.connection->Submit(b.exchange);
  WaitAny any;
  any.Add(*broken.connection, a.exchange);
  any.Add(*sound.connection, b.exchange);
  std::thread peer([&] { broken.peer.Reset(); });
  std::size_t which = 9;
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
  EXPECT_EQ(which, 0u);
  EXPECT_TRUE(IsOutcomeUnknown(a.exchange.status())) << a.exchange.status();
  peer.join();
  std::thread breaker(
      [&] { sound.connection->Break(absl::UnavailableError("the cable was cut")); });
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kDone);
  EXPECT_EQ(which, 1u);
  EXPECT_FALSE(b.exchange.status().ok());
  breaker.join();
}

TEST(WaitAnyTest, AStopTokenEndsIt) {
  Wire wire;
  Call a("a\n");
  wire.connection->Submit(a.exchange);
  {
    WaitAny any;
    any.Add(*wire.connection, a.exchange);
    std::stop_source stop;
    std::thread stopper([&] { stop.request_stop(); });
    std::size_t which = 9;
    EXPECT_EQ(any.Next(Within(absl::Seconds(30), stop.get_token()), &which), Result::kStopped);
    stopper.join();
  }
  wire.connection->Abandon(a.exchange);
}

TEST(WaitAnyTest, TheBellEndsAWaitForNothing) {
  WaitAny any;
  const std::shared_ptr<Bell> bell = any.bell();
  std::thread ringer([&] { bell->Ring(); });
  std::size_t which = 9;
  EXPECT_EQ(any.Next(Within(absl::Seconds(30)), &which), Result::kRung);
  ringer.join();
  EXPECT_EQ(any.Next(Within(absl::Milliseconds(5)), &which), Result::kDeadline);
}

class WaitAnyStressTest : public ::testing::TestWithParam<SpinMode> {};

TEST_P(WaitAnyStressTest, ManyThreadsOnTheSameConnectionsEachGetTheirOwn) {
  constexpr std::size_t kWires = 5;
  std::vector<std::unique_ptr<Wire>> wires;
  std::vector<std::thread> peers;
  for (std::size_t i = 0; i < kWires; ++i) {
    wires.push_back(std::make_unique<Wire>(GetParam()));
    peers.emplace_back(EchoNumbers, wires[i]->peer.get(), static_cast<unsigned>(i + 1));
  }
  std::atomic<int> wrong{0};
  std::atomic<int> majorities{0};
  std::vector<std::thread> callers;
  for (unsigned t = 0; t < 8; ++t) {
    callers.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      for (int i = 0; i < 300; ++i) {
        const int number = static_cast<int>(t) * 1'000'000 + i;
        // Some go alone, as the callers of one server do.
        if (random() % 4 == 0) {
          Call call(StrCat(number, "\n"));
          Connection& connection = *wires[random() % kWires]->connection;
          const absl::Duration patience =
              random() % 3 == 0 ? absl::Microseconds(random() % 100) : absl::Seconds(60);
          if (connection.Run(call.exchange, Within(patience)) == WaitResult::kDone) {
            if (call.reply.integer() != number) ++wrong;
          } else {
            connection.Abandon(call.exchange);
          }
          continue;
        }
        std::vector<std::unique_ptr<Call>> calls;
        for (auto& wire : wires) {
          calls.push_back(std::make_unique<Call>(StrCat(number, "\n")));
          wire->connection->Submit(calls.back()->exchange);
        }
        {
          WaitAny any;
          for (std::size_t w = 0; w < kWires; ++w) {
            any.Add(*wires[w]->connection, calls[w]->exchange);
          }
          const std::size_t wanted = 1 + random() % kWires;
          const absl::Duration patience =
              random() % 4 == 0 ? absl::Microseconds(random() % 200) : absl::Seconds(60);
          const CallLimits limits = Within(patience);
          std::size_t got = 0;
          std::size_t which = 0;
          while (got < wanted && any.Next(limits, &which) == Result::kDone) {
            ++got;
            if (!calls[which]->exchange.status().ok() || calls[which]->reply.integer() != number) {
              ++wrong;
            }
          }
          if (got == wanted) ++majorities;
          if (patience > absl::Seconds(1) && got != wanted) ++wrong;
        }
        for (std::size_t w = 0; w < kWires; ++w) wires[w]->connection->Abandon(calls[w]->exchange);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GT(majorities.load(), 0);
  for (auto& wire : wires) wire->connection->Break(absl::UnavailableError("the test is over"));
  for (std::thread& peer : peers) peer.join();
}

INSTANTIATE_TEST_SUITE_P(Spin, WaitAnyStressTest,
                         ::testing::Values(SpinMode::kNever, SpinMode::kAdaptive,
                                           SpinMode::kAlways));

}  // namespace
}  // namespace coord::internal
