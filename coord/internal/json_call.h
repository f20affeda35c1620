// Private: changes of JSON documents as lua/json_cas.lua and lua/json_change.lua take them, and
// their answers. Pure functions.
#ifndef COORD_INTERNAL_JSON_CALL_H_
#define COORD_INTERNAL_JSON_CALL_H_

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/json_document.h"
#include "coord/reply.h"

namespace coord::internal {

struct JsonTestView {
  std::string_view path;
  std::optional<std::string_view> expected;
  JsonTest::Operator op = JsonTest::Operator::kEquals;
};

struct JsonAssignmentView {
  std::string_view path;
  std::optional<std::string_view> value;
};

struct JsonCall {
  std::vector<std::string_view> args;
  // Whether json_cas knows all of it; it is quicker.
  bool simple = true;
  // What of `args` is nobody else's. Does not move what it holds.
  std::deque<std::string> owned;
};

// InvalidArgument for what no document could be asked. The views must outlive the result. With a
// ttl of InfiniteDuration the document is kept for ever.
absl::StatusOr<JsonCall> EncodeJsonCall(std::span<const std::span<const JsonTestView>> when,
                                        std::span<const JsonAssignmentView> assignments,
                                        std::optional<absl::Duration> ttl);

// "0" for ever, or whole milliseconds.
absl::StatusOr<std::string> EncodeJsonTtl(absl::Duration ttl);

absl::StatusOr<CasResult> DecodeJsonReply(Reply reply);

// The answer as the script keeps it under an operation id.
absl::StatusOr<CasResult> DecodeKeptJsonAnswer(std::string_view kept);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_JSON_CALL_H_
