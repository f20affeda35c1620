#include "cache/http/headers.h"

#include <algorithm>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http {
namespace {

// By ASCII alone: the locale of the process must not change what a field is.
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool IsTokenCharacter(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenCharacter);
}

bool IsControl(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t') || byte == 0x7f;
}

}  // namespace

bool SameFieldName(std::string_view one, std::string_view other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](char a, char b) { return Lower(a) == Lower(b); });
}

bool Headers::Has(std::string_view name) const {
  return std::any_of(fields_.begin(), fields_.end(),
                     [&](const Field& field) { return SameFieldName(field.first, name); });
}

std::optional<std::string> Headers::Get(std::string_view name) const {
  std::optional<std::string> joined;
  for (const std::string_view value : All(name)) {
    if (joined.has_value()) {
      joined->append(", ").append(value);
    } else {
      joined.emplace(value);
    }
  }
  return joined;
}

std::vector<std::string_view> Headers::All(std::string_view name) const {
  std::vector<std::string_view> values;
  for (const auto& [field, value] : fields_) {
    if (SameFieldName(field, name)) values.emplace_back(value);
  }
  return values;
}

void Headers::Add(std::string name, std::string value) {
  fields_.emplace_back(std::move(name), std::move(value));
}

void Headers::Set(std::string_view name, std::string value) {
  // A copy: `name` may be of a field that goes.
  std::string kept(name);
  Remove(kept);
  Add(std::move(kept), std::move(value));
}

std::size_t Headers::Remove(std::string_view name) {
  // A copy: `name` may be of a field that moves.
  const std::string removed(name);
  return std::erase_if(fields_,
                       [&](const Field& field) { return SameFieldName(field.first, removed); });
}

absl::Status Headers::Check() const {
  for (const auto& [name, value] : fields_) {
    if (!IsToken(name)) {
      return coord::internal::InvalidArgument(coord::internal::StrCat(
          "header field name ", coord::internal::Quoted(name), " is no token"));
    }
    if (std::any_of(value.begin(), value.end(), IsControl)) {
      return coord::internal::InvalidArgument(coord::internal::StrCat(
          "the value of header field ", coord::internal::Quoted(name), " has a control character"));
    }
  }
  return absl::OkStatus();
}

}  // namespace coord::http
