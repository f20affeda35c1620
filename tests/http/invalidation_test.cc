#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cache/http/internal/storing.h"

namespace coord::http::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kUrl[] = "https://example.com/a/b";

TEST(InvalidationTest, ASuccessfulUnsafeMethodInvalidatesWhatItNames) {  // section 4.4
  EXPECT_THAT(InvalidatedUrls("POST", kUrl, 200, {}), ElementsAre(kUrl));
  EXPECT_THAT(InvalidatedUrls("PATCH", kUrl, 303,
                              {{"Location", "c"}, {"Content-Location", "https://example.com/d"}}),
              ElementsAre(kUrl, "https://example.com/a/c", "https://example.com/d"));
  EXPECT_THAT(InvalidatedUrls("X-OWN", kUrl, 399, {{"Location", "b"}}), ElementsAre(kUrl));
}

TEST(InvalidationTest, OtherOriginsStayAsTheyAre) {  // section 4.4
  EXPECT_THAT(InvalidatedUrls("PUT", kUrl, 201,
                              {{"Location", "https://other.com/"},
                               {"Content-Location", "http://example.com/a"}}),
              ElementsAre(kUrl));
}

TEST(InvalidationTest, ErrorsAndSafeMethodsInvalidateNothing) {  // section 4.4
  EXPECT_THAT(InvalidatedUrls("DELETE", kUrl, 404, {}), IsEmpty());
  EXPECT_THAT(InvalidatedUrls("DELETE", kUrl, 500, {}), IsEmpty());
  EXPECT_THAT(InvalidatedUrls("DELETE", kUrl, 199, {}), IsEmpty());
  EXPECT_THAT(InvalidatedUrls("GET", kUrl, 200, {{"Location", "c"}}), IsEmpty());
}

}  // namespace
}  // namespace coord::http::internal
