#include "cache/http/expiry.h"

#include <gtest/gtest.h>

#include <string>

namespace coord::http {
namespace {

const absl::Time kReceived = absl::FromUnixSeconds(1'000'000);

TEST(ExpiryTest, ExpiresWhenItSays) {
  EXPECT_EQ(Expiry(absl::Hours(1)).ExpiresAt(kReceived), kReceived + absl::Hours(1));
  EXPECT_EQ(Expiry::At(absl::FromUnixSeconds(5)).ExpiresAt(kReceived), absl::FromUnixSeconds(5));
  EXPECT_EQ(Expiry::Immediately().ExpiresAt(kReceived), kReceived);
  EXPECT_EQ(Expiry::Never().ExpiresAt(kReceived), absl::InfiniteFuture());
}

TEST(ExpiryTest, ZeroIsImmediatelyAndInfiniteIsNever) {
  EXPECT_EQ(Expiry(absl::ZeroDuration()), Expiry::Immediately());
  EXPECT_EQ(Expiry(absl::InfiniteDuration()), Expiry::Never());
  EXPECT_EQ(Expiry::At(absl::InfiniteFuture()), Expiry::Never());
  EXPECT_FALSE(Expiry().set());
  EXPECT_TRUE(Expiry::DoNotCache().set());
}

TEST(ExpiryTest, NegativeAndAboveTenYearsAreRefused) {
  constexpr absl::Duration kMost = absl::Hours(24 * 366 * 10);
  for (const Expiry& good :
       {Expiry(), Expiry(absl::Nanoseconds(1)), Expiry(kMost), Expiry::Never(),
        Expiry::Immediately(), Expiry::DoNotCache(), Expiry::At(absl::InfinitePast())}) {
    EXPECT_TRUE(good.Check().ok());
  }
  for (const absl::Duration bad :
       {-absl::Seconds(1), -absl::InfiniteDuration(), kMost + absl::Seconds(1)}) {
    EXPECT_EQ(Expiry(bad).Check().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(UrlPatternTest, AGlobMatchesHostAndPathEachForItself) {
  struct Case {
    const char* glob;
    const char* url;
    bool matches;
  };
  for (const Case& c : {
           Case{"example.com", "http://example.com/", true},
           Case{"example.com", "https://example.com/a/b?c", true},
           Case{"example.com", "http://evil.com/example.com", false},
           Case{"example.com", "http://example.com.evil.com/", false},
           Case{"example.com", "http://notexample.com/", false},
           Case{"example.com", "http://www.example.com/", false},
           Case{"example.com", "http://evil.com/?http://example.com/", false},
           Case{"example.com", "ftp://example.com/", false},
           Case{"example.com", "http://example.com:8080/", false},
           Case{"example.com:8080", "http://example.com:8080/x", true},
           Case{"example.com:80", "http://example.com/", true},
           Case{"example.com:80", "https://example.com/", false},
           Case{"example.com:443", "https://example.com/", true},
           Case{"EXAMPLE.com/A", "http://example.com/A", true},
           Case{"example.com/A", "http://example.com/a", false},
           Case{"example.com/a", "http://example.com/a/b", false},
           Case{"example.com/a/", "http://example.com/a/b", true},
           Case{"example.com/a/", "http://example.com/a", false},
           Case{"example.com/a*", "http://example.com/a/b?c", true},
           Case{"*.example.com", "http://example.com/", true},
           Case{"*.example.com", "http://a.b.example.com/x", true},
           Case{"*.example.com", "http://badexample.com/", false},
           Case{"*.example.com", "http://evil.com/x.example.com", false},
           Case{"*.example.com/s/*", "http://evil.com/x.example.com/s/y", false},
           Case{"*.example.com/s/*", "https://example.com/s/y", true},
           Case{"https://example.com", "http://example.com/", false},
           Case{"https://example.com", "https://example.com/x", true},
           Case{"HTTP*://example.com", "https://example.com/x", true},
           Case{"*", "https://example.com/x?y", true},
           Case{"*/api/*", "https://example.com/v1/api/x", true},
           Case{"*/api/*", "https://example.com/v1/apix", false},
           Case{"example.com/?[0-9]", "http://example.com/a7", true},
           Case{"example.com/?[0-9]", "http://example.com/aa", false},
           Case{"example.com/r?u=http://x/", "http://example.com/r?u=http://x/y", true},
           Case{"[::1]:8080", "http://[::1]:8080/x", true},
           Case{"[ab].com", "http://b.com/", true},
           Case{"example.com", "example.com", false},
           Case{"example.com", "", false},
       }) {
    const UrlPattern pattern(c.glob);
    EXPECT_TRUE(pattern.status().ok()) << c.glob;
    EXPECT_EQ(pattern.Matches(c.url), c.matches) << c.glob << " " << c.url;
    EXPECT_EQ(pattern.text(), c.glob);
  }
}

TEST(UrlPatternTest, AGlobThatCanMatchNothingIsRefused) {
  for (const char* bad : {"", "ftp://example.com", "/path", "http:///path"}) {
    EXPECT_EQ(UrlPattern(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_FALSE(UrlPattern(bad).Matches("http://example.com/path")) << bad;
  }
}

TEST(UrlPatternTest, AnExpressionIsFoundAnywhere) {
  const UrlPattern pattern = UrlPattern::Regex("/v[0-9]+/");
  ASSERT_TRUE(pattern.status().ok());
  EXPECT_TRUE(pattern.Matches("https://example.com/v12/x"));
  EXPECT_FALSE(pattern.Matches("https://example.com/v/x"));
  EXPECT_EQ(pattern.text(), "/v[0-9]+/");
  // Back-references, which the faster matcher does not have.
  EXPECT_TRUE(UrlPattern::Regex("(a+)/\\1").Matches("http://x/aa/aa"));
}

TEST(UrlPatternTest, AnExpressionThatIsNoneOrTooLongIsRefused) {
  for (const std::string& bad : {std::string("("), std::string("[z-a]"), std::string("*"),
                                 std::string(), std::string(1025, 'a')}) {
    const UrlPattern pattern = UrlPattern::Regex(bad);
    EXPECT_EQ(pattern.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_FALSE(pattern.Matches("a"));
  }
  EXPECT_TRUE(UrlPattern::Regex(std::string(1024, 'a')).status().ok());
}

TEST(UrlPatternTest, AUrlThatIsTooLongMatchesNoExpression) {
  const UrlPattern pattern = UrlPattern::Regex("^a+$");
  EXPECT_TRUE(pattern.Matches(std::string(4096, 'a')));
  EXPECT_FALSE(pattern.Matches(std::string(4097, 'a')));
}

}  // namespace
}  // namespace coord::http
