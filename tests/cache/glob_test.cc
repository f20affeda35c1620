#include "cache/internal/glob.h"

#include <string>

#include "gtest/gtest.h"

namespace coord::internal {
namespace {

TEST(GlobTest, MeansWhatItMeansToRedis) {
  EXPECT_TRUE(GlobMatch("", ""));
  EXPECT_FALSE(GlobMatch("", "a"));
  EXPECT_TRUE(GlobMatch("*", ""));
  EXPECT_TRUE(GlobMatch("user:*", "user:"));
  EXPECT_TRUE(GlobMatch("user:*:name", "user:1:2:name"));
  EXPECT_FALSE(GlobMatch("user:*:name", "user:1:names"));
  EXPECT_TRUE(GlobMatch("h?llo", "hello"));
  EXPECT_FALSE(GlobMatch("h?llo", "hllo"));
  EXPECT_TRUE(GlobMatch("h[ae]llo", "hallo"));
  EXPECT_FALSE(GlobMatch("h[ae]llo", "hillo"));
  EXPECT_TRUE(GlobMatch("h[^e]llo", "hallo"));
  EXPECT_FALSE(GlobMatch("h[^e]llo", "hello"));
  EXPECT_TRUE(GlobMatch("h[a-c]llo", "hbllo"));
  EXPECT_TRUE(GlobMatch("h[c-a]llo", "hbllo"));
  EXPECT_TRUE(GlobMatch("\\*", "*"));
  EXPECT_FALSE(GlobMatch("\\*", "a"));
  EXPECT_TRUE(GlobMatch("[\\]]", "]"));
  EXPECT_TRUE(GlobMatch("[abc", "b"));
  EXPECT_TRUE(GlobMatch(std::string("a\0*", 3), std::string("a\0b", 3)));
}

TEST(GlobTest, ManyStarsTakeNoLongTime) {
  std::string pattern;
  for (int i = 0; i < 500; ++i) pattern += "a*";
  EXPECT_FALSE(GlobMatch(pattern + "b", std::string(4000, 'a')));
}

TEST(GlobTest, APatternOfPlaceholdersAloneNamesNoText) {
  for (const char* pattern : {"", "*", "**", "?*", "*?", "*?*", "??*"}) {
    EXPECT_TRUE(NamesNoText(pattern)) << pattern;
  }
  for (const char* pattern : {"?", "??", "a", "*a", "a*", "[*]", "\\*", "*:*"}) {
    EXPECT_FALSE(NamesNoText(pattern)) << pattern;
  }
}

TEST(GlobTest, ThePrefixIsWhatIsLiteral) {
  EXPECT_EQ(GlobPrefix("user:*"), "user:");
  EXPECT_EQ(GlobPrefix("a\\*b?"), "a*b");
  EXPECT_EQ(GlobPrefix("plain"), "plain");
  EXPECT_EQ(GlobPrefix("*"), "");
}

}  // namespace
}  // namespace coord::internal
