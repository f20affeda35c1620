// Memoized functions: their keys, times to live, nulls, and what an error of the cache does.
#include "cache/memoize.h"

#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/memory_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::testing::IsOkAndHolds;
using ::coord::testing::StatusIs;
using ::testing::Eq;
using ::testing::HasSubstr;

int Triple(int value) { return 3 * value; }

class MemoizeTest : public ::testing::Test {
 protected:
  static CacheOptions Exact() {
    CacheOptions options;
    options.ttl_jitter = 0;
    return options;
  }
  // Counts its runs.
  auto Count() {
    return [this](int) { return ++*runs_; };
  }

  Cache cache_{std::make_shared<MemoryBackend>(MemoryOptions{.max_entries = 100}), Exact()};
  std::shared_ptr<int> runs_ = std::make_shared<int>(0);
};

TEST_F(MemoizeTest, ACallRunsTheFunctionOnceForAnArgument) {
  const auto count = Memoize(cache_, Count(), {.key = "n:{0}"});
  EXPECT_THAT(count(7), IsOkAndHolds(1));
  EXPECT_THAT(count(7), IsOkAndHolds(1));
  EXPECT_THAT(count(8), IsOkAndHolds(2));
  EXPECT_EQ(**cache_.Get<int>("n:7"), 1);
  const auto triple = Memoize(cache_, Triple, MemoizeOptions<int>{.key = "triple:{0}"});
  EXPECT_THAT(triple(7), IsOkAndHolds(21));
}

TEST_F(MemoizeTest, ArgumentsStandInKeysAsText) {
  const auto join = Memoize(
      cache_,
      [](std::string_view text, std::int64_t number, bool flag, const std::vector<int>& list) {
        return std::string(text) + std::to_string(number) + (flag ? "y" : "n") +
               std::to_string(list.size());
      },
      {.key = "{0}/{1}/{2}/{3}"});
  EXPECT_THAT(join("a", -5, true, {1, 2}), IsOkAndHolds("a-5y2"));
  const std::string key = *join.KeyFor("a", -5, true, {1, 2});
  EXPECT_TRUE(key.starts_with("a/-5/true/")) << key;
  EXPECT_EQ(key.size(), 10u + 32u) << key;
  EXPECT_NE(key, *join.KeyFor("a", -5, true, {2, 1}));
  EXPECT_NE(*join.KeyFor("a/1", 2, true, {}), *join.KeyFor("a", 1, true, {}));
}

TEST_F(MemoizeTest, KeysAndTimesToLiveMayBeMadeOfTheArguments) {
  const auto count = Memoize(cache_, Count(),
                             {.key = [](int n) { return "mod:" + std::to_string(n % 10); },
                              .ttl = [](int n) { return Ttl(absl::Seconds(n)); }});
  EXPECT_THAT(count(17), IsOkAndHolds(1));
  EXPECT_THAT(count(27), IsOkAndHolds(1));
  EXPECT_LE(cache_.TtlOf("mod:7")->left(), absl::Seconds(17));
  EXPECT_THAT(count.KeyFor(3), IsOkAndHolds("mod:3"));
}

TEST_F(MemoizeTest, InvalidateAndRefreshAreForOneCallsArguments) {
  const auto count = Memoize(cache_, Count(), {.key = "n:{0}"});
  EXPECT_THAT(count(7), IsOkAndHolds(1));
  EXPECT_THAT(count(8), IsOkAndHolds(2));
  EXPECT_OK(count.Invalidate(7));
  EXPECT_THAT(count(7), IsOkAndHolds(3));
  EXPECT_THAT(count.Refresh(8), IsOkAndHolds(4));
  EXPECT_THAT(count(8), IsOkAndHolds(4));
  EXPECT_THAT(count(7), IsOkAndHolds(3));
}

TEST_F(MemoizeTest, ABypassSkipsTheReadAndStillWrites) {
  auto bypass = std::make_shared<bool>(true);
  const auto count =
      Memoize(cache_, Count(), {.key = "n:{0}", .bypass = [bypass](int) { return *bypass; }});
  EXPECT_THAT(count(7), IsOkAndHolds(1));
  EXPECT_THAT(count(7), IsOkAndHolds(2));
  *bypass = false;
  EXPECT_THAT(count(7), IsOkAndHolds(2));
}

TEST_F(MemoizeTest, AnAbsentResultIsCachedToo) {
  const auto find = Memoize(cache_,
                            [this](const std::string& name) -> absl::StatusOr<std::optional<int>> {
                              ++*runs_;
                              if (name == "nobody") return std::optional<int>();
                              return 5;
                            },
                            {.key = "who:{0}"});
  EXPECT_THAT(find("nobody"), IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_THAT(find("nobody"), IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_EQ(*runs_, 1);
  EXPECT_THAT(find("somebody"), IsOkAndHolds(5));
}

TEST_F(MemoizeTest, TagsInvalidateResults) {
  const auto count = Memoize(cache_, Count(), {.key = "n:{0}", .tags = {"numbers"}});
  EXPECT_THAT(count(7), IsOkAndHolds(1));
  EXPECT_OK(cache_.InvalidateTag("numbers"));
  EXPECT_THAT(count(7), IsOkAndHolds(2));
}

TEST_F(MemoizeTest, TheFunctionsErrorIsTheCallsAndItRunsOnceForIt) {
  const auto fails = Memoize(cache_,
                             [this](int) -> absl::StatusOr<int> {
                               ++*runs_;
                               return absl::NotFoundError("no row");
                             },
                             {.key = "f:{0}", .on_error = OnCacheError::kExecute});
  EXPECT_THAT(fails(1), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no row")));
  EXPECT_EQ(*runs_, 1);
  const auto throws =
      Memoize(cache_, [](int) -> int { throw std::runtime_error("no luck"); }, {.key = "t:{0}"});
  EXPECT_THAT(throws(1), StatusIs(absl::StatusCode::kInternal, HasSubstr("no luck")));
}

TEST_F(MemoizeTest, AnErrorOfTheCacheIsTheCallsOrPassedBy) {
  const auto raises = Memoize(cache_, Count(), {.key = "n:{0}"});
  const auto executes =
      Memoize(cache_, Count(), {.key = "n:{0}", .on_error = OnCacheError::kExecute});
  cache_.Close();
  EXPECT_THAT(raises(1), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(*runs_, 0);
  EXPECT_THAT(executes(1), IsOkAndHolds(1));
  EXPECT_THAT(executes(1), IsOkAndHolds(2));
}

TEST_F(MemoizeTest, ATemplateThatDoesNotFitAndCallablesThatThrowAreErrors) {
  EXPECT_THAT(Memoize(cache_, Count(), {})(1), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Memoize(cache_, Count(), {.key = "fixed"})(1),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Memoize(cache_, Count(), {.key = "{0}:{1}"})(1),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Memoize(cache_, Count(),
                      {.key = [](int) -> std::string { throw std::runtime_error("no key"); }})(1),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("no key")));
  EXPECT_EQ(*runs_, 0);
}

}  // namespace
}  // namespace coord
