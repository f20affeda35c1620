// Any text is a time to live or refused, and what is read is written so that it reads the same; any
// text is a key template or refused, and its expansions are as it says.
//
//   clang++ -fsanitize=fuzzer,address,undefined ... && ./ttl_fuzz -max_len=128
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "cache/key_builder.h"
#include "cache/ttl.h"
#include "coord/internal/limits.h"

namespace {

void Require(bool holds, std::string_view claim) {
  if (holds) return;
  std::fprintf(stderr, "violated: %.*s\n", static_cast<int>(claim.size()), claim.data());
  std::abort();
}

void CheckTtl(std::string_view text) {
  const absl::StatusOr<absl::Duration> ttl = coord::ParseTtl(text);
  if (!ttl.ok()) return;
  Require(*ttl > absl::ZeroDuration() && *ttl <= coord::internal::kMaxDataTtl, "within the bounds");
  const absl::StatusOr<absl::Duration> again = coord::ParseTtl(coord::FormatTtl(*ttl));
  Require(again.ok() && *again == *ttl, "what is written reads the same");
}

void CheckTemplate(std::string_view text) {
  const absl::StatusOr<coord::KeyTemplate> parsed = coord::KeyTemplate::Parse(text);
  if (!parsed.ok()) return;
  const std::size_t count = parsed->names().size();
  // Values that differ in one place only: the text itself is as hostile as any.
  const std::vector<std::string> values(count, std::string(text.substr(0, 16)));
  const absl::StatusOr<std::string> key = parsed->Expand(values);
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<std::string> other = values;
    other[i].push_back(':');
    const absl::StatusOr<std::string> changed = parsed->Expand(other);
    if (key.ok() && changed.ok()) Require(*key != *changed, "different values, different keys");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckTtl(text);
  CheckTemplate(text);
  return 0;
}
