#include "tools/fetch_words.h"

#include <fstream>
#include <string_view>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

absl::StatusOr<http::Expiry> ReadExpiry(const Text& text) {
  if (!text) return http::Expiry();
  if (*text == "never") return http::Expiry::Never();
  absl::StatusOr<absl::Duration> length = ParseDuration("--expire", *text);
  if (!length.ok()) return length.status();
  http::Expiry expiry = *length;
  if (absl::Status valid = expiry.Check(); !valid.ok()) {
    return internal::Annotate(valid, "--expire");
  }
  return expiry;
}

// False: it is no "Name: value".
bool AddHeaderLine(http::Headers& headers, std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
  headers.Add(std::string(line.substr(0, colon)), std::string(value));
  return true;
}

// Messages name the line and never show it: most such files are there for a secret.
absl::Status AddHeaderFile(http::Headers& headers, const std::string& path) {
  std::ifstream file(path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || AddHeaderLine(headers, line)) continue;
    return InvalidArgument(
        StrCat("-H: line ", number, " of the file ", Quoted(path), " is no 'Name: value'"));
  }
  if (!file.eof()) return InvalidArgument(StrCat("-H: cannot read the file ", Quoted(path)));
  return absl::OkStatus();
}

absl::StatusOr<http::Headers> ReadHeaders(const std::vector<std::string>& lines) {
  http::Headers headers;
  for (const std::string& line : lines) {
    if (line.starts_with('@')) {
      if (absl::Status added = AddHeaderFile(headers, line.substr(1)); !added.ok()) return added;
    } else if (!AddHeaderLine(headers, line)) {
      return InvalidArgument("-H takes 'Name: value', or @FILE with such lines");
    }
  }
  if (absl::Status valid = headers.Check(); !valid.ok()) return internal::Annotate(valid, "-H");
  return headers;
}

}  // namespace

absl::StatusOr<http::RequestOptions> ReadFetchRequest(const FetchWords& words) {
  http::RequestOptions request;
  Arguments given;
  request.timeout = given.Duration("--max-time", words.max_time);
  request.stale_if_error =
      given.Duration("--stale-if-error", words.stale_if_error, Arguments::Zero::kAllowed);
  if (!given.status().ok()) return given.status();
  if (request.timeout && *request.timeout > absl::Hours(24)) {
    return InvalidArgument(StrCat("--max-time is ", Quoted(*words.max_time), "; at most 24h"));
  }
  absl::StatusOr<http::Expiry> expire = ReadExpiry(words.expire);
  if (!expire.ok()) return expire.status();
  request.expire = *expire;
  absl::StatusOr<http::Headers> headers = ReadHeaders(words.headers);
  if (!headers.ok()) return headers.status();
  request.headers = *std::move(headers);
  if (words.data) request.body = *words.data;
  request.refresh = words.refresh;
  request.force_refresh = words.force_refresh;
  request.only_if_cached = words.only_if_cached;
  request.follow_redirects = !words.no_redirects;
  return request;
}

}  // namespace coord::tools
