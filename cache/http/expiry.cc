#include "cache/http/expiry.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <optional>
#include <regex>
#include <utility>

#include "cache/http/internal/lower_case.h"
#include "cache/internal/glob.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http {
namespace {

using coord::internal::GlobMatch;
using coord::internal::InvalidArgument;
using coord::internal::StrCat;

constexpr std::size_t kMaxExpression = 1024;
constexpr std::size_t kMaxUrlForRegex = 4096;
constexpr std::string_view kSchemeEnd = "://";

// The pieces of a glob are matched each with its own piece of the URL: a star in the host must not
// reach into the path, where anybody can write the name of another host.
struct Glob {
  std::string scheme;  // empty: http and https
  std::string host;    // with the port, if it has one
  std::string path;    // with the query
};

struct UrlPieces {
  std::string_view scheme;
  std::string_view host;
  std::string_view path;
  std::string_view after_scheme;
};

std::optional<UrlPieces> Split(std::string_view url) {
  const std::size_t scheme_end = url.find(kSchemeEnd);
  if (scheme_end == std::string_view::npos) return std::nullopt;
  UrlPieces pieces;
  pieces.scheme = url.substr(0, scheme_end);
  pieces.after_scheme = url.substr(scheme_end + kSchemeEnd.size());
  const std::size_t host_end =
      std::min(pieces.after_scheme.find_first_of("/?#"), pieces.after_scheme.size());
  pieces.host = pieces.after_scheme.substr(0, host_end);
  pieces.path = pieces.after_scheme.substr(host_end);
  return pieces;
}

Glob SplitGlob(std::string_view glob) {
  Glob pieces;
  const std::size_t scheme_end = glob.find(kSchemeEnd);
  // A "://" further behind is of a URL in a query.
  if (scheme_end != std::string_view::npos && glob.find('/') == scheme_end + 1) {
    pieces.scheme = internal::LowerCase(glob.substr(0, scheme_end));
    glob.remove_prefix(scheme_end + kSchemeEnd.size());
  }
  const std::size_t host_end = std::min(glob.find('/'), glob.size());
  pieces.host = internal::LowerCase(glob.substr(0, host_end));
  // The brackets of an IPv6 address, not of a class: no other host has a colon before a bracket.
  const std::size_t bracket = pieces.host.find(']');
  if (pieces.host.starts_with('[') && bracket != std::string::npos &&
      pieces.host.find(':') < bracket) {
    pieces.host.insert(bracket, "\\");
    pieces.host.insert(0, "\\");
  }
  pieces.path = glob.substr(host_end);
  if (pieces.path.empty()) pieces.path = "/";
  if (pieces.path.ends_with('/')) pieces.path.push_back('*');
  return pieces;
}

bool HostMatches(std::string_view glob, std::string_view host) {
  if (GlobMatch(glob, host)) return true;
  return glob.size() > 2 && glob.starts_with("*.") && GlobMatch(glob.substr(2), host);
}

bool GlobMatches(const Glob& glob, std::string_view url) {
  const std::optional<UrlPieces> pieces = Split(url);
  if (!pieces.has_value()) return false;
  const bool secure = pieces->scheme == "https";
  if (!secure && pieces->scheme != "http") return false;
  if (!glob.scheme.empty() && !GlobMatch(glob.scheme, pieces->scheme)) return false;
  // Where any host will do, the star may as well take up a part of the path.
  if (glob.host == "*") return GlobMatch(StrCat("*", glob.path), pieces->after_scheme);
  if (!GlobMatch(glob.path, pieces->path)) return false;
  // A normalised URL does not name its scheme's own port; a pattern may.
  return HostMatches(glob.host, pieces->host) ||
         HostMatches(glob.host, StrCat(pieces->host, secure ? ":443" : ":80"));
}

std::optional<std::regex> CompileRegex(const std::string& expression, std::string& why) {
  const auto compile =
      [&](std::regex_constants::syntax_option_type flags) -> std::optional<std::regex> {
    // Not only regex_error: the library's compiler allocates, and recurses.
    try {
      return std::regex(expression, flags);
    } catch (const std::exception& error) {
      why = error.what();
    } catch (...) {
      why = "it cannot be compiled";
    }
    return std::nullopt;
  };
#ifdef __GLIBCXX__
  // Its matcher for this is not exponential, and does not recurse by the text's length. It refuses
  // back-references.
  if (auto regex = compile(std::regex::ECMAScript | std::regex_constants::__polynomial)) {
    return regex;
  }
#endif
  return compile(std::regex::ECMAScript);
}

}  // namespace

Expiry::Expiry(absl::Duration length) {
  if (length == absl::ZeroDuration()) {
    kind_ = Kind::kImmediately;
  } else if (length == absl::InfiniteDuration()) {
    kind_ = Kind::kNever;
  } else {
    kind_ = Kind::kAfter;
    length_ = length;
  }
}

Expiry Expiry::At(absl::Time moment) {
  if (moment == absl::InfiniteFuture()) return Never();
  Expiry expiry(Kind::kAt);
  expiry.moment_ = moment;
  return expiry;
}

absl::Time Expiry::ExpiresAt(absl::Time received) const {
  switch (kind_) {
    case Kind::kAfter:
      return received + length_;
    case Kind::kAt:
      return moment_;
    case Kind::kNever:
      return absl::InfiniteFuture();
    case Kind::kUnset:
    case Kind::kImmediately:
    case Kind::kDoNotCache:
      break;
  }
  return received;
}

absl::Status Expiry::Check() const {
  if (kind_ != Kind::kAfter ||
      (length_ > absl::ZeroDuration() && length_ <= coord::internal::kMaxDataTtl)) {
    return absl::OkStatus();
  }
  return InvalidArgument(StrCat("expiry is ", coord::internal::ToText(length_),
                                "; it must not be negative, nor above ",
                                coord::internal::ToText(coord::internal::kMaxDataTtl)));
}

struct UrlPattern::Compiled {
  std::optional<Glob> glob;
  std::optional<std::regex> regex;
};

UrlPattern::UrlPattern(std::string_view glob) : text_(glob) {
  if (glob.empty()) {
    status_ = InvalidArgument("a URL pattern is empty; \"*\" is for all");
    return;
  }
  Glob pieces = SplitGlob(glob);
  if (!pieces.scheme.empty() && !GlobMatch(pieces.scheme, "http") &&
      !GlobMatch(pieces.scheme, "https")) {
    status_ = InvalidArgument(StrCat("URL pattern ", coord::internal::Quoted(glob),
                                     " is neither for http nor for https"));
    return;
  }
  if (pieces.host.empty()) {
    status_ =
        InvalidArgument(StrCat("URL pattern ", coord::internal::Quoted(glob), " has no host"));
    return;
  }
  compiled_ = std::make_shared<const Compiled>(Compiled{.glob = std::move(pieces), .regex = {}});
}

UrlPattern UrlPattern::Regex(std::string_view expression) {
  UrlPattern pattern;
  pattern.text_ = expression;
  if (expression.empty() || expression.size() > kMaxExpression) {
    pattern.status_ =
        InvalidArgument(StrCat("a regular expression for URLs has ", expression.size(),
                               " bytes; it must have 1 to ", kMaxExpression));
    return pattern;
  }
  std::string why;
  std::optional<std::regex> regex = CompileRegex(pattern.text_, why);
  if (!regex.has_value()) {
    pattern.status_ = InvalidArgument(
        StrCat(coord::internal::Quoted(expression), " is no regular expression: ", why));
    return pattern;
  }
  pattern.compiled_ =
      std::make_shared<const Compiled>(Compiled{.glob = {}, .regex = std::move(regex)});
  return pattern;
}

bool UrlPattern::Matches(std::string_view url) const {
  if (compiled_ == nullptr) return false;
  if (compiled_->glob.has_value()) return GlobMatches(*compiled_->glob, url);
  if (url.size() > kMaxUrlForRegex) return false;
  // The matcher may find the expression too complex, or have no memory.
  try {
    return std::regex_search(url.begin(), url.end(), *compiled_->regex);
  } catch (...) {
    return false;
  }
}

}  // namespace coord::http
