#include "cache/http/internal/curl_head.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace coord::http::internal {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view Trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool IsToken(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

std::string Clean(std::string_view value) {
  std::string clean(Trimmed(value));
  for (char& c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) c = ' ';
  }
  // A control character at an end was no blank when it was trimmed.
  return std::string(Trimmed(clean));
}

}  // namespace

bool CurlHead::AddLine(std::string_view line) {
  if (line.size() > max_bytes_ - bytes_) return false;
  const bool first = bytes_ == 0;
  bytes_ += line.size();
  if (complete_ || first) {  // a status line, which libcurl has judged
    complete_ = false;
    headers_ = Headers();
  } else if (line.starts_with(' ') || line.starts_with('\t')) {
    const std::string more = Clean(line);
    if (!value_.empty() && !more.empty()) value_ += ' ';
    value_ += more;
  } else {
    Flush();
    complete_ = Trimmed(line).empty();
    if (!complete_) Begin(line);
  }
  return true;
}

void CurlHead::Begin(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) return;
  name_ = line.substr(0, colon);
  value_ = Clean(line.substr(colon + 1));
}

void CurlHead::Flush() {
  if (!name_.empty()) headers_.Add(std::move(name_), std::move(value_));
  name_.clear();
  value_.clear();
}

bool CurlHead::lengths_conflict() const {
  std::optional<std::string_view> length;
  for (std::string_view line : headers_.All("Content-Length")) {
    // "5, 5" is what a field sent twice may become on its way.
    while (true) {
      const std::size_t comma = line.find(',');
      const std::string_view one = Trimmed(line.substr(0, comma));
      const bool number = !one.empty() && one.find_first_not_of("0123456789") == one.npos;
      if (!number || (length.has_value() && *length != one)) return true;
      length = one;
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
  }
  return length.has_value() && headers_.Has("Transfer-Encoding");
}

bool CurlHead::is_encoded() const {
  const std::optional<std::string> encoding = headers_.Get("Content-Encoding");
  return encoding.has_value() && !encoding->empty() && *encoding != "identity";
}

Headers CurlHead::decoded_headers() const {
  Headers headers = headers_;
  headers.Remove("Content-Encoding");
  headers.Remove("Content-Length");
  return headers;
}

}  // namespace coord::http::internal
