// Matchers for absl::Status and absl::StatusOr, for Abseil releases without them too.
//
//   EXPECT_OK(client.Ping());
//   ASSERT_OK_AND_ASSIGN(coord::Lease lease, mutex.Acquire(absl::Seconds(1)));
//   EXPECT_THAT(counter.Get(), IsOkAndHolds(3));
//   EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ttl")));
//
// Inside namespace coord, write ::testing:: for GoogleTest: plain testing:: means coord::testing.
#ifndef COORD_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define COORD_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord::testing {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  const absl::Status& status = StatusOf(arg);
  if (!status.ok()) *result_listener << "which is " << status.ToString();
  return status.ok();
}

MATCHER_P(IsOkAndHolds, value_matcher, "is OK and holds what is expected") {
  if (!arg.ok()) {
    *result_listener << "which is " << arg.status().ToString();
    return false;
  }
  return ::testing::ExplainMatchResult(value_matcher, *arg, result_listener);
}

MATCHER_P(StatusIs, code, "has the code " + absl::StatusCodeToString(code)) {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "which is " << status.ToString();
  return status.code() == code;
}

MATCHER_P2(StatusIs, code, message_matcher,
           "has the code " + absl::StatusCodeToString(code) + " and the message expected") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "which is " << status.ToString() << ", ";
  if (status.code() != code) return false;
  const std::string message(status.message().data(), status.message().size());
  return ::testing::ExplainMatchResult(message_matcher, message, result_listener);
}

}  // namespace coord::testing

#ifndef EXPECT_OK
#define EXPECT_OK(...) EXPECT_THAT((__VA_ARGS__), ::coord::testing::IsOk())
#endif
#ifndef ASSERT_OK
#define ASSERT_OK(...) ASSERT_THAT((__VA_ARGS__), ::coord::testing::IsOk())
#endif

#define COORD_TEST_CONCAT_INNER(a, b) a##b
#define COORD_TEST_CONCAT(a, b) COORD_TEST_CONCAT_INNER(a, b)

// `declaration` gets the value of the StatusOr, or the test function ends with a failure. Not an
// expression: it declares in the scope where it stands.
#ifndef ASSERT_OK_AND_ASSIGN
#define ASSERT_OK_AND_ASSIGN(declaration, ...)                                                \
  auto COORD_TEST_CONCAT(coord_result_, __LINE__) = (__VA_ARGS__);                            \
  ASSERT_THAT(COORD_TEST_CONCAT(coord_result_, __LINE__).status(), ::coord::testing::IsOk()); \
  declaration = *std::move(COORD_TEST_CONCAT(coord_result_, __LINE__))
#endif

#endif  // COORD_TESTS_SUPPORT_STATUS_MATCHERS_H_
