#include "cache/http/headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace coord::http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(HeadersTest, NamesAreComparedWithoutCaseAndKeptAsWritten) {
  const Headers headers = {{"Content-Type", "text/plain"}};
  EXPECT_TRUE(headers.Has("CONTENT-type"));
  EXPECT_FALSE(headers.Has("Content-Typ"));
  EXPECT_EQ(headers.begin()->first, "Content-Type");
  EXPECT_TRUE(SameFieldName("ETag", "etag"));
  EXPECT_FALSE(SameFieldName("ETag", "etags"));
}

TEST(HeadersTest, SeveralLinesAreOneListInTheirOrder) {
  Headers headers = {{"Vary", "a"}, {"X", "1"}, {"vary", "b"}};
  EXPECT_EQ(headers.Get("VARY"), "a, b");
  EXPECT_EQ(headers.Get("X"), "1");
  EXPECT_EQ(headers.Get("Y"), std::nullopt);
  EXPECT_THAT(headers.All("vary"), ElementsAre("a", "b"));
}

TEST(HeadersTest, AnEmptyValueIsThere) {
  EXPECT_EQ((Headers{{"A", ""}, {"A", "x"}}).Get("a"), ", x");
  EXPECT_EQ((Headers{{"A", ""}}).Get("a"), "");
}

TEST(HeadersTest, SetTakesThePlaceOfAllOfThatName) {
  Headers headers = {{"A", "1"}, {"B", "2"}, {"a", "3"}};
  headers.Set("A", "4");
  EXPECT_EQ(headers, (Headers{{"B", "2"}, {"A", "4"}}));
  // Of a field of its own.
  headers.Set(headers.begin()->first, "5");
  EXPECT_EQ(headers, (Headers{{"A", "4"}, {"B", "5"}}));
}

TEST(HeadersTest, RemoveSaysHowManyThereWere) {
  Headers headers = {{"A", "1"}, {"B", "2"}, {"a", "3"}};
  EXPECT_EQ(headers.Remove("a"), 2u);
  EXPECT_EQ(headers.Remove("a"), 0u);
  EXPECT_EQ(headers.size(), 1u);
}

TEST(HeadersTest, ANameThatIsNoTokenIsRefused) {
  for (const char* name : {"", "a b", "a:", "a\r\nb", "\xc3\xa4", "a(", "a,"}) {
    EXPECT_EQ((Headers{{name, "x"}}).Check().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_TRUE((Headers{{"!#$%&'*+-.^_`|~09azAZ", ""}}).Check().ok());
}

TEST(HeadersTest, AValueWithAControlCharacterIsRefusedAndNotShown) {
  for (const std::string& value : {std::string("secret\r\nX: y"), std::string("secret\n"),
                                   std::string("secret\0", 7), std::string("secret\x7f")}) {
    const absl::Status status = Headers({{"Name", value}}).Check();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("Name"));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
  }
  EXPECT_TRUE((Headers{{"Name", "tab\tand \xc3\xa4"}}).Check().ok());
}

}  // namespace
}  // namespace coord::http
