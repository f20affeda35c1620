#include "cache/key_builder.h"

#include <openssl/evp.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <exception>
#include <nlohmann/json.hpp>

#include "cache/backend.h"
#include "coord/internal/json_text.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::StrCat;
using Json = nlohmann::json;

constexpr std::size_t kMaxNamespace = 128;
constexpr std::size_t kHashBytes = 16;

void AppendHex(std::string& out, unsigned char byte, std::string_view digits) {
  out.push_back(digits[byte >> 4]);
  out.push_back(digits[byte & 15]);
}

absl::Status AppendString(std::string& out, std::string_view text) {
  out.push_back('"');
  while (!text.empty()) {
    const std::size_t length = internal::Utf8Length(text);
    if (length == 0) return InvalidArgument("arguments of a key: a text is not UTF-8");
    const char c = text.front();
    switch (c) {
      case '"':
      case '\\':
        out.push_back('\\');
        out.push_back(c);
        break;
      case '\b':
        out += "\\b";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          AppendHex(out, static_cast<unsigned char>(c), "0123456789abcdef");
        } else {
          out += text.substr(0, length);
        }
    }
    text.remove_prefix(length);
  }
  out.push_back('"');
  return absl::OkStatus();
}

// A double that is no whole number of 64 bits, as ECMAScript's Number::toString has it.
void AppendShortest(std::string& out, double number) {
  char buffer[40];
  const char* const end = std::to_chars(buffer, buffer + sizeof(buffer), std::abs(number),
                                        std::chars_format::scientific)
                              .ptr;
  // "d.ddde+XX"
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  std::string digits(1, text.front());
  if (e > 2) digits += text.substr(2, e - 2);
  int exponent = 0;
  const std::size_t sign = text[e + 1] == '+' ? e + 2 : e + 1;  // from_chars takes no '+'
  std::from_chars(buffer + sign, end, exponent);
  const int count = static_cast<int>(digits.size());
  const int point = exponent + 1;  // where it stands, counted in digits

  if (number < 0) out.push_back('-');
  if (count <= point && point <= 21) {
    out += digits;
    out.append(static_cast<std::size_t>(point - count), '0');
  } else if (0 < point && point <= 21) {
    out += digits.substr(0, static_cast<std::size_t>(point));
    out.push_back('.');
    out += digits.substr(static_cast<std::size_t>(point));
  } else if (-6 < point && point <= 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-point), '0');
    out += digits;
  } else {
    out.push_back(digits.front());
    if (count > 1) {
      out.push_back('.');
      out += digits.substr(1);
    }
    out += exponent < 0 ? "e" : "e+";
    internal::AppendPiece(out, exponent);
  }
}

absl::Status AppendDouble(std::string& out, double number) {
  if (!std::isfinite(number)) {
    return InvalidArgument("arguments of a key: a number is not finite");
  }
  constexpr double kTwoTo63 = 9223372036854775808.0;
  if (number == std::trunc(number) && number >= -kTwoTo63 && number < 2 * kTwoTo63) {
    // -0 is 0.
    if (number < 0) {
      internal::AppendPiece(out, static_cast<std::int64_t>(number));
    } else {
      internal::AppendPiece(out, static_cast<std::uint64_t>(number));
    }
  } else {
    AppendShortest(out, number);
  }
  return absl::OkStatus();
}

// Recurses no deeper than is allowed.
absl::Status AppendCanonical(std::string& out, const Json& json, std::size_t depth) {
  if (json.is_structured() && depth >= internal::kJsonMaxDepth) {
    return InvalidArgument(
        StrCat("arguments of a key: more than ", internal::kJsonMaxDepth, " deep"));
  }
  switch (json.type()) {
    case Json::value_t::null:
      out += "null";
      return absl::OkStatus();
    case Json::value_t::boolean:
      out += json.get<bool>() ? "true" : "false";
      return absl::OkStatus();
    case Json::value_t::number_integer:
      internal::AppendPiece(out, json.get<std::int64_t>());
      return absl::OkStatus();
    case Json::value_t::number_unsigned:
      internal::AppendPiece(out, json.get<std::uint64_t>());
      return absl::OkStatus();
    case Json::value_t::number_float:
      return AppendDouble(out, json.get<double>());
    case Json::value_t::string:
      return AppendString(out, json.get_ref<const std::string&>());
    case Json::value_t::array: {
      out.push_back('[');
      bool first = true;
      for (const Json& element : json.get_ref<const Json::array_t&>()) {
        if (!first) out.push_back(',');
        first = false;
        if (absl::Status status = AppendCanonical(out, element, depth + 1); !status.ok()) {
          return status;
        }
      }
      out.push_back(']');
      return absl::OkStatus();
    }
    case Json::value_t::object: {
      // nlohmann's objects are in the order of their names' bytes.
      out.push_back('{');
      bool first = true;
      for (const auto& [name, member] : json.get_ref<const Json::object_t&>()) {
        if (!first) out.push_back(',');
        first = false;
        if (absl::Status status = AppendString(out, name); !status.ok()) return status;
        out.push_back(':');
        if (absl::Status status = AppendCanonical(out, member, depth + 1); !status.ok()) {
          return status;
        }
      }
      out.push_back('}');
      return absl::OkStatus();
    }
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return InvalidArgument("arguments of a key: JSON has no binary or discarded values");
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlphanumeric(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool IsName(std::string_view text) {
  if (text.empty() || IsDigit(text.front())) return false;
  for (const char c : text) {
    if (!IsAlphanumeric(c) && c != '_') return false;
  }
  return true;
}

// The bytes that separate, group, or match others, in keys and patterns.
constexpr std::array<bool, 256> MakeSpecial() {
  std::array<bool, 256> special = {};
  for (std::size_t c = 0; c <= 0x20; ++c) special[c] = true;
  special[0x7f] = true;
  for (const char c : std::string_view("%:{}*?[]\\")) special[static_cast<unsigned char>(c)] = true;
  return special;
}
constexpr std::array<bool, 256> kSpecial = MakeSpecial();

void AppendEscaped(std::string& out, std::string_view text, const std::array<bool, 256>& escaped) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (escaped[byte]) {
      out.push_back('%');
      AppendHex(out, byte, "0123456789ABCDEF");
    } else {
      out.push_back(c);
    }
  }
}

absl::StatusOr<std::string> Hash(std::string_view ns, std::string_view name,
                                 std::string_view arguments) {
  std::string text = "[";
  for (const std::string_view part : {ns, name}) {
    // No JSON text, so that any bytes may stand in a name; its own length says where it ends.
    text += StrCat(part.size(), ":", part, ",");
  }
  text += arguments;
  text.push_back(']');
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr) != 1) {
    return internal::MakeStatus(absl::StatusCode::kInternal, "OpenSSL has no SHA-256");
  }
  std::string hex;
  for (std::size_t i = 0; i < kHashBytes; ++i) AppendHex(hex, digest[i], "0123456789abcdef");
  return hex;
}

absl::Status CheckSize(std::string_view what, std::string_view text, std::size_t most) {
  if (!text.empty() && text.size() <= most) return absl::OkStatus();
  return InvalidArgument(StrCat(what, " has ", text.size(), " bytes; it must have 1 to ", most));
}

absl::Status BadTemplate(std::string_view text, std::string_view why, std::size_t at) {
  return InvalidArgument(
      StrCat("key template ", internal::Quoted(text), ": ", why, " (at byte ", at, ")"));
}

}  // namespace

absl::StatusOr<std::string> CanonicalJson(const Json& json) {
  std::string out;
  if (absl::Status status = AppendCanonical(out, json, 0); !status.ok()) return status;
  return out;
}

KeyBuilder::KeyBuilder(std::string ns, Options options)
    : namespace_(std::move(ns)), options_(options) {}

absl::StatusOr<std::string> KeyBuilder::Build(std::string_view name, const Json& arguments) const {
  absl::Status status = CheckSize("a key's namespace", namespace_, kMaxNamespace);
  status.Update(CheckSize("a key's name", name, internal::kMaxName));
  if (!status.ok()) return status;
  absl::StatusOr<std::string> text = CanonicalJson(arguments);
  if (!text.ok()) return text.status();

  // No ':' in it and none in the arguments, so that what is between is the name.
  std::string key;
  AppendEscaped(key, namespace_, kSpecial);
  key += StrCat(":", name, ":");
  if (text->size() <= options_.clear_bytes) {
    std::string clear = key;
    AppendEscaped(clear, *text, kSpecial);
    if (clear.size() <= Backend::kMaxKey) return clear;
  }
  // Never what a JSON text looks like: no number has 32 digits.
  absl::StatusOr<std::string> hash = Hash(namespace_, name, *text);
  if (!hash.ok()) return hash.status();
  return key + *hash;
}

absl::StatusOr<std::string> KeyBuilder::BuildFromText(std::string_view name,
                                                      std::string_view arguments) const {
  if (absl::Status status = internal::CheckJson("the arguments of a key", arguments);
      !status.ok()) {
    return status;
  }
  try {
    const Json json = Json::parse(arguments, nullptr, /*allow_exceptions=*/false);
    // A number outside of a double's range, which is good JSON.
    if (json.is_discarded()) {
      return InvalidArgument("the arguments of a key have a number that no double can hold");
    }
    return Build(name, json);
  } catch (const std::exception& error) {
    return InvalidArgument(StrCat("the arguments of a key: ", error.what()));
  }
}

KeyTemplate::KeyTemplate() : escaped_(kSpecial) {}

absl::StatusOr<KeyTemplate> KeyTemplate::Parse(std::string_view text) {
  constexpr std::size_t kMaxPlaceholders = 32;
  if (absl::Status status = CheckSize("a key template", text, internal::kMaxName); !status.ok()) {
    return status;
  }
  KeyTemplate made;
  enum class Style { kUnknown, kNames, kPositions, kAuto } style = Style::kUnknown;
  std::string literal;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      literal.push_back(c);
      continue;
    }
    if (at + 1 < text.size() && text[at + 1] == c) {
      literal.push_back(c);
      ++at;
      continue;
    }
    if (c == '}') return BadTemplate(text, "a '}' without its '{'; \"}}\" stands for one", at);
    const std::size_t close = text.find_first_of("{}", at + 1);
    if (close == std::string_view::npos || text[close] == '{') {
      return BadTemplate(text, "a '{' without its '}'; \"{{\" stands for one", at);
    }
    if (made.pieces_.size() == kMaxPlaceholders) {
      return BadTemplate(text, "more than 32 placeholders", at);
    }
    std::string name(text.substr(at + 1, close - at - 1));
    Style its = Style::kNames;
    if (name.empty()) {
      its = Style::kAuto;
      name = StrCat(made.names_.size());
    } else if (IsDigit(name.front())) {
      its = Style::kPositions;
      if (name.find_first_not_of("0123456789") != std::string::npos || name.size() > 2 ||
          (name.size() == 2 && name.front() == '0')) {
        return BadTemplate(text, "neither a name nor a position", at);
      }
    } else if (!IsName(name)) {
      return BadTemplate(text, "neither a name nor a position", at);
    }
    if (style != Style::kUnknown && style != its) {
      return BadTemplate(text, "names, positions and \"{}\" do not go together", at);
    }
    style = its;
    std::size_t index = 0;
    if (its == Style::kPositions) {
      index = static_cast<std::size_t>(std::stoul(name));
      while (made.names_.size() <= index) made.names_.push_back(StrCat(made.names_.size()));
    } else {
      while (index < made.names_.size() && made.names_[index] != name) ++index;
      if (index == made.names_.size()) made.names_.push_back(std::move(name));
    }
    made.pieces_.push_back({std::move(literal), index});
    literal.clear();
    at = close;
  }
  made.tail_ = std::move(literal);
  if (absl::Status status = made.Separate(); !status.ok()) {
    return internal::Annotate(status, StrCat("key template ", internal::Quoted(text)));
  }
  return made;
}

// Sees to it that an expansion can be taken apart again: between two placeholders stands a byte
// that no value has, because it is escaped there.
absl::Status KeyTemplate::Separate() {
  for (std::size_t i = 1; i < pieces_.size(); ++i) {
    bool separated = false;
    for (const char c : pieces_[i].literal) {
      if (IsAlphanumeric(c)) continue;
      escaped_[static_cast<unsigned char>(c)] = true;
      separated |= c != '%';
    }
    if (!separated) {
      return InvalidArgument(StrCat("nothing separates {", names_[pieces_[i - 1].value], "} and {",
                                    names_[pieces_[i].value], "}; put a ':' between them"));
    }
  }
  std::vector<bool> used(names_.size());
  for (const Piece& piece : pieces_) used[piece.value] = true;
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) {
      return InvalidArgument(StrCat("position ", i, " is left out: its value would not count"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> KeyTemplate::Fill(std::span<const std::string_view> values) const {
  if (values.size() != names_.size()) {
    return InvalidArgument(
        StrCat("a key template takes ", names_.size(), " values, not ", values.size()));
  }
  std::string key;
  for (const Piece& piece : pieces_) {
    key += piece.literal;
    AppendEscaped(key, values[piece.value], escaped_);
    if (key.size() > Backend::kMaxKey) break;  // long enough to be refused
  }
  key += tail_;
  if (absl::Status status = CheckSize("a key from a template", key, Backend::kMaxKey);
      !status.ok()) {
    return status;
  }
  return key;
}

absl::StatusOr<std::string> KeyTemplate::Expand(std::span<const std::string> values) const {
  return Fill(std::vector<std::string_view>(values.begin(), values.end()));
}

absl::StatusOr<std::string> KeyTemplate::Expand(
    std::initializer_list<std::string_view> values) const {
  return Fill({values.begin(), values.size()});
}

absl::StatusOr<std::string> KeyTemplate::ExpandNamed(std::span<const Named> values) const {
  std::vector<std::string_view> ordered(names_.size());
  std::vector<bool> given(names_.size());
  for (const auto& [name, value] : values) {
    std::size_t index = 0;
    while (index < names_.size() && names_[index] != name) ++index;
    if (index == names_.size()) {
      return InvalidArgument(StrCat("a key template has no placeholder ", internal::Quoted(name)));
    }
    if (given[index]) {
      return InvalidArgument(StrCat("there are two values for {", name, "}"));
    }
    given[index] = true;
    ordered[index] = value;
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (!given[i]) return InvalidArgument(StrCat("there is no value for {", names_[i], "}"));
  }
  return Fill(ordered);
}

absl::StatusOr<std::string> KeyTemplate::ExpandNamed(std::initializer_list<Named> values) const {
  return ExpandNamed(std::span<const Named>(values.begin(), values.size()));
}

}  // namespace coord
