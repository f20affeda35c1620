// How long responses are fresh where the caller, not the origin, says so.
//
//   session.Get(url, {.expire = absl::Hours(1)});
//   coord::http::SessionOptions options{
//       .urls_expire_after = {{"*.example.com/static/*", coord::http::Expiry::Never()},
//                             {"example.com/live", coord::http::Expiry::DoNotCache()}}};
#ifndef COORD_CACHE_HTTP_EXPIRY_H_
#define COORD_CACHE_HTTP_EXPIRY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord::http {

// A plain value. What breaks the rules (negative, above ten years) is refused where it is used, as
// kInvalidArgument, before anything is sent.
class Expiry {
 public:
  enum class Kind {
    kUnset,        // somebody else says
    kAfter,        // from when the response came
    kAt,           // by the calendar
    kImmediately,  // stored, and asked about each time: for revalidation and stale-if-error
    kNever,
    kDoNotCache,  // neither looked for nor stored
  };

  Expiry() = default;
  // NOLINTNEXTLINE: a duration is the common case. Zero is Immediately(), InfiniteDuration Never().
  Expiry(absl::Duration length);
  static Expiry After(absl::Duration length) { return Expiry(length); }
  static Expiry At(absl::Time moment);
  static Expiry Immediately() { return Expiry(Kind::kImmediately); }
  static Expiry Never() { return Expiry(Kind::kNever); }
  static Expiry DoNotCache() { return Expiry(Kind::kDoNotCache); }

  Kind kind() const { return kind_; }
  bool set() const { return kind_ != Kind::kUnset; }
  // When a response that came at `received` expires by this; InfiniteFuture for kNever, `received`
  // for kImmediately. REQUIRES: kAfter, kAt, kImmediately or kNever.
  absl::Time ExpiresAt(absl::Time received) const;
  // OK, or why it cannot be used.
  absl::Status Check() const;

  friend bool operator==(const Expiry&, const Expiry&) = default;

 private:
  explicit Expiry(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kUnset;
  absl::Duration length_ = absl::ZeroDuration();
  absl::Time moment_ = absl::InfinitePast();
};

// Which URLs something is for. A plain value, cheap to copy.
class UrlPattern {
 public:
  // A glob: `*` any text, `?` one character, `[a-z]`; see cache/internal/glob.h. One without a
  // scheme is for http and https; one whose host part begins with `*.` is for the domain itself,
  // too; one without a path, or ending in `/`, is for everything below: "example.com" is as
  // "http{,s}://example.com/*". Compared with the normalised URL, secrets redacted.
  // NOLINTNEXTLINE: patterns are written as literals.
  UrlPattern(std::string_view glob);
  UrlPattern(const char* glob) : UrlPattern(std::string_view(glob)) {}  // NOLINT
  // An ECMAScript regular expression, found anywhere in the URL. At most 1,024 bytes, and URLs
  // above 4,096 bytes do not match one: the standard library's matcher recurses.
  static UrlPattern Regex(std::string_view expression);

  // OK, or why it is none: kInvalidArgument.
  const absl::Status& status() const { return status_; }
  // `url` normalised. False where status() is not OK.
  bool Matches(std::string_view url) const;
  // As it was given.
  const std::string& text() const { return text_; }

 private:
  UrlPattern() = default;
  struct Compiled;

  std::string text_;
  absl::Status status_;
  std::shared_ptr<const Compiled> compiled_;
};

struct UrlExpiry {
  UrlPattern urls;
  Expiry expire;
};

// Where the origin's own word (Cache-Control, Expires) stands among those who may say how long a
// response is fresh.
enum class HeaderRank {
  // The call's `expire`, the first URL pattern that matches, the origin, the session's
  // `expire_after`, the heuristic: who names a request or a URL knows more than the origin, who
  // speaks of everything knows less.
  kBelowPatterns,
  // The origin, the call, the URL pattern, the session, the heuristic.
  kFirst,
  // The call, the URL pattern, the session, and nobody else: not even no-store is heeded. Without
  // any of them a response never expires.
  kIgnored,
};

}  // namespace coord::http

#endif  // COORD_CACHE_HTTP_EXPIRY_H_
