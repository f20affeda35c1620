#include "cache/http/internal/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::http::internal {
namespace {

using coord::testing::IsOkAndHolds;
using coord::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

bool Nothing(std::string_view) { return false; }

std::string Normal(std::string_view url, bool sort_query = false) {
  const absl::StatusOr<std::string> normal =
      NormalizeUrl(url, {.dropped = Nothing, .redacted = Nothing, .sort_query = sort_query});
  return normal.ok() ? *normal : "refused";
}

std::string Checked(std::string_view url) {
  const absl::StatusOr<CheckedUrl> checked = CheckUrl(url);
  return checked.ok() ? checked->url : "refused";
}

TEST(UrlTest, HasOneNormalFormForUrlsThatMeanTheSame) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {"http://example.com", "http://example.com/"},
      {"http://example.com/", "http://example.com/"},
      {"HTTP://Example.COM/Path", "http://example.com/Path"},
      {"hTtPs://EXAMPLE.com", "https://example.com/"},
      {"http://example.com:80/", "http://example.com/"},
      {"https://example.com:443/", "https://example.com/"},
      {"http://example.com:443/", "http://example.com:443/"},
      {"https://example.com:80/", "https://example.com:80/"},
      {"http://example.com:8080/", "http://example.com:8080/"},
      {"http://example.com:/", "http://example.com/"},
      {"http://example.com:0080/", "http://example.com/"},
      {"http://example.com./", "http://example.com./"},
      {"http://example.com?q", "http://example.com/?q"},
      {"http://example.com#f", "http://example.com/"},
      {"http://example.com/a#f?x", "http://example.com/a"},
      {"http://example.com/?q#f", "http://example.com/?q"},
      {"http://user:pw@example.com/", "http://example.com/"},
      {"http://user@example.com/", "http://example.com/"},
      {"http://@example.com/", "http://example.com/"},
      {"http://ex%61mple.com/", "http://example.com/"},
      {"http://[::1]/", "http://[::1]/"},
      {"http://[0:0:0:0:0:0:0:1]:80/", "http://[::1]/"},
      {"http://[2001:DB8::A]:81/x", "http://[2001:db8::a]:81/x"},
      {"http://[fe80::1%25eth0]/", "http://[fe80::1%25eth0]/"},
      {"http://127.0.0.1/", "http://127.0.0.1/"},
      {"http://b\xc3\xbc"
       "cher.example/",
       "http://b\xc3\xbc"
       "cher.example/"},
      {"http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"},
      {"http://h/%7euser/%41%2D%2e%5f", "http://h/~user/A-._"},
      {"http://h/%c3%bc", "http://h/%C3%BC"},
      {"http://h/%2f%3a", "http://h/%2F%3A"},
      {"http://h/a%2fb", "http://h/a%2Fb"},
      {"http://h/a/./b/../c", "http://h/a/c"},
      {"http://h/a/%2e/b/%2E%2e/c", "http://h/a/c"},
      {"http://h/../../a", "http://h/a"},
      {"http://h/a/..", "http://h/"},
      {"http://h/a/.", "http://h/a/"},
      {"http://h/a/b/.%2e", "http://h/a/"},
      {"http://h/...", "http://h/..."},
      {"http://h/a//b", "http://h/a//b"},
      {"http://h/a//../b", "http://h/a/b"},
      {"http://h//", "http://h//"},
      {"http://h/a;p=1", "http://h/a;p=1"},
      {"http://h/%zz%41", "http://h/%zz%41"},
      {"http://h/%", "http://h/%"},
      {"http://h/%%341", "http://h/%%341"},
      {"http://h/a\\b", "http://h/a\\b"},
      {"http://h/?a=", "http://h/?a="},
      {"http://h/?a", "http://h/?a"},
      {"http://h/?a=1+2%2b3", "http://h/?a=1+2%2B3"},
      {"http://h/?a=%20", "http://h/?a=%20"},
      {"http://h/?b=1&a=2", "http://h/?b=1&a=2"},
      {"http://h/?a=1&&b", "http://h/?a=1&&b"},
      {"http://h/?a=/../b?c", "http://h/?a=/../b?c"},
      {"http://h/?%61=%7e", "http://h/?a=~"},
      {"http://h/?a=%26&b", "http://h/?a=%26&b"},
      {"http://h/?a=1;b=2", "http://h/?a=1;b=2"},
      {"http://h/?a[]=1", "http://h/?a[]=1"},
  };
  for (const auto& [url, normal] : table) {
    EXPECT_EQ(Normal(url), normal) << url;
    EXPECT_EQ(Normal(Normal(url)), normal) << "again: " << url;
    EXPECT_EQ(Normal(Checked(url)), normal) << "checked: " << url;
  }
}

TEST(UrlTest, KeepsApartWhatMayMeanSomethingElse) {
  const std::vector<std::string> urls = {
      "http://h/a",    "http://h/a/",    "http://h/A",       "https://h/a",
      "http://h:81/a", "http://h./a",    "http://h/a?",      "http://h/a?x",
      "http://h/a?x=", "http://h/a?x=+", "http://h//a",      "http://h/a?X",
      "http://h/%61%", "http://h/a%2F",  "http://h/a?x=%2B", "http://h/a%20"};
  for (const std::string& one : urls) {
    for (const std::string& other : urls) {
      if (&one == &other) continue;
      EXPECT_NE(Normal(one), Normal(other)) << one << " " << other;
    }
  }
}

TEST(UrlTest, RefusesWhatIsNoUrlOfHttp) {
  const std::vector<std::string> urls = {
      "",
      "example.com",
      "//example.com/",
      "/path",
      "ftp://example.com/",
      "file:///etc/passwd",
      "http:example.com",
      "http:/example.com",
      "http://",
      "http:///path",
      "http://?q",
      "http://#f",
      "http://:80/",
      "http://user@/",
      "http://exa mple.com/",
      "http://example.com/a b",
      " http://example.com/",
      "http://example.com/\r\nHost: x",
      "http://example.com/\t",
      std::string("http://example.com/\0x", 21),
      "http://example.com/\x7f",
      "http://example.com\\@other.example/",
      "http://example.com:99999/",
      "http://example.com:0/",
      "http://example.com:8a/",
      "http://example.com:-1/",
      "http://[::1/",
      "http://[::g]/",
      "http://[::1]x/",
      "http://exa%00mple.com/",
      "http://exa%0ample.com/",
      "http://exa%20mple.com/",
      "http://exa%2fmple.com/",
      "http://exa%25mple.com/",
      "http://u%00:p@example.com/",
      "http://u:p%0a@example.com/",
      "javascript://x",
      "http://h/" + std::string(65536, 'a'),
  };
  for (const std::string& url : urls) {
    EXPECT_THAT(CheckUrl(url), StatusIs(absl::StatusCode::kInvalidArgument)) << url.substr(0, 80);
    EXPECT_EQ(Normal(url), "refused") << url.substr(0, 80);
  }
  EXPECT_EQ(Checked("http://h/" + std::string(65536 - 9, 'a')).size(), 65536u);
}

TEST(UrlTest, SaysWhatIsWrongWithoutShowingIt) {
  for (const std::string_view url :
       {"http://user:canary@h:canary/", "http://h/canary canary", "canary:canary", "canary",
        "http://canary%00:canary@h/", "http://h:1canary/", "http://[canary]/",
        "http://h\\canary/?canary"}) {
    const absl::Status status = CheckUrl(url).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << url;
    EXPECT_THAT(status.ToString(), Not(HasSubstr("canary"))) << url;
  }
}

TEST(UrlTest, TakesCredentialsOutDecoded) {
  const absl::StatusOr<CheckedUrl> checked = CheckUrl("http://a%40b:p%3Aq%20@h:81/x?y#z");
  ASSERT_OK(checked);
  EXPECT_EQ(checked->url, "http://h:81/x?y");
  EXPECT_TRUE(checked->has_credentials);
  EXPECT_EQ(checked->user, "a@b");
  EXPECT_EQ(checked->password, "p:q ");
  EXPECT_FALSE(CheckUrl("http://h/")->has_credentials);
  EXPECT_TRUE(CheckUrl("http://:pw@h/")->has_credentials);
  EXPECT_TRUE(CheckUrl("http://user@h/")->has_credentials);
}

TEST(UrlTest, LeavesOutAndRedactsParametersByTheirDecodedNames) {
  const auto form = [](std::string_view url, bool sort = false) {
    const absl::StatusOr<std::string> normal =
        NormalizeUrl(url, {.dropped = [](std::string_view name) { return name == "drop me"; },
                           .redacted = [](std::string_view name) { return name == "token"; },
                           .sort_query = sort});
    return normal.ok() ? *normal : "refused";
  };
  EXPECT_EQ(form("http://h/?a=1&token=secret&b"), "http://h/?a=1&token=REDACTED&b");
  EXPECT_EQ(form("http://h/?%74oken=secret"), "http://h/?token=REDACTED");
  EXPECT_EQ(form("http://h/?%74oken=secret&b=%zz"), "http://h/?%74oken=REDACTED&b=%zz");
  EXPECT_EQ(form("http://h/?token=a=b"), "http://h/?token=REDACTED");
  EXPECT_EQ(form("http://h/?token"), "http://h/?token");
  EXPECT_EQ(form("http://h/?drop+me=1"), "http://h/");
  EXPECT_EQ(form("http://h/?drop%20me=1&a"), "http://h/?a");
  EXPECT_EQ(form("http://h/?a&drop+me"), "http://h/?a");
  EXPECT_EQ(form("http://h/?b&a&drop+me=1&token=1", true), "http://h/?a&b&token=REDACTED");
}

TEST(UrlTest, SortsParametersAndKeepsTheOrderOfThoseOfOneName) {
  EXPECT_EQ(Normal("http://h/?b=1&a=2&b=0&%61=1", true), "http://h/?a=2&a=1&b=1&b=0");
  EXPECT_EQ(Normal("http://h/?b=1&a=2", true), Normal("http://h/?a=2&b=1", true));
}

// The tables of RFC 3986 section 5.4.
TEST(UrlTest, ResolvesReferencesAsTheStandardsTableHasIt) {
  constexpr std::string_view kBase = "http://a/b/c/d;p?q";
  const std::vector<std::pair<std::string, std::string>> table = {
      {"g", "http://a/b/c/g"},
      {"./g", "http://a/b/c/g"},
      {"g/", "http://a/b/c/g/"},
      {"/g", "http://a/g"},
      {"//g", "http://g/"},
      {"?y", "http://a/b/c/d;p?y"},
      {"g?y", "http://a/b/c/g?y"},
      {"#s", "http://a/b/c/d;p?q"},
      {"g#s", "http://a/b/c/g"},
      {"g?y#s", "http://a/b/c/g?y"},
      {";x", "http://a/b/c/;x"},
      {"g;x", "http://a/b/c/g;x"},
      {"g;x?y#s", "http://a/b/c/g;x?y"},
      {"", "http://a/b/c/d;p?q"},
      {".", "http://a/b/c/"},
      {"./", "http://a/b/c/"},
      {"..", "http://a/b/"},
      {"../", "http://a/b/"},
      {"../g", "http://a/b/g"},
      {"../..", "http://a/"},
      {"../../", "http://a/"},
      {"../../g", "http://a/g"},
      {"../../../g", "http://a/g"},
      {"../../../../g", "http://a/g"},
      {"/./g", "http://a/g"},
      {"/../g", "http://a/g"},
      {"g.", "http://a/b/c/g."},
      {".g", "http://a/b/c/.g"},
      {"g..", "http://a/b/c/g.."},
      {"..g", "http://a/b/c/..g"},
      {"./../g", "http://a/b/g"},
      {"./g/.", "http://a/b/c/g/"},
      {"g/./h", "http://a/b/c/g/h"},
      {"g/../h", "http://a/b/c/h"},
      {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
      {"g;x=1/../y", "http://a/b/c/y"},
      {"g?y/./x", "http://a/b/c/g?y/./x"},
      {"g?y/../x", "http://a/b/c/g?y/../x"},
      {"g#s/./x", "http://a/b/c/g"},
      {"https://B:443/x", "https://b/x"},
      {"//user:pw@g:81/x", "http://g:81/x"},
      {" /a b ", "http://a/a%20b"},
      {"x?y=http://z/", "http://a/b/c/x?y=http://z/"},
  };
  for (const auto& [reference, resolved] : table) {
    EXPECT_THAT(ResolveUrl(kBase, reference), IsOkAndHolds(resolved)) << reference;
  }
  for (const std::string_view reference :
       {"g:h", "http:g", "mailto:x", "ftp://g/", "//", "/\r\nx", "http://", "a\tb"}) {
    EXPECT_THAT(ResolveUrl(kBase, reference), StatusIs(absl::StatusCode::kInvalidArgument))
        << reference;
  }
}

TEST(UrlTest, KnowsOriginsBySchemeHostAndPort) {
  EXPECT_TRUE(SameOrigin("http://h/a", "HTTP://H:80/b?c"));
  EXPECT_TRUE(SameOrigin("https://h/a", "https://h:443/"));
  EXPECT_TRUE(SameOrigin("http://[::1]/", "http://[0::1]:80/"));
  EXPECT_TRUE(SameOrigin("http://u:p@h/", "http://h/"));
  EXPECT_FALSE(SameOrigin("http://h/", "https://h/"));
  EXPECT_FALSE(SameOrigin("http://h/", "http://h:81/"));
  EXPECT_FALSE(SameOrigin("http://h/", "http://h./"));
  EXPECT_FALSE(SameOrigin("http://h/", "http://g/"));
  EXPECT_FALSE(SameOrigin("nothing", "nothing"));
}

TEST(UrlTest, ShowsNoQueryNoFragmentAndNoCredentials) {
  EXPECT_EQ(UrlForMessages("http://user:canary@H:81/a/../b?canary#canary"), "http://h:81/b?...");
  EXPECT_EQ(UrlForMessages("https://h/#canary"), "https://h/");
  for (const std::string_view url : {"", "canary", "user:canary@h", "http://user:canary@h:x/",
                                     "http://canary h/?canary", "ftp://user:canary@h/"}) {
    EXPECT_EQ(UrlForMessages(url), "an unreadable URL");
  }
}

// What is plain is read by hand, and must mean what libcurl, which asks there, makes of it.
TEST(UrlTest, HostsAndPortsAreWhatLibcurlMakesOfThem) {
  std::mt19937 random(20261122);
  const std::vector<std::string> labels = {"a",   "Example", "com", "0",    "1",  "127",
                                           "255", "256",     "010", "0x7f", "7f", "-a",
                                           "a-1", "1a",      "x_y", ""};
  const std::vector<std::string> ports = {"",     ":80",   ":443",   ":8080",  ":1", ":65535",
                                          ":080", ":9999", ":10000", ":65536", ":",  ":a"};
  int read = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string authority = labels[random() % labels.size()];
    for (auto more = random() % 5; more > 0; --more) {
      authority += "." + labels[random() % labels.size()];
    }
    authority += ports[random() % ports.size()];
    const std::string url = (random() % 2 == 0 ? "http://" : "https://") + authority + "/";
    const absl::StatusOr<CheckedUrl> checked = CheckUrl(url);
    const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> handle(curl_url(), curl_url_cleanup);
    const CURLUcode code = curl_url_set(handle.get(), CURLUPART_URL, url.c_str(), 0);
    if (!checked.ok()) continue;
    ASSERT_EQ(code, CURLUE_OK) << url;
    char* text = nullptr;
    ASSERT_EQ(curl_url_get(handle.get(), CURLUPART_URL, &text, CURLU_NO_DEFAULT_PORT), CURLUE_OK);
    std::string expected(text);
    curl_free(text);
    std::transform(expected.begin(), expected.end(), expected.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    ASSERT_EQ(checked->url, expected) << url;
    ++read;
  }
  EXPECT_GT(read, 5'000);
}

}  // namespace
}  // namespace coord::http::internal
