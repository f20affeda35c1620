// A server that speaks nothing newer than TLS 1.1.
#include <string>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Certificate;
using ::coord::testing::CertificateAuthority;
using ::coord::testing::FaultProxy;
using ::coord::testing::FreePort;
using ::coord::testing::ProcessResult;
using ::coord::testing::RedisServer;
using ::coord::testing::RunProgram;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using internal::StrCat;
using ::testing::HasSubstr;

// OpenSSL counts what TLS 1.1 signs with as no security at all, so both ends have to be told.
constexpr char kOldCiphers[] = "DEFAULT@SECLEVEL=0";

TEST(OldTlsTest, AServerOfNothingNewerThanTls11IsRefusedWithTheReason) {
  CertificateAuthority authority;
  const Certificate files = authority.Issue({.addresses = {"127.0.0.1"}});
  const int port = FreePort();
  testing::RedisServerOptions options;
  options.args = {"--tls-port",         std::to_string(port),
                  "--tls-cert-file",    files.cert_file,
                  "--tls-key-file",     files.key_file,
                  "--tls-ca-cert-file", authority.ca_file(),
                  "--tls-auth-clients", "no",
                  "--tls-protocols",    "TLSv1.1",
                  "--tls-ciphers",      kOldCiphers};
  const RedisServer server(options);
  // It does speak it, or this would show nothing.
  const ProcessResult old =
      RunProgram({"openssl", "s_client", "-connect", StrCat("127.0.0.1:", port), "-tls1_1",
                  "-cipher", kOldCiphers});
  if (old.out.find("Protocol  : TLSv1.1") == std::string::npos) {
    GTEST_SKIP() << "OpenSSL here makes no server of TLS 1.1: " << old.err;
  }
  FaultProxy proxy(StrCat("redis://127.0.0.1:", port));
  for (const std::string& query :
       {StrCat("ca_file=", authority.ca_file()), std::string("insecure=true")}) {
    const Stopwatch watch;
    const absl::Status status =
        Client::Connect(StrCat("rediss://127.0.0.1:", proxy.port(), "?", query)).status();
    EXPECT_LT(watch.elapsed(), absl::Seconds(4));
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
    EXPECT_THAT(status.ToString(), HasSubstr(StrCat("127.0.0.1:", proxy.port())));
    EXPECT_THAT(status.ToString(), HasSubstr("TLS"));
    EXPECT_THAT(status.ToString(), HasSubstr("version"));
  }
  EXPECT_EQ(proxy.accepted(), 2u) << "tried again, or without TLS";
}

}  // namespace
}  // namespace coord
