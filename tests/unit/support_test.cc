// The tests' own machinery: what a fault test relies on must itself be shown to work.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_server.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A socket of the test's own, to see what a client sees.
class Peer {
 public:
  explicit Peer(const std::string& url) : fd_(Connect(ParseEndpoint(url))) {}
  bool connected() const { return fd_.valid(); }
  void Send(std::string_view bytes) {
    ASSERT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // "bytes", then "<end>", "<reset>" or "<silence>" for what stopped it: `size` bytes do so without
  // a mark.
  std::string Receive(std::size_t size, int timeout_ms = 5000) {
    std::string got;
    while (got.size() < size) {
      pollfd polled{.fd = fd_.get(), .events = POLLIN, .revents = 0};
      if (poll(&polled, 1, timeout_ms) == 0) return got + "<silence>";
      char buffer[4096];
      const ssize_t n = recv(fd_.get(), buffer, std::min(sizeof(buffer), size - got.size()), 0);
      if (n == 0) return got + "<end>";
      if (n < 0) return got + (errno == ECONNRESET ? "<reset>" : "<error>");
      ++reads_;
      got.append(buffer, static_cast<std::size_t>(n));
    }
    return got;
  }
  std::string Ask(std::string_view bytes, std::size_t size) {
    Send(bytes);
    return Receive(size);
  }
  int reads() const { return reads_; }
  void Close() { fd_.Close(); }
  void EndSending() { shutdown(fd_.get(), SHUT_WR); }

 private:
  UniqueFd fd_;
  int reads_ = 0;
};

class FaultProxyTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new RedisServer({.port = 0}); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  static RedisServer* server_;
  RawRedis redis_{*server_};
  FaultProxy proxy_{server_->url()};
};

RedisServer* FaultProxyTest::server_ = nullptr;

TEST_F(FaultProxyTest, PassesEverythingWhenWell) {
  RawRedis through(proxy_.url());
  const std::string big(1 << 20, 'x');
  EXPECT_EQ(through.Text({"SET", "big", big}), "OK");
  EXPECT_EQ(through.Text({"GET", "big"}), big);
  EXPECT_EQ(proxy_.accepted(), 1u);
  EXPECT_EQ(proxy_.open(), 1u);
  EXPECT_GT(proxy_.passed(Direction::kRequests), big.size());
}

TEST_F(FaultProxyTest, ListensOnAUnixSocketAndReachesOne) {
  FaultProxy proxy(server_->unix_url(), FaultProxy::Listener::kUnix);
  EXPECT_THAT(proxy.url(), StartsWith("unix:///"));
  EXPECT_EQ(RawRedis(proxy.url()).Text({"PING"}), "PONG");
}

TEST_F(FaultProxyTest, DelaysWithoutLoss) {
  proxy_.Set(Direction::kReplies,
             {.delay = absl::Milliseconds(60), .jitter = absl::Milliseconds(5)});
  Peer peer(proxy_.url());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(peer.Ask("ECHO a\r\nECHO b\r\n", 14), "$1\r\na\r\n$1\r\nb\r\n");
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(60));
}

TEST_F(FaultProxyTest, DroppedRequestsAreNotRun) {
  redis_.Command({"SET", "count", "0"});
  Peer peer(proxy_.url());
  proxy_.Set(Direction::kRequests, {.drop = true});
  peer.Send("INCR count\r\n");
  ASSERT_TRUE(Eventually([&] { return proxy_.arrived(Direction::kRequests) == 12; }));
  proxy_.Set(Direction::kRequests, {});
  EXPECT_EQ(peer.Ask("GET count\r\n", 7), "$1\r\n0\r\n");
}

TEST_F(FaultProxyTest, DroppedRepliesBelongToRequestsThatRan) {
  redis_.Command({"SET", "count", "0"});
  Peer peer(proxy_.url());
  proxy_.Set(Direction::kReplies, {.drop = true});
  peer.Send("INCR count\r\n");
  EXPECT_TRUE(Eventually([&] { return redis_.Text({"GET", "count"}) == "1"; }));
  EXPECT_EQ(peer.Receive(1, 20), "<silence>");
}

TEST_F(FaultProxyTest, HeldRequestsAreOvertakenAndRunOnRelease) {
  redis_.Command({"SET", "order", ""});
  Peer slow(proxy_.url());
  ASSERT_EQ(slow.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.SetPresent(Direction::kRequests, {.hold = true});
  slow.Send("APPEND order 1\r\n");
  ASSERT_TRUE(Eventually([&] { return proxy_.held(Direction::kRequests) == 16; }));
  slow.Close();  // gone, and its request still on the way
  Peer fast(proxy_.url());
  EXPECT_EQ(fast.Ask("APPEND order 2\r\n", 4), ":1\r\n");
  proxy_.Set(Direction::kRequests, {});
  EXPECT_TRUE(Eventually([&] { return redis_.Text({"GET", "order"}) == "21"; }));
}

TEST_F(FaultProxyTest, DiscardsWhatIsHeld) {
  redis_.Command({"SET", "count", "0"});
  Peer peer(proxy_.url());
  proxy_.Set(Direction::kRequests, {.hold = true});
  peer.Send("INCR count\r\n");
  ASSERT_TRUE(Eventually([&] { return proxy_.held(Direction::kRequests) == 12; }));
  EXPECT_EQ(proxy_.DiscardHeld(Direction::kRequests), 12u);
  proxy_.Heal();
  EXPECT_EQ(peer.Ask("GET count\r\n", 7), "$1\r\n0\r\n");
}

TEST_F(FaultProxyTest, ResetBeforeReplyRunsTheRequestOnceAndIsWellAfterwards) {
  redis_.Command({"SET", "count", "0"});
  Peer peer(proxy_.url());
  ASSERT_EQ(peer.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.ResetBeforeReply();
  EXPECT_EQ(peer.Ask("INCR count\r\n", 4), "<reset>");
  Peer again(proxy_.url());
  EXPECT_EQ(again.Ask("GET count\r\n", 7), "$1\r\n1\r\n");
  EXPECT_TRUE(Eventually([&] { return proxy_.open() == 1; }));
}

TEST_F(FaultProxyTest, ResetsAndClosesConnections) {
  Peer first(proxy_.url());
  ASSERT_EQ(first.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.ResetConnections();
  EXPECT_EQ(first.Receive(1), "<reset>");
  Peer second(proxy_.url());
  ASSERT_EQ(second.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.CloseConnections();
  EXPECT_EQ(second.Receive(1), "<end>");
}

TEST_F(FaultProxyTest, HalfClosedRepliesLeaveRequestsOpen) {
  redis_.Command({"SET", "count", "0"});
  Peer peer(proxy_.url());
  ASSERT_EQ(peer.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.HalfClose(Direction::kReplies);
  EXPECT_EQ(peer.Ask("INCR count\r\n", 1), "<end>");
  EXPECT_TRUE(Eventually([&] { return redis_.Text({"GET", "count"}) == "1"; }));
}

TEST_F(FaultProxyTest, SplitsIntoSingleBytes) {
  proxy_.Set(Direction::kReplies, {.chunk = 1, .chunk_pause = absl::Milliseconds(2)});
  Peer peer(proxy_.url());
  EXPECT_EQ(peer.Ask("PING\r\n", 7), "+PONG\r\n");
  EXPECT_GT(peer.reads(), 3);
}

TEST_F(FaultProxyTest, TruncatesAndCloses) {
  Peer peer(proxy_.url());
  proxy_.Set(Direction::kReplies, {.truncate_after = 5, .once = true});
  EXPECT_EQ(peer.Ask("ECHO hello\r\n", 11), "$5\r\nh<end>");
  EXPECT_EQ(Peer(proxy_.url()).Ask("PING\r\n", 7), "+PONG\r\n");
}

TEST_F(FaultProxyTest, CorruptsOneByte) {
  Peer peer(proxy_.url());
  proxy_.Set(Direction::kReplies, {.corrupt_at = 1, .corrupt_xor = 0x01});
  EXPECT_EQ(peer.Ask("PING\r\n", 7), "+QONG\r\n");
  EXPECT_EQ(peer.Ask("PING\r\n", 7), "+PONG\r\n");
}

TEST_F(FaultProxyTest, FaultsOfOneConnectionSpareTheOthers) {
  Peer first(proxy_.url());
  ASSERT_EQ(first.Ask("PING\r\n", 7), "+PONG\r\n");
  Peer second(proxy_.url());
  ASSERT_EQ(second.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.SetOne(0, Direction::kReplies, {.drop = true});
  EXPECT_EQ(second.Ask("PING\r\n", 7), "+PONG\r\n");
  first.Send("PING\r\n");
  EXPECT_EQ(first.Receive(7, 20), "<silence>");
}

TEST_F(FaultProxyTest, RefusesConnectionsAndComesBackOnItsPort) {
  Peer before(proxy_.url());
  ASSERT_EQ(before.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.Refuse(true);
  EXPECT_FALSE(Peer(proxy_.url()).connected());
  EXPECT_EQ(before.Ask("PING\r\n", 7), "+PONG\r\n");
  proxy_.Refuse(false);
  EXPECT_EQ(Peer(proxy_.url()).Ask("PING\r\n", 7), "+PONG\r\n");
}

TEST_F(FaultProxyTest, ResetsWhenItsUpstreamIsGone) {
  FaultProxy proxy(server_->url());
  Endpoint nobody;
  nobody.port = FreePort();
  proxy.SetUpstream(nobody.Url());
  Peer peer(proxy.url());
  EXPECT_EQ(peer.Receive(1), "<reset>");
}

TEST_F(FaultProxyTest, EndOfRequestsReachesTheServer) {
  Peer peer(proxy_.url());
  ASSERT_EQ(peer.Ask("PING\r\n", 7), "+PONG\r\n");
  peer.EndSending();
  EXPECT_EQ(peer.Receive(1), "<end>");
  EXPECT_TRUE(Eventually([&] { return proxy_.open() == 0; }));
}

TEST(FakeServerTest, ParsesCommandsAndAnswersByCallback) {
  FakeServer server(Answers([](const FakeCommand& command) -> FakeAnswer {
    if (command.arguments[0] == "GET") return {.bytes = "-MOVED 1 10.0.0.1:6379\r\n"};
    return {.bytes = "+OK\r\n"};
  }));
  RawRedis redis(server.url());
  EXPECT_EQ(redis.Text({"SET", "a b", "c\r\n"}), "OK");
  EXPECT_EQ(redis.Command({"GET", "x"}).text(), "MOVED 1 10.0.0.1:6379");
  const auto commands = server.commands();
  ASSERT_EQ(commands.size(), 2u);
  EXPECT_THAT(commands[0].arguments, ElementsAre("SET", "a b", "c\r\n"));
  EXPECT_EQ(server.accepted(), 1u);
  EXPECT_THAT(server.received(), HasSubstr("GET"));
}

TEST(FakeServerTest, PlaysWhatIsNotRedis) {
  FakeServer http(AnswersHttp());
  EXPECT_THAT(Peer(http.url()).Ask("PING\r\n", 1000),
              AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("<end>")));
  FakeServer hang(Hangs());
  Peer waiting(hang.url());
  waiting.Send("PING\r\n");
  EXPECT_EQ(waiting.Receive(1, 20), "<silence>");
  FakeServer close(ClosesAtOnce());
  EXPECT_EQ(Peer(close.url()).Receive(1), "<end>");
  FakeServer reset(ResetsAtOnce());
  EXPECT_EQ(Peer(reset.url()).Receive(1), "<reset>");
  FakeServer nonsense(Says("\x01\x02nonsense"));
  EXPECT_EQ(Peer(nonsense.url()).Receive(10), "\x01\x02nonsense");
  FakeServer same(AnswersAll(":7\r\n"));
  EXPECT_EQ(RawRedis(same.url()).Integer({"INCR", "x"}), 7);
}

TEST(FakeServerTest, SendsUnasked) {
  FakeServer server(Hangs());
  Peer peer(server.url());
  ASSERT_TRUE(Eventually([&] { return server.open() == 1; }));
  server.Send(0, "+hello\r\n");
  EXPECT_EQ(peer.Receive(8), "+hello\r\n");
}

TEST(RedisServerTest, ForgetsOnRestartUnlessAppendOnly) {
  RedisServer forgetful;
  RawRedis redis(forgetful);
  ASSERT_EQ(redis.Text({"SET", "x", "1"}), "OK");
  forgetful.Restart();
  EXPECT_TRUE(redis.Command({"GET", "x"}).is_nil());

  RedisServer durable({.append_only = true});
  RawRedis other(durable);
  ASSERT_EQ(other.Text({"SET", "x", "1"}), "OK");
  durable.Restart(RedisServer::Data::kKeep);
  EXPECT_EQ(other.Text({"GET", "x"}), "1");
  durable.Restart(RedisServer::Data::kDrop);
  EXPECT_TRUE(other.Command({"GET", "x"}).is_nil());
}

TEST(RedisServerTest, ComesBackOnItsPort) {
  RedisServer server({.port = 0});
  const std::string url = server.url();
  EXPECT_THAT(url, StartsWith("redis://127.0.0.1:"));
  EXPECT_EQ(RawRedis(url).Text({"PING"}), "PONG");
  const pid_t before = server.pid();
  server.Restart();
  EXPECT_NE(server.pid(), before);
  EXPECT_EQ(RawRedis(url).Text({"PING"}), "PONG");
  server.Terminate();
  EXPECT_FALSE(server.Running());
  EXPECT_TRUE(RawRedis::IsConnectionError(RawRedis(url).Command({"PING"})));
  server.Start();
  EXPECT_EQ(RawRedis(url).Text({"PING"}), "PONG");
}

TEST(RedisServerTest, StandsStillWhilePaused) {
  RedisServer server;
  server.Pause();
  EXPECT_TRUE(RawRedis::IsConnectionError(
      RawRedis(server.url(), absl::Milliseconds(50)).Command({"PING"})));
  server.Resume();
  EXPECT_EQ(RawRedis(server).Text({"PING"}), "PONG");
}

TEST(RedisServerTest, StartedByAWorkerOutlivesTheWorker) {
  std::unique_ptr<RedisServer> server;
  std::thread([&server] { server = std::make_unique<RedisServer>(); }).join();
  EXPECT_EQ(RawRedis(*server).Text({"PING"}), "PONG");
}

TEST(RedisServerTest, TakesPasswordsConfigurationsAndSentinels) {
  RedisServer guarded({.args = {"--requirepass", "secret"}, .config = "maxmemory 100mb\n"});
  RawRedis redis(guarded);
  EXPECT_THAT(redis.Command({"GET", "x"}).text(), StartsWith("NOAUTH"));
  EXPECT_EQ(redis.Text({"AUTH", "secret"}), "OK");
  EXPECT_EQ(redis.Command({"CONFIG", "GET", "maxmemory"}).items()[1].text(), "104857600");

  RedisServer master({.port = 0});
  RedisServer sentinel(
      {.port = 0,
       .config = "sentinel monitor main 127.0.0.1 " + std::to_string(master.port()) + " 1\n",
       .sentinel = true});
  const Reply address = RawRedis(sentinel).Command({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"});
  ASSERT_EQ(address.items().size(), 2u);
  EXPECT_EQ(address.items()[1].text(), std::to_string(master.port()));
}

TEST(RedisServerTest, EndsWithAParentThatIsKilled) {
  Process parent = ForkAndRun([] {
    const RedisServer server;
    std::puts(server.directory().c_str());
    std::fflush(stdout);
    pause();
  });
  ASSERT_TRUE(Eventually([&] { return parent.out().ends_with('\n'); })) << parent.err();
  const std::string directory = parent.out().substr(0, parent.out().size() - 1);
  RawRedis redis("unix://" + directory + "/redis.sock");
  EXPECT_EQ(redis.Text({"PING"}), "PONG");
  parent.Kill();
  EXPECT_TRUE(Eventually([&] { return RawRedis::IsConnectionError(redis.Command({"PING"})); }));
  std::filesystem::remove_all(directory);  // which the parent can do no more
}

TEST(RawRedisTest, CountsCalls) {
  RedisServer server;
  RawRedis redis(server);
  EXPECT_EQ(CommandCalls(redis, "incr"), 0);
  redis.Integer({"INCR", "x"});
  redis.Integer({"INCR", "x"});
  EXPECT_EQ(CommandCalls(redis, "incr"), 2);
  EXPECT_EQ(redis.Command({"LRANGE", "none", "0", "-1"}).kind(), Reply::Kind::kArray);
}

TEST(ProcessTest, CapturesOutputInputEnvironmentAndExit) {
  const ProcessResult result =
      RunProgram({"sh", "-c", "cat; echo $COLOUR; pwd; echo bad >&2; exit 3"},
                 {.stdin_text = "in\n", .env = {{"COLOUR", "red"}}, .directory = "/"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "in\nred\n/\n");
  EXPECT_EQ(result.err, "bad\n");
  EXPECT_FALSE(result.timed_out);
}

TEST(ProcessTest, ReportsSignalsDeadlinesAndMissingPrograms) {
  EXPECT_EQ(RunProgram({"sh", "-c", "kill -9 $$"}).signal, SIGKILL);
  const ProcessResult late = RunProgram({"sleep", "60"}, {}, absl::Milliseconds(30));
  EXPECT_TRUE(late.timed_out);
  EXPECT_EQ(late.signal, SIGKILL);
  const ProcessResult missing = RunProgram({"no-such-program"});
  EXPECT_EQ(missing.exit_code, 127);
  EXPECT_THAT(missing.err, HasSubstr("no-such-program"));
}

TEST(ProcessTest, TheDestructorKillsItsChild) {
  pid_t pid = 0;
  {
    Process first({"sleep", "60"});
    Process child(std::move(first));
    pid = child.pid();
    EXPECT_TRUE(child.Running());
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ProcessTest, PausesAndResumes) {
  Process child({"sh", "-c", "while :; do echo x; sleep 0.001; done"});
  ASSERT_TRUE(Eventually([&] { return !child.out().empty(); }));
  child.Pause();
  const std::size_t before = child.out().size();
  EXPECT_TRUE(child.Running());
  EXPECT_FALSE(Eventually([&] { return child.out().size() > before + 2; }, absl::Milliseconds(30)));
  child.Resume();
  EXPECT_TRUE(Eventually([&] { return child.out().size() > before + 2; }));
}

TEST(ProcessTest, ForkedBodiesReportTheirResult) {
  Process code = ForkAndRun([] { return 7; });
  EXPECT_EQ(code.Wait().exit_code, 7);
  const TempDir kept;
  Process quiet = ForkAndRun([] { std::printf("said"); });
  const ProcessResult result = quiet.Wait();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "said");
  Process thrower = ForkAndRun([] { throw std::runtime_error("bad"); });
  const ProcessResult thrown = thrower.Wait();
  EXPECT_EQ(thrown.exit_code, 99);
  EXPECT_THAT(thrown.err, HasSubstr("bad"));
}

TEST(TempDirTest, IsRemovedWithItsContentsButNotByAForkedChild) {
  std::string path;
  {
    auto directory = std::make_unique<TempDir>();
    path = directory->path();
    std::filesystem::create_directories(directory->File("a/b"));
    ForkAndRun([&] { directory.reset(); }).Wait();
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(StatusMatchersTest, TellCodesMessagesAndValuesApart) {
  const absl::Status bad = absl::InvalidArgumentError("ttl is 0");
  EXPECT_OK(absl::OkStatus());
  EXPECT_THAT(bad, Not(IsOk()));
  EXPECT_THAT(bad, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(bad, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ttl")));
  EXPECT_THAT(bad, Not(StatusIs(absl::StatusCode::kInvalidArgument, "other")));
  EXPECT_THAT(bad, Not(StatusIs(absl::StatusCode::kAborted, HasSubstr("ttl"))));
  EXPECT_THAT(absl::StatusOr<int>(3), IsOkAndHolds(3));
  EXPECT_THAT(absl::StatusOr<int>(3), Not(IsOkAndHolds(4)));
  EXPECT_THAT(absl::StatusOr<int>(bad), Not(IsOkAndHolds(3)));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<int> owned,
                       absl::StatusOr<std::unique_ptr<int>>(std::make_unique<int>(5)));
  EXPECT_EQ(*owned, 5);
}

}  // namespace
}  // namespace coord::testing
