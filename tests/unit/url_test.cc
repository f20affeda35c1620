#include "coord/deployment/url.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::internal {
namespace {

using ::coord::testing::IsOk;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Scheme = Url::Scheme;

Url Parsed(std::string_view text) {
  absl::StatusOr<Url> url = ParseUrl(text);
  EXPECT_THAT(url, IsOk()) << text;
  return url.ok() ? *url : Url{};
}

std::string Refusal(std::string_view text) {
  const absl::StatusOr<Url> url = ParseUrl(text);
  EXPECT_THAT(url, StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  return std::string(FromAbsl(url.status().message()));
}

TEST(UrlTest, EachSchemeIsKnownWithAndWithoutTls) {
  const struct {
    std::string_view text;
    Scheme scheme;
    bool tls;
  } cases[] = {
      {"redis://h", Scheme::kTcp, false},
      {"rediss://h", Scheme::kTcp, true},
      {"REDIS://h", Scheme::kTcp, false},
      {"unix:///s", Scheme::kUnix, false},
      {"redis+sentinel://h/m", Scheme::kSentinel, false},
      {"rediss+sentinel://h/m", Scheme::kSentinel, true},
      {"redis+cluster://h", Scheme::kCluster, false},
      {"rediss+cluster://h", Scheme::kCluster, true},
      {"embedded://", Scheme::kEmbedded, false},
  };
  for (const auto& c : cases) {
    const Url url = Parsed(c.text);
    EXPECT_EQ(url.scheme, c.scheme) << c.text;
    EXPECT_EQ(url.tls, c.tls) << c.text;
  }
}

TEST(UrlTest, HostsHavePortsOfTheirOwnOrTheDefaultOfTheScheme) {
  const struct {
    std::string_view text;
    std::vector<HostPort> hosts;
  } cases[] = {
      {"redis://h", {{"h", 6379}}},
      {"redis://h:1", {{"h", 1}}},
      {"redis://h:65535/", {{"h", 65535}}},
      {"redis://my_db-1.example.org:7000/2", {{"my_db-1.example.org", 7000}}},
      {"redis://[::1]", {{"::1", 6379}}},
      {"redis://u:p@[2001:db8::7]:7000/1", {{"2001:db8::7", 7000}}},
      {"redis://[fe80::1%25eth0]:7", {{"fe80::1%eth0", 7}}},
      {"redis+cluster://a,b:7001,[::1]:7002", {{"a", 6379}, {"b", 7001}, {"::1", 7002}}},
      {"redis+sentinel://a,b:7001/m", {{"a", 26379}, {"b", 7001}}},
      {"redis+sentinel://m@a,b:7001", {{"a", 26379}, {"b", 7001}}},
  };
  for (const auto& c : cases) EXPECT_EQ(Parsed(c.text).hosts, c.hosts) << c.text;
}

TEST(UrlTest, UserAndPasswordAreDecodedAndSplitAtTheLastAt) {
  const struct {
    std::string_view text;
    std::string_view user;
    std::string_view password;
  } cases[] = {
      {"redis://h", "", ""},
      {"redis://:secret@h", "", "secret"},
      {"redis://ann:secret@h", "ann", "secret"},
      {"redis://ann:@h", "ann", ""},
      {"redis://a%3Ann:s%40%2f%25%3F%23@h", "a:nn", "s@/%?#"},
      {"redis://ann:se:c:ret@h", "ann", "se:c:ret"},
      {"redis://ann:p@ss@w@h", "ann", "p@ss@w"},
      {"redis://ann:a+b c@h", "ann", "a+b c"},
      {"redis+cluster://ann:1,2@a,b", "ann", "1,2"},
      {"redis+sentinel://ann:secret@a,b/m", "ann", "secret"},
      {"unix://ann:secret@/run/redis.sock", "ann", "secret"},
  };
  for (const auto& c : cases) {
    const Url url = Parsed(c.text);
    EXPECT_EQ(url.user, c.user) << c.text;
    EXPECT_EQ(url.password, c.password) << c.text;
  }
}

TEST(UrlTest, TheDatabaseFollowsTheHostOrIsAnOptionWhereThereIsAPath) {
  const struct {
    std::string_view text;
    int db;
  } cases[] = {
      {"redis://h", 0},
      {"redis://h/", 0},
      {"redis://h/0", 0},
      {"redis://h/15", 15},
      {"redis://h/2147483647?timeout=1", 2147483647},
      {"unix:///s?db=3", 3},
      {"embedded://?db=4", 4},
      {"redis+sentinel://h/m/5", 5},
      {"redis+sentinel://h/m/", 0},
      {"redis+sentinel://m@h/6", 6},
      {"redis+cluster://h/0", 0},
  };
  for (const auto& c : cases) EXPECT_EQ(Parsed(c.text).db, c.db) << c.text;
}

TEST(UrlTest, BothSentinelFormsNameTheMaster) {
  const Url path = Parsed(
      "rediss+sentinel://ann:secret@h1:1,h2:2/my%2Fmain/"
      "3?sentinel_user=bob&sentinel_password=pa%26ss");
  EXPECT_EQ(path.sentinel_master, "my/main");
  EXPECT_EQ(path.sentinel_user, "bob");
  EXPECT_EQ(path.sentinel_password, "pa&ss");
  EXPECT_THAT(path.hosts, ElementsAre(HostPort{"h1", 1}, HostPort{"h2", 2}));

  const Url front = Parsed("redis+sentinel://main@h1,h2/3");
  EXPECT_EQ(front.sentinel_master, "main");
  EXPECT_EQ(front.user, "");
  EXPECT_EQ(front.db, 3);
}

TEST(UrlTest, PathsOfSocketsAndDirectoriesAreDecoded) {
  EXPECT_EQ(Parsed("unix:///run/a%20b@c.sock?db=1").path, "/run/a b@c.sock");
  EXPECT_EQ(Parsed("embedded:///var/lib/x").path, "/var/lib/x");
  EXPECT_EQ(Parsed("embedded://").path, "");
}

TEST(UrlTest, PrivateIsForEmbeddedWithoutAPath) {
  EXPECT_FALSE(Parsed("embedded://").embedded_private);
  EXPECT_TRUE(Parsed("embedded://?private").embedded_private);
  EXPECT_TRUE(Parsed("embedded://?private=true&prefix=x:").embedded_private);
  EXPECT_FALSE(Parsed("embedded:///dir?private=0").embedded_private);
  EXPECT_THAT(Refusal("redis://h?private"), HasSubstr("private"));
  EXPECT_THAT(Refusal("embedded:///dir?private"), HasSubstr("/dir"));
}

TEST(UrlTest, OptionsAreReadAndUnsetOnesStayUnset) {
  const Url url = Parsed(
      "rediss://h?timeout=250ms&connect_timeout=5&client_name=web-1&prefix=app%3A&ca_file=/"
      "a%20b.pem"
      "&cert_file=c&key_file=k&insecure=1");
  EXPECT_EQ(url.timeout, absl::Milliseconds(250));
  EXPECT_EQ(url.connect_timeout, absl::Seconds(5));
  EXPECT_EQ(url.client_name, "web-1");
  EXPECT_EQ(url.prefix, "app:");
  EXPECT_EQ(url.ca_file, "/a b.pem");
  EXPECT_EQ(url.cert_file, "c");
  EXPECT_EQ(url.key_file, "k");
  EXPECT_TRUE(url.insecure);

  const Url plain = Parsed("rediss://h?");
  EXPECT_EQ(plain.timeout, std::nullopt);
  EXPECT_EQ(plain.connect_timeout, std::nullopt);
  EXPECT_EQ(plain.client_name, std::nullopt);
  EXPECT_EQ(plain.prefix, std::nullopt);
  EXPECT_FALSE(plain.insecure);
}

TEST(UrlTest, LimitsThemselvesAreAllowed) {
  EXPECT_EQ(Parsed("redis://h?timeout=24h").timeout, absl::Hours(24));
  EXPECT_EQ(Parsed("redis://h?timeout=86400").timeout, absl::Hours(24));
  EXPECT_EQ(Parsed(StrCat("redis://h?prefix=", std::string(256, 'x'))).prefix->size(), 256u);
  EXPECT_EQ(Parsed(StrCat("unix:///", std::string(106, 'x'))).path.size(), 107u);
}

TEST(UrlTest, RefusalsNameThePartTheValueAndTheLimit) {
  const struct {
    std::string text;
    std::vector<std::string> said;
  } cases[] = {
      {"", {"scheme"}},
      {"localhost", {"scheme", "\"localhost\"", "rediss"}},
      {"localhost:6379", {"scheme"}},
      {"://h", {"scheme"}},
      {"redis:/h", {"scheme"}},
      {"http://h", {"scheme", "\"http\"", "redis"}},
      {"valkey+tls://h", {"scheme", "\"valkey+tls\""}},
      {std::string("redis://h\0x", 11), {"NUL"}},
      {"redis://h\n", {"control character"}},
      {"redis://h%00", {"host"}},
      {"redis://a%00:b@h", {"user", "NUL"}},
      {"redis://a:%00@h", {"password", "NUL"}},
      {"unix:///a%00", {"path", "NUL"}},
      {"redis://h?prefix=%00", {"prefix", "NUL"}},
      {"redis://a%4:b@h", {"user", "'%'"}},
      {"redis://a:b%zz@h", {"password", "'%'"}},
      {"unix:///a%", {"path", "'%'"}},
      {"redis://h?prefix=%4x", {"prefix", "'%'"}},
      {"redis://", {"host", "empty"}},
      {"redis://:6379", {"host", "empty"}},
      {"redis://u:p@", {"host", "empty"}},
      {"redis://?timeout=1", {"host", "empty"}},
      {"redis+cluster://a,,b", {"host", "empty"}},
      {"redis+cluster://a,", {"host", "empty"}},
      {"redis://a,b", {"one host", "cluster"}},
      {"redis://a b", {"host", "\"a b\""}},
      {"redis://" + std::string(254, 'a'), {"host", "253"}},
      {"redis://::1", {"brackets"}},
      {"redis://[::1", {"IPv6"}},
      {"redis://[::g]", {"IPv6"}},
      {"redis://[1.2.3.4]", {"IPv6", "1.2.3.4"}},
      {"redis://[::1]6379", {"']'"}},
      {"redis://[::1%25a/b]", {"IPv6"}},
      {"redis://[fe80::1%2eth0]", {"zone", "%25"}},
      {"redis://[fe80::1%25]", {"zone", "%25"}},
      {"redis://[fe80::1%25a%20b]", {"zone", "letters"}},
      {"redis://h:", {"port", "65535"}},
      {"redis://h:0", {"port", "\"0\"", "65535"}},
      {"redis://h:65536", {"port", "\"65536\"", "65535"}},
      {"redis://h:-1", {"port"}},
      {"redis://h:+1", {"port"}},
      {"redis://h:99999999999999999999", {"port"}},
      {"redis://token@h", {"user:password"}},
      {"redis://@h", {"user:password"}},
      {"redis+sentinel://@h/m", {"user:password"}},
      {"redis://h/x", {"database", "\"x\"", "2147483647"}},
      {"redis://h/-1", {"database", "\"-1\""}},
      {"redis://h/2147483648", {"database", "\"2147483648\"", "2147483647"}},
      {"redis://h/99999999999999999999", {"database"}},
      {"redis://h/1/2", {"database", "\"1/2\""}},
      {"redis+cluster://h/1", {"database", "\"1\"", "0"}},
      {"redis+sentinel://h", {"master", "missing"}},
      {"redis+sentinel://h//1", {"master", "missing"}},
      {"redis+sentinel://h/m/x", {"database", "\"x\""}},
      {"redis+sentinel://m@h/n/1", {"database", "\"n/1\""}},
      {"unix://", {"path"}},
      {"unix:///", {"path", "107"}},
      {"unix://run/redis.sock", {"path", "\"run\"", "absolute"}},
      {"unix:///" + std::string(107, 'x'), {"path", "107"}},
      {"unix:///s?db=x", {"database", "\"x\""}},
      {"embedded://dir", {"path", "\"dir\"", "absolute"}},
      {"embedded:///", {"directory"}},
      {"embedded://u:p@/dir", {"no user"}},
      {"redis://h?color=red", {"unknown option", "\"color\""}},
      {"redis://h?Timeout=1", {"unknown option", "\"Timeout\""}},
      {"redis://h?db=1", {"db", "/db"}},
      {"redis://h?timeout=1&timeout=1", {"timeout", "twice"}},
      {"embedded://?private&private", {"private", "twice"}},
      {"redis://h?=1", {"no name"}},
      {"redis://h?timeout=1&", {"no name"}},
      {"redis://h?timeout", {"timeout", "value"}},
      {"rediss://h?ca_file=", {"ca_file", "value"}},
      {"redis://h?timeout=0", {"timeout", "\"0\"", "24h"}},
      {"redis://h?timeout=-1s", {"timeout", "\"-1s\"", "24h"}},
      {"redis://h?timeout=25h", {"timeout", "\"25h\"", "24h"}},
      {"redis://h?timeout=86401", {"timeout", "\"86401\"", "24h"}},
      {"redis://h?timeout=inf", {"timeout", "\"inf\"", "24h"}},
      {"redis://h?timeout=", {"timeout", "24h"}},
      {"redis://h?connect_timeout=5x", {"connect_timeout", "\"5x\"", "24h"}},
      {"redis://h?client_name=a%20b", {"client_name", "\"a%20b\"", "spaces"}},
      {"redis://h?client_name=a%0A", {"client_name"}},
      {"redis://h?client_name=%C3%A9", {"client_name"}},
      {"redis://h?prefix=a%7B", {"prefix", "\"a%7B\"", "braces"}},
      {"redis://h?prefix=a}", {"prefix", "\"a}\"", "braces"}},
      {"redis://h?prefix=" + std::string(257, 'x'), {"prefix", "256"}},
      {"rediss://h?insecure=yes", {"insecure", "\"yes\"", "true"}},
      {"redis://h?insecure=1", {"insecure", "TLS", "redis"}},
      {"redis://h?ca_file=a", {"ca_file", "TLS"}},
      {"unix:///s?cert_file=a", {"cert_file", "TLS", "unix"}},
      {"redis+cluster://h?key_file=a", {"key_file", "TLS"}},
      {"redis://h?sentinel_user=a", {"sentinel_user", "Sentinel"}},
      {"redis://h?sentinel_password=a", {"sentinel_password", "Sentinel"}},
      {"redis://h/0#top", {"'#'", "%23"}},
  };
  for (const auto& c : cases) {
    const std::string message = Refusal(c.text);
    for (const std::string& part : c.said) EXPECT_THAT(message, HasSubstr(part)) << c.text;
  }
}

// Wherever a password ends up when a URL is wrong or has not been escaped, the message is silent
// about it. Neither half of one that falls apart may show.
TEST(UrlTest, NoRefusalRepeatsAPassword) {
  const std::vector<std::string_view> urls = {
      "ann:hunter2swordfish@host",
      "redis:/ann:hunter2swordfish@host",
      "ann:hunter2://swordfish@host",
      "hunter2@redis://swordfish@host",
      "http://ann:hunter2swordfish@host",
      "redis://ann:hunter2%swordfish@host",
      "redis://ann:hunter2%00swordfish@host",
      "redis://ann:hunter2\nswordfish@host",
      "redis://ann:hunter2/swordfish@host",
      "redis://ann:1/swordfish@host",
      "redis://ann:1?swordfish@host",
      "redis://ann:1?swordfish=hunter2@host",
      "redis://ann:1?timeout=swordfish@host",
      "redis://ann:hunter2?swordfish@host/1",
      "redis://ann:hunter2#swordfish@host",
      "redis://ann:hunter2@swordfish@ho st",
      "redis://ann:hunter2:swordfish@host:0",
      "redis://ann:hunter2,swordfish@",
      "redis://hunter2swordfish@host",
      "redis://ann:hunter2swordfish",
      "redis://ann:hunter2:swordfish",
      "redis://ann:123456789",
      "redis+cluster://ann:1,swordfish%",
      "redis+cluster://ann:1,swordfish hunter2",
      "redis+cluster://a,ann:hunter2swordfish@b:x",
      "redis+sentinel://ann:1/swordfish@host/m/x",
      "redis+sentinel://ann:hunter2swordfish@host",
      "redis+sentinel://h/m?sentinel_password=hunter2%swordfish",
      "redis+sentinel://h/m?sentinel_password=hunter2&swordfish",
      "redis+sentinel://h/m?sentinel_password=hunter2&swordfish=1",
      "redis+sentinel://h/m?sentinel_password=hunter2#swordfish",
      "redis+sentinel://h/m?sentinel_password=hunter2&sentinel_password=swordfish",
      "redis://h?password=hunter2swordfish",
      "redis://h?sentinel_password=hunter2swordfish",
      "unix://ann:hunter2/swordfish@/s",
      "unix://ann:hunter2swordfish@host/s",
      "unix://ann:hunter2swordfish",
      "embedded://ann:hunter2swordfish@",
      "embedded://ann:hunter2/swordfish@host",
      "redis://ann:[hunter2swordfish@[::g",
      "redis://ann:[hunter2/swordfish]@host",
  };
  for (const std::string_view url : urls) {
    EXPECT_THAT(Refusal(url), AllOf(Not(HasSubstr("hunter2")), Not(HasSubstr("swordfish")),
                                    Not(HasSubstr("123456789"))))
        << url;
  }
}

TEST(UrlTest, RedactedHidesPasswordsAndAddsNothing) {
  const struct {
    std::string_view text;
    std::string_view redacted;
  } cases[] = {
      {"redis://h", "redis://h"},
      {"redis://h:6379/0", "redis://h"},
      {"rediss://:secret@h:7000/3", "rediss://:***@h:7000/3"},
      {"redis://ann:secret@[::1]:7", "redis://ann:***@[::1]:7"},
      {"redis://[fe80::1%25eth0]", "redis://[fe80::1%25eth0]"},
      {"redis://a%40b:@h", "redis://a%40b:@h"},
      {"redis+cluster://u:secret@a,b:1", "redis+cluster://u:***@a,b:1"},
      {"redis+sentinel://main@a,b:1/2", "redis+sentinel://a,b:1/main/2"},
      {"redis+sentinel://u:secret@a/m?sentinel_password=hidden&sentinel_user=s",
       "redis+sentinel://u:***@a/m?sentinel_user=s&sentinel_password=***"},
      {"unix://:secret@/a%20b?db=2", "unix://:***@/a%20b?db=2"},
      {"embedded://", "embedded://"},
      {"embedded:///d?prefix=x:", "embedded:///d?prefix=x:"},
      {"embedded://?private", "embedded://?private"},
      {"rediss://h?timeout=1500ms&connect_timeout=60&client_name=a&ca_file=/"
       "c&cert_file=e&key_file=k&"
       "insecure=true",
       "rediss://h?timeout=1.5s&connect_timeout=1m&client_name=a&ca_file=/c&cert_file=e&key_file=k&"
       "insecure=true"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(Parsed(c.text).Redacted(), c.redacted) << c.text;
    EXPECT_EQ(Parsed(c.redacted).Redacted(), c.redacted) << "not stable: " << c.text;
  }
}

TEST(UrlTest, AnEmptyUrlStructHasSafeDefaults) {
  const Url url;
  EXPECT_THAT(url.hosts, IsEmpty());
  EXPECT_FALSE(url.insecure);
  EXPECT_FALSE(url.tls);
}

}  // namespace
}  // namespace coord::internal
