// rediss:// against real servers with certificates of every kind.
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "coord/wire/tls.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Certificate;
using ::coord::testing::CertificateAuthority;
using ::coord::testing::CertificateOptions;
using ::coord::testing::Direction;
using ::coord::testing::FaultProxy;
using ::coord::testing::FreePort;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::TempDir;
using internal::StrCat;
using ::testing::AllOf;
using ::testing::HasSubstr;

CertificateAuthority& Authority() {
  static CertificateAuthority authority;
  return authority;
}

// A server whose TCP port speaks TLS only; the unix socket is plain.
class TlsServer {
 public:
  explicit TlsServer(const CertificateOptions& certificate = {.hosts = {"localhost"},
                                                              .addresses = {"127.0.0.1"}},
                     std::vector<std::string> more = {"--tls-auth-clients", "no"}) {
    const Certificate files = Authority().Issue(certificate);
    std::vector<std::string> args = {"--tls-port",         std::to_string(port_), "--tls-cert-file",
                                     files.cert_file,      "--tls-key-file",      files.key_file,
                                     "--tls-ca-cert-file", Authority().ca_file()};
    args.insert(args.end(), more.begin(), more.end());
    server_.emplace(testing::RedisServerOptions{.args = args});
  }

  RedisServer& server() { return *server_; }
  int port() const { return port_; }
  std::string plain_url() const { return StrCat("redis://127.0.0.1:", port_); }
  // With the right authority, unless there is another.
  std::string url(std::string_view host = "127.0.0.1", std::string_view query = {}) const {
    return StrCat("rediss://", host, ":", port_, "?connect_timeout=5s&",
                  query.empty() ? StrCat("ca_file=", Authority().ca_file()) : std::string(query));
  }
  // How many connections its TLS port has seen.
  std::int64_t Connections() {
    RawRedis redis(server_->unix_url());
    const std::string info = redis.Text({"INFO", "stats"});
    const std::size_t at = info.find("total_connections_received:");
    return std::stoll(info.substr(at + 27));
  }

 private:
  const int port_ = FreePort();
  std::optional<RedisServer> server_;
};

// Refused for the certificate's sake, at once and after a single attempt.
void ExpectRefused(TlsServer& server, const std::string& url, absl::StatusCode code,
                   const std::string& part) {
  const std::int64_t before = server.Connections();
  const absl::StatusOr<Client> client = Client::Connect(url);
  EXPECT_THAT(client, StatusIs(code, HasSubstr(part)));
  EXPECT_LE(server.Connections(), before + 2);  // the count is asked for over one, too
}

TEST(TlsTest, AServerOfTheRightNameAndAuthorityIsUsed) {
  TlsServer server;
  for (const char* host : {"127.0.0.1", "localhost"}) {
    ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url(host)));
    EXPECT_OK(client.Command({"SET", "k", host}));
    ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"GET", "k"}));
    EXPECT_EQ(reply.text(), host);
  }
}

TEST(TlsTest, ValuesOfManyRecordsPassBothWays) {
  TlsServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  for (const std::size_t size : {1u, 16'383u, 16'384u, 16'385u, 100'000u, 5'000'000u}) {
    std::string value(size, '\0');
    for (std::size_t i = 0; i < size; ++i) value[i] = static_cast<char>(i * 131 + i / 251);
    EXPECT_OK(client.Command({"SET", "k", value}));
    ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"GET", "k"}));
    EXPECT_TRUE(reply.text() == value) << size;
  }
}

TEST(TlsTest, ManyThreadsShareTheConnection) {
  TlsServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 16; ++i) {
      threads.emplace_back([&, i] {
        const std::string key = StrCat("k", i);
        const std::string value(static_cast<std::size_t>(1) << i, 'x');
        for (int k = 0; k < 100; ++k) {
          ASSERT_OK(client.Command({"SET", key, value}));
          const auto reply = client.Command({"GET", key});
          ASSERT_OK(reply);
          ASSERT_EQ(reply->text().size(), value.size());
        }
      });
    }
  }
  EXPECT_LE(server.Connections(), 3);
}

TEST(TlsTest, WaitersAreWokenOverTls) {
  TlsServer server;
  ASSERT_OK_AND_ASSIGN(const Client first, Client::Connect(server.url()));
  ASSERT_OK_AND_ASSIGN(const Client second, Client::Connect(server.url()));
  std::atomic<int> inside = 0;
  std::atomic<int> sections = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&, i] {
        Mutex mutex(i % 2 == 0 ? first : second, "deploy");
        for (int k = 0; k < 20; ++k) {
          absl::StatusOr<Lease> lease = mutex.Acquire(absl::Seconds(20));
          ASSERT_OK(lease);
          EXPECT_EQ(++inside, 1);
          --inside;
          ++sections;
        }
      });
    }
  }
  EXPECT_EQ(sections, 120);
}

TEST(TlsTest, AnythingMayComeInPieces) {
  TlsServer server;
  FaultProxy proxy(server.plain_url());
  const std::string url =
      StrCat("rediss://127.0.0.1:", proxy.port(), "?ca_file=", Authority().ca_file());
  proxy.Set(Direction::kReplies, {.chunk = 7});
  proxy.Set(Direction::kRequests, {.chunk = 5});
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(url));
  const std::string value(20'000, 'v');
  EXPECT_OK(client.Command({"SET", "k", value}));
  ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"GET", "k"}));
  EXPECT_EQ(reply.text(), value);
}

TEST(TlsTest, BytesChangedOnTheWayBreakTheConnectionAndNothingElse) {
  TlsServer server;
  FaultProxy proxy(server.plain_url());
  const std::string url =
      StrCat("rediss://127.0.0.1:", proxy.port(), "?ca_file=", Authority().ca_file());
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(url));
  EXPECT_OK(client.Command({"SET", "k", "v"}));
  proxy.Set(Direction::kReplies, {.corrupt_at = 8, .once = true});
  const auto reply = client.Command({"INCR", "n"});
  EXPECT_TRUE(IsOutcomeUnknown(reply.status())) << reply.status();
  EXPECT_THAT(reply.status().ToString(), HasSubstr("TLS"));
  ASSERT_OK_AND_ASSIGN(const Reply after, client.Command({"GET", "k"}));
  EXPECT_EQ(after.text(), "v");
}

TEST(TlsTest, ACertificateForAnotherHostIsRefused) {
  TlsServer server({.hosts = {"other.example"}});
  ExpectRefused(server, server.url(), absl::StatusCode::kUnauthenticated, "127.0.0.1");
  ExpectRefused(server, server.url("localhost"), absl::StatusCode::kUnauthenticated,
                "\"localhost\"");
}

TEST(TlsTest, ACertificateOfAnotherAuthorityIsRefused) {
  TlsServer server;
  const CertificateAuthority other;
  ExpectRefused(server, server.url("127.0.0.1", StrCat("ca_file=", other.ca_file())),
                absl::StatusCode::kUnauthenticated, "not trusted");
  // The system's do not know ours either.
  ExpectRefused(server, server.url("127.0.0.1", "timeout=5s"), absl::StatusCode::kUnauthenticated,
                "ca_file");
}

TEST(TlsTest, ACertificateOutOfItsTimeIsRefused) {
  TlsServer expired({.addresses = {"127.0.0.1"},
                     .valid_from = -absl::Hours(48),
                     .valid_until = -absl::Hours(24)});
  ExpectRefused(expired, expired.url(), absl::StatusCode::kUnauthenticated, "expired");
  TlsServer early(
      {.addresses = {"127.0.0.1"}, .valid_from = absl::Hours(24), .valid_until = absl::Hours(48)});
  ExpectRefused(early, early.url(), absl::StatusCode::kUnauthenticated, "not yet valid");
}

TEST(TlsTest, InsecureTakesAnyCertificate) {
  TlsServer server({.hosts = {"other.example"},
                    .valid_from = -absl::Hours(48),
                    .valid_until = -absl::Hours(24)});
  ASSERT_OK_AND_ASSIGN(const Client client,
                       Client::Connect(server.url("127.0.0.1", "insecure=true")));
  EXPECT_OK(client.Command({"PING"}));
}

TEST(TlsTest, APlainPortIsToldFromATlsPort) {
  RedisServer plain({.port = 0});
  const absl::Time before = absl::Now();
  const absl::StatusOr<Client> client =
      Client::Connect(StrCat("rediss://127.0.0.1:", plain.port(), "?connect_timeout=2s"));
  EXPECT_FALSE(client.ok());
  EXPECT_THAT(client.status().ToString(), HasSubstr("TLS"));
  EXPECT_LT(absl::Now() - before, absl::Seconds(4));
  TlsServer server;
  EXPECT_FALSE(Client::Connect(StrCat(server.plain_url(), "?connect_timeout=2s")).ok());
}

TEST(TlsTest, AServerThatAsksForACertificateGetsOurs) {
  TlsServer server({.addresses = {"127.0.0.1"}}, {"--tls-auth-clients", "yes"});
  ExpectRefused(server, server.url(), absl::StatusCode::kUnauthenticated, "cert_file");
  const Certificate ours = Authority().Issue({.hosts = {"client"}});
  ASSERT_OK_AND_ASSIGN(const Client client,
                       Client::Connect(server.url(
                           "127.0.0.1", StrCat("ca_file=", Authority().ca_file(), "&cert_file=",
                                               ours.cert_file, "&key_file=", ours.key_file))));
  EXPECT_OK(client.Command({"PING"}));
  CertificateAuthority other;
  const Certificate foreign = other.Issue({.hosts = {"client"}});
  ExpectRefused(server,
                server.url("127.0.0.1", StrCat("ca_file=", Authority().ca_file(), "&cert_file=",
                                               foreign.cert_file, "&key_file=", foreign.key_file)),
                absl::StatusCode::kUnauthenticated, "certificate");
}

TEST(TlsTest, FilesThatAreNoCertificatesAreRefusedBeforeAnythingIsSent) {
  TlsServer server;
  const TempDir directory;
  std::ofstream(directory.File("empty.pem")) << "nothing";
  const Certificate one = Authority().Issue({}), other = Authority().Issue({});
  const std::string ca = StrCat("ca_file=", Authority().ca_file());
  const std::int64_t before = server.Connections();
  for (const std::string& query :
       {std::string("ca_file=/no/such/file"), StrCat("ca_file=", directory.File("empty.pem")),
        StrCat(ca, "&cert_file=", one.cert_file), StrCat(ca, "&key_file=", one.key_file),
        StrCat(ca, "&cert_file=", one.cert_file, "&key_file=/no/such/file"),
        StrCat(ca, "&cert_file=", one.cert_file, "&key_file=", other.key_file)}) {
    EXPECT_THAT(Client::Connect(server.url("127.0.0.1", query)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("_file")))
        << query;
  }
  EXPECT_LE(server.Connections(), before + 1);
}

TEST(TlsTest, AReconnectResumesTheSession) {
  TlsServer server;
  ASSERT_OK_AND_ASSIGN(
      const std::shared_ptr<internal::TlsContext> context,
      internal::TlsContext::Make({.ca_file = Authority().ca_file(), .server_name = "127.0.0.1"}));
  const internal::Endpoint endpoint{
      .path = {}, .host = "127.0.0.1", .port = static_cast<std::uint16_t>(server.port())};
  ASSERT_OK_AND_ASSIGN(const auto addresses, internal::Resolve(endpoint));
  const internal::CallLimits limits{internal::DeadlineAfter(absl::Seconds(5)), {}};
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(auto plain, internal::Dial(endpoint, addresses, limits));
    ASSERT_OK_AND_ASSIGN(auto socket,
                         context->Secure(std::move(plain), "127.0.0.1", "the server", limits));
    EXPECT_EQ(context->resumed(), i);
    ASSERT_EQ(socket->Send("PING\r\n"), 6);
    std::string heard;
    char room[64];
    while (heard.size() < 7) {
      const ssize_t n = socket->Recv(room);
      if (n > 0) heard.append(room, static_cast<std::size_t>(n));
      ASSERT_TRUE(n > 0 || n == -EAGAIN);
    }
    EXPECT_EQ(heard, "+PONG\r\n");
  }
}

// Two records come in one read: the second is in memory then, and poll knows nothing of it.
TEST(TlsTest, WhatWasReceivedButNotYetReadIsPending) {
  TlsServer server;
  ASSERT_OK_AND_ASSIGN(
      const std::shared_ptr<internal::TlsContext> context,
      internal::TlsContext::Make({.ca_file = Authority().ca_file(), .server_name = "127.0.0.1"}));
  const internal::Endpoint endpoint{
      .path = {}, .host = "127.0.0.1", .port = static_cast<std::uint16_t>(server.port())};
  ASSERT_OK_AND_ASSIGN(const auto addresses, internal::Resolve(endpoint));
  const internal::CallLimits limits{internal::DeadlineAfter(absl::Seconds(5)), {}};
  ASSERT_OK_AND_ASSIGN(auto plain, internal::Dial(endpoint, addresses, limits));
  ASSERT_OK_AND_ASSIGN(auto socket,
                       context->Secure(std::move(plain), "127.0.0.1", "the server", limits));
  const auto waiting = [&] {
    int bytes = 0;
    ioctl(socket->fd(), FIONREAD, &bytes);
    return bytes;
  };
  char room[64];
  const auto receive = [&] {
    ssize_t n = -EAGAIN;
    EXPECT_TRUE(testing::Eventually([&] { return (n = socket->Recv(room)) != -EAGAIN; }));
    return std::string_view(room, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  };
  // What the server has to say of the session goes with the first reply.
  ASSERT_EQ(socket->Send("PING\r\n"), 6);
  ASSERT_EQ(receive(), "+PONG\r\n");
  EXPECT_FALSE(socket->Pending());
  for (int i = 0; i < 2; ++i) {
    const int before = waiting();
    ASSERT_EQ(socket->Send("PING\r\n"), 6);
    ASSERT_TRUE(testing::Eventually([&] { return waiting() > before; }));
  }
  EXPECT_EQ(receive(), "+PONG\r\n");
  EXPECT_EQ(waiting(), 0);
  EXPECT_TRUE(socket->Pending());
  EXPECT_EQ(receive(), "+PONG\r\n");
  EXPECT_FALSE(socket->Pending());
}

TEST(TlsTest, AServerThatStartsAgainIsFoundAgain) {
  TlsServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  const Counter counter(client, "n");
  EXPECT_OK(counter.Add(1));
  server.server().Restart(RedisServer::Data::kDrop);
  // The first may have gone into the old connection.
  EXPECT_TRUE(testing::Eventually([&] { return counter.Get().ok(); }, absl::Seconds(10)));
  EXPECT_THAT(counter.Get(), IsOkAndHolds(0));
  EXPECT_OK(counter.Add(1));
}

TEST(TlsTest, AHandshakeThatIsNotAnsweredEndsInTime) {
  TlsServer server;
  FaultProxy proxy(server.plain_url());
  proxy.Set(Direction::kReplies, {.hold = true});
  const absl::Time before = absl::Now();
  EXPECT_THAT(Client::Connect(StrCat("rediss://127.0.0.1:", proxy.port(),
                                     "?connect_timeout=300ms&ca_file=", Authority().ca_file())),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in time")));
  EXPECT_LT(absl::Now() - before, absl::Seconds(3));
}

}  // namespace
}  // namespace coord
