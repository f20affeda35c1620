#include "cache/http/internal/secrets.h"

#include <string.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "cache/http/internal/escapes.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

std::string_view Trimmed(std::string_view text) {
  return coord::internal::FromAbsl(absl::StripAsciiWhitespace(coord::internal::ToAbsl(text)));
}

bool Contains(std::string_view text, std::string_view piece) {
  return memmem(text.data(), text.size(), piece.data(), piece.size()) != nullptr;
}

bool ContainsAny(std::string_view text, const std::vector<std::string>& pieces) {
  return std::any_of(pieces.begin(), pieces.end(), [text](const std::string& piece) {
    return !piece.empty() && Contains(text, piece);
  });
}

}  // namespace

void Secrets::Add(std::string_view value) {
  if (value.size() >= kLeast) values_.emplace_back(value);
}

void Secrets::AddEncoded(std::string_view value) {
  Add(value);
  Add(PercentDecoded(value, true));
  Add(PercentDecoded(value, false));
}

std::vector<std::string> Secrets::Take() {
  std::sort(values_.begin(), values_.end());
  values_.erase(std::unique(values_.begin(), values_.end()), values_.end());
  return std::move(values_);
}

void Secrets::AddCookies(std::string_view value) {
  while (!value.empty()) {
    const std::size_t end = std::min(value.find(';'), value.size());
    const std::string_view cookie = value.substr(0, end);
    value.remove_prefix(std::min(end + 1, value.size()));
    const std::size_t equals = cookie.find('=');
    std::string_view alone =
        Trimmed(equals == std::string_view::npos ? cookie : cookie.substr(equals + 1));
    if (alone.size() < kLeastCookie) continue;
    AddEncoded(alone);
    if (alone.size() >= 2 && alone.front() == '"' && alone.back() == '"') {
      AddEncoded(alone.substr(1, alone.size() - 2));
    }
  }
}

void Secrets::AddHeader(std::string_view name, std::string_view value) {
  value = Trimmed(value);
  Add(value);
  if (absl::EqualsIgnoreCase(coord::internal::ToAbsl(name), "cookie")) return AddCookies(value);
  // Credentials: a scheme, and what belongs to it (RFC 9110 section 11.4).
  const std::size_t blank = value.find(' ');
  if (blank == std::string_view::npos) return;
  const std::string_view token = Trimmed(value.substr(blank));
  Add(token);
  if (!absl::EqualsIgnoreCase(coord::internal::ToAbsl(value.substr(0, blank)), "basic")) return;
  std::string decoded;
  if (!absl::Base64Unescape(coord::internal::ToAbsl(token), &decoded)) return;
  Add(decoded);
  if (const std::size_t colon = decoded.find(':'); colon != std::string::npos) {
    Add(std::string_view(decoded).substr(colon + 1));
  }
}

// Without recursion, as the depth is the caller's.
void Secrets::AddJson(const nlohmann::json& value) {
  std::vector<const nlohmann::json*> open = {&value};
  while (!open.empty()) {
    const nlohmann::json& next = *open.back();
    open.pop_back();
    if (next.is_structured()) {
      for (const nlohmann::json& child : next) open.push_back(&child);
    } else if (const auto* text = next.get_ptr<const std::string*>(); text != nullptr) {
      Add(*text);
    }
  }
}

void Secrets::AddJsonNamed(const nlohmann::json& value,
                           absl::FunctionRef<bool(std::string_view)> wanted) {
  std::vector<const nlohmann::json*> open = {&value};
  while (!open.empty()) {
    const nlohmann::json& next = *open.back();
    open.pop_back();
    if (!next.is_structured()) continue;
    for (const auto& [name, child] : next.items()) {
      if (next.is_object() && wanted(name)) {
        AddJson(child);
      } else {
        open.push_back(&child);
      }
    }
  }
}

bool RepeatsSecret(std::string_view text, const std::vector<std::string>& secrets) {
  if (secrets.empty() || text.empty()) return false;
  if (ContainsAny(text, secrets)) return true;
  // There are many ways to escape, and one to read that.
  if (text.find('\\') != std::string_view::npos && ContainsAny(JsonUnescaped(text), secrets)) {
    return true;
  }
  const bool percent = text.find('%') != std::string_view::npos;
  const std::string decoded = percent ? PercentDecoded(text, false) : std::string();
  if (percent && ContainsAny(decoded, secrets)) return true;
  // As forms have blanks.
  std::vector<std::string> with_plus;
  for (const std::string& secret : secrets) {
    if (secret.find(' ') == std::string::npos) continue;
    std::string& form = with_plus.emplace_back(secret);
    std::replace(form.begin(), form.end(), ' ', '+');
  }
  return ContainsAny(percent ? std::string_view(decoded) : text, with_plus);
}

}  // namespace coord::http::internal
