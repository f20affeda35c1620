#include "cache/http/internal/cache_control.h"
#include "cache/http/internal/lower_case.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace coord::http::internal {
namespace {

constexpr std::int64_t kMaxSeconds = std::int64_t{1} << 31;

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

// The text of a quoted string; of a token, itself. nullopt: quotes that do not end, or not at the
// end.
std::optional<std::string> Unquoted(std::string_view text) {
  if (text.empty() || text.front() != '"') return std::string(text);
  std::string plain;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      if (i + 1 != text.size()) return std::nullopt;
      return plain;
    }
    if (text[i] == '\\' && ++i == text.size()) return std::nullopt;
    plain.push_back(text[i]);
  }
  return std::nullopt;
}

bool IsFieldName(std::string_view text) { return Headers({{std::string(text), ""}}).Check().ok(); }

// The directive's argument; nullopt: it has none, or none that can be read.
using Argument = std::optional<std::string>;

// The first counts, also where it is the wrong one.
void TakeNumber(const Argument& argument, absl::Duration otherwise,
                std::optional<absl::Duration>& number) {
  if (number.has_value()) return;
  number = otherwise;
  if (!argument.has_value()) return;
  if (const auto seconds = ParseDeltaSeconds(*argument)) number = *seconds;
}

// Names restrict the directive to them; where they cannot be read it is for everything.
void TakeNames(const Argument& argument, bool& flag, std::vector<std::string>& fields) {
  std::vector<std::string> names;
  if (argument.has_value()) names = SplitList(*argument);
  if (names.empty() || !std::all_of(names.begin(), names.end(), IsFieldName)) {
    flag = true;
    return;
  }
  for (const std::string& name : names) fields.push_back(LowerCase(name));
}

void Take(std::string_view directive, bool request, CacheControl& control) {
  const std::size_t equals = directive.find('=');
  const std::string name = LowerCase(Trimmed(directive.substr(0, equals)));
  const bool has_argument = equals != std::string_view::npos;
  const Argument argument = has_argument ? Unquoted(directive.substr(equals + 1)) : Argument();
  const auto number = [&](std::optional<absl::Duration>& field, absl::Duration otherwise) {
    TakeNumber(argument, otherwise, field);
  };
  if (name == "max-age") return number(control.max_age, absl::ZeroDuration());
  if (name == "s-maxage") return number(control.s_maxage, absl::ZeroDuration());
  if (name == "min-fresh") return number(control.min_fresh, absl::InfiniteDuration());
  if (name == "max-stale") {
    return number(control.max_stale,
                  has_argument ? absl::ZeroDuration() : absl::InfiniteDuration());
  }
  if (name == "stale-while-revalidate") {
    return number(control.stale_while_revalidate, absl::ZeroDuration());
  }
  if (name == "stale-if-error") return number(control.stale_if_error, absl::ZeroDuration());
  if (name == "no-cache") {
    // A request's has no argument (section 5.2.1.4).
    return TakeNames(request ? Argument() : argument, control.no_cache, control.no_cache_fields);
  }
  if (name == "private") return TakeNames(argument, control.is_private, control.private_fields);

  // Those without an argument: one that is there means nothing (RFC 8246 section 2 says so of its
  // own).
  const std::pair<std::string_view, bool*> flags[] = {
      {"no-store", &control.no_store},
      {"no-transform", &control.no_transform},
      {"only-if-cached", &control.only_if_cached},
      {"must-revalidate", &control.must_revalidate},
      {"proxy-revalidate", &control.proxy_revalidate},
      {"must-understand", &control.must_understand},
      {"public", &control.is_public},
      {"immutable", &control.immutable}};
  for (const auto& [known, flag] : flags) {
    if (name == known) *flag = true;
  }
}

}  // namespace

CacheControl ParseCacheControl(const Headers& headers, bool request) {
  CacheControl control;
  const std::vector<std::string_view> lines = headers.All("Cache-Control");
  // Line by line: quotes that one leaves open must not hide the next.
  for (const std::string_view line : lines) {
    for (const std::string& directive : SplitList(line)) Take(directive, request, control);
  }
  if (!request || !lines.empty()) return control;
  for (const std::string_view line : headers.All("Pragma")) {
    for (const std::string& directive : SplitList(line)) {
      if (LowerCase(directive) == "no-cache") control.no_cache = true;
    }
  }
  return control;
}

std::vector<std::string> SplitList(std::string_view value) {
  std::vector<std::string> elements;
  std::size_t start = 0;
  bool quoted = false;
  const auto take = [&](std::size_t end) {
    const std::string_view element = Trimmed(value.substr(start, end - start));
    if (!element.empty()) elements.emplace_back(element);
    start = end + 1;
  };
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (quoted && value[i] == '\\') {
      ++i;
    } else if (value[i] == '"') {
      quoted = !quoted;
    } else if (value[i] == ',' && !quoted) {
      take(i);
    }
  }
  if (start < value.size()) take(value.size());
  return elements;
}

std::optional<absl::Duration> ParseDeltaSeconds(std::string_view text) {
  if (text.empty()) return std::nullopt;
  std::int64_t seconds = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    seconds = std::min(kMaxSeconds, seconds * 10 + (c - '0'));
  }
  return absl::Seconds(seconds);
}

}  // namespace coord::http::internal
