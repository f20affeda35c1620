// Any text is parsed or refused, without a crash, and no password gets out of it.
//
//   clang++ -fsanitize=fuzzer,address,undefined ... && ./url_fuzz -max_len=512
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "coord/deployment/url.h"
#include "coord/internal/strings.h"

namespace {

using coord::internal::FromAbsl;
using coord::internal::ParseUrl;
using coord::internal::StrCat;
using coord::internal::Url;

void Require(bool holds, std::string_view claim, std::string_view url) {
  if (holds) return;
  std::fprintf(stderr, "violated: %.*s\nby: %.*s\n", static_cast<int>(claim.size()), claim.data(),
               static_cast<int>(url.size()), url.data());
  std::abort();
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

void CheckParsed(const Url& url, std::string_view text) {
  const std::string redacted = url.Redacted();
  // Other passwords, the same text: so it says nothing about them.
  Url other = url;
  if (!other.password.empty()) other.password = "x";
  if (!other.sentinel_password.empty()) other.sentinel_password = "y";
  Require(other.Redacted() == redacted, "Redacted() does not depend on passwords", text);
  const absl::StatusOr<Url> again = ParseUrl(redacted);
  Require(again.ok(), "what Redacted() writes can be parsed", redacted);
  Require(again->Redacted() == redacted, "what Redacted() writes is stable", redacted);
  Require(again->hosts == url.hosts && again->path == url.path && again->user == url.user &&
              again->sentinel_master == url.sentinel_master && again->db == url.db &&
              again->prefix == url.prefix && again->embedded_private == url.embedded_private,
          "what Redacted() writes means the same", redacted);
}

void CheckText(std::string_view text) {
  const absl::StatusOr<Url> url = ParseUrl(text);
  if (url.ok()) CheckParsed(*url, text);
}

// Words that no message of ours has, between ':' and '@', whole or broken by a character of the
// input.
void CheckCanary(std::string_view before, std::string_view breaker, std::string_view after) {
  constexpr std::string_view kWords[] = {"Zq7xKw", "Vj4pHm"};
  const std::string text = StrCat(before, ":", kWords[0], breaker, kWords[1], "@", after);
  const absl::StatusOr<Url> url = ParseUrl(text);
  if (url.ok()) CheckParsed(*url, text);
  for (const std::string_view word : kWords) {
    // The fuzzer can learn the words; then they may stand elsewhere too.
    if (Contains(before, word) || Contains(after, word) || Contains(breaker, word)) continue;
    if (!url.ok()) {
      Require(!Contains(FromAbsl(url.status().message()), word), "no password in an error", text);
    } else if (Contains(url->password, word) || Contains(url->sentinel_password, word)) {
      Require(!Contains(url->Redacted(), word), "no password in Redacted()", text);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckText(text);
  if (size < 2) return 0;
  // The first byte says where the canary goes, the second how many bytes break it.
  const std::string_view rest = text.substr(2);
  const std::size_t at = rest.empty() ? 0 : data[0] % (rest.size() + 1);
  const std::size_t broken = std::size_t{data[1]} % 4 < rest.size() - at ? data[1] % 4 : 0;
  CheckCanary(rest.substr(0, at), rest.substr(at, broken), rest.substr(at + broken));
  constexpr std::string_view kSchemes[] = {"redis://", "unix://", "rediss+sentinel://",
                                           "redis+cluster://", "embedded://"};
  for (const std::string_view scheme : kSchemes) {
    CheckText(StrCat(scheme, text));
    CheckCanary(StrCat(scheme, rest.substr(0, at)), rest.substr(at, broken),
                rest.substr(at + broken));
  }
  return 0;
}
