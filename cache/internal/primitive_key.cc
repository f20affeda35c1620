#include "cache/internal/primitive_key.h"

#include <algorithm>
#include <string_view>

namespace coord::internal {
namespace {

// What stands behind "}:". tests/cache/primitive_key_test.cc looks for a part that is forgotten.
constexpr std::string_view kParts[] = {
    // locks, elections and the quorum
    "birth", "fence", "hints", "lease", "observers", "queue", "readers", "term",
    // semaphores and concurrency limits
    "permits", "permits-fence", "permits-queue",
    // latches and barriers
    "barrier", "barrier-alive", "barrier-met", "barrier-order", "latch", "latch-counted",
    "latch-waiters",
    // data
    "count", "fenced", "followers", "ids", "json", "list", "seen", "seq", "times",
    // rate limits
    "bucket", "fixed", "gcra", "log", "sliding"};

// "op:<number>" and "op:<number>:older": the answers kept for operation ids.
bool IsAnswers(std::string_view part) {
  constexpr std::string_view kOp = "op:", kOlder = ":older";
  if (!part.starts_with(kOp)) return false;
  part.remove_prefix(kOp.size());
  if (part.ends_with(kOlder)) part.remove_suffix(kOlder.size());
  return !part.empty() &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

bool IsPrimitiveKey(std::string_view key) {
  // No part holds a brace; names may, as in "coord:{a}:b}:lease".
  const std::size_t close = key.rfind("}:");
  if (close == key.npos) return false;
  const std::size_t open = key.find('{');
  // Names are not empty.
  if (open == key.npos || open + 1 >= close) return false;
  const std::string_view part = key.substr(close + 2);
  return std::find(std::begin(kParts), std::end(kParts), part) != std::end(kParts) ||
         IsAnswers(part);
}

}  // namespace coord::internal
