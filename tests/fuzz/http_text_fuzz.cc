// Any text is read as a field of HTTP or refused: no crash, no negative duration, and what is
// written from it reads the same.
//
//   clang++ -fsanitize=fuzzer,address,undefined ... && ./http_text_fuzz -max_len=4096
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/http/expiry.h"
#include "cache/http/internal/cache_control.h"
#include "cache/http/internal/http_date.h"
#include "cache/http/internal/storing.h"

namespace {

using coord::http::Headers;
using coord::http::internal::CacheControl;

void Require(bool holds, std::string_view claim) {
  if (holds) return;
  std::fprintf(stderr, "violated: %.*s\n", static_cast<int>(claim.size()), claim.data());
  std::abort();
}

void CheckControl(std::string_view text, bool request) {
  const CacheControl control = coord::http::internal::ParseCacheControl(
      Headers{{"Cache-Control", std::string(text)}}, request);
  for (const auto& number :
       {control.max_age, control.s_maxage, control.min_fresh, control.max_stale,
        control.stale_while_revalidate, control.stale_if_error}) {
    Require(!number.has_value() || *number >= absl::ZeroDuration(), "no negative duration");
  }
}

void CheckList(std::string_view text) {
  const std::vector<std::string> elements = coord::http::internal::SplitList(text);
  std::string joined;
  for (const std::string& element : elements) {
    Require(!element.empty(), "no empty element");
    if (!joined.empty()) joined.append(", ");
    joined.append(element);
  }
  Require(coord::http::internal::SplitList(joined) == elements, "a list joined splits the same");
}

void CheckDate(std::string_view text) {
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  const std::optional<absl::Time> moment = coord::http::internal::ParseHttpDate(text, now);
  if (!moment.has_value()) return;
  const std::string written = coord::http::internal::FormatHttpDate(*moment);
  const std::optional<absl::Time> again = coord::http::internal::ParseHttpDate(written, now);
  // The leap second at the end of 9999 is the only one that cannot be written.
  Require(again.has_value() && *moment - *again <= absl::Seconds(1) && *again <= *moment,
          "a date reads as it was written");
}

void CheckVary(std::string_view text) {
  const auto names =
      coord::http::internal::VaryNames(Headers{{"Vary", std::string(text)}, {"Vary", "x"}});
  if (!names.has_value()) return;
  Require(std::is_sorted(names->begin(), names->end()) &&
              std::adjacent_find(names->begin(), names->end()) == names->end(),
          "sorted, each once");
  Require(std::binary_search(names->begin(), names->end(), "x"), "all lines count");
}

void CheckPattern(std::string_view text) {
  const coord::http::UrlPattern pattern(text.substr(0, 256));
  const bool matches = pattern.Matches("https://example.com/a?b");
  Require(pattern.status().ok() || !matches, "what is no pattern matches nothing");
  Require(!pattern.Matches("ftp://example.com/"), "http and https alone");
  (void)pattern.Matches(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckControl(text, false);
  CheckControl(text, true);
  CheckList(text);
  CheckDate(text);
  CheckVary(text);
  CheckPattern(text);
  return 0;
}
