#include "cache/http/internal/body_fields.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "cache/http/internal/escapes.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

// Runs over text that a parser has found to be JSON.
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  char Peek() {
    while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void Skip() { ++at_; }
  // The value that is next, as it is written.
  std::string_view Value() {
    Peek();
    const std::size_t begin = at_;
    std::size_t depth = 0;
    do {
      const char c = Peek();
      if (c == '"') {
        String();
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at_;
      } else if (c == '}' || c == ']') {
        --depth;
        ++at_;
      } else if (c == ',' || c == ':') {
        ++at_;
      } else {
        while (at_ < text_.size() && !IsSpace(text_[at_]) && !IsPunctuation(text_[at_])) ++at_;
      }
    } while (depth > 0 && at_ < text_.size());
    return text_.substr(begin, at_ - begin);
  }

 private:
  static bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
  static bool IsPunctuation(char c) {
    return std::string_view("{}[],:\"").find(c) != std::string_view::npos;
  }
  void String() {
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
};

// The members of an object, as they are written: to read and write numbers anew could make two
// alike that are not. Nullopt: it is no object.
std::optional<std::vector<Field>> JsonFields(std::string_view text) {
  JsonScanner scanner(text);
  if (scanner.Peek() != '{' || !nlohmann::json::accept(text)) return std::nullopt;
  scanner.Skip();
  std::vector<Field> fields;
  while (scanner.Peek() != '}' && scanner.Peek() != '\0') {
    Field field;
    field.key = scanner.Value();
    const nlohmann::json name = nlohmann::json::parse(field.key, nullptr, false);
    if (!name.is_string()) return std::nullopt;
    field.name = name.get_ref<const std::string&>();
    scanner.Peek();
    scanner.Skip();  // ':'
    field.value = scanner.Value();
    field.text = std::string_view(
        field.key.data(),
        static_cast<std::size_t>(field.value->data() + field.value->size() - field.key.data()));
    fields.push_back(std::move(field));
    if (scanner.Peek() == ',') scanner.Skip();
  }
  return fields;
}

}  // namespace

std::vector<Field> FormFields(std::string_view text) {
  std::vector<Field> fields;
  if (text.empty()) return fields;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('&', at), text.size());
    Field field;
    field.text = text.substr(at, end - at);
    const std::size_t equals = field.text.find('=');
    field.key = field.text.substr(0, equals);
    field.name = PercentDecoded(field.key, true);
    if (equals != std::string_view::npos) field.value = field.text.substr(equals + 1);
    fields.push_back(std::move(field));
    at = end + 1;
  }
  return fields;
}

std::string_view QueryOf(std::string_view url) {
  url = url.substr(0, url.find('#'));
  const std::size_t mark = url.find('?');
  return mark == std::string_view::npos ? std::string_view() : url.substr(mark + 1);
}

BodyKind KindOf(std::string_view content_type) {
  const std::string type = absl::AsciiStrToLower(absl::StripAsciiWhitespace(
      coord::internal::ToAbsl(content_type.substr(0, content_type.find(';')))));
  if (type == "application/x-www-form-urlencoded") return BodyKind::kForm;
  if (type == "application/json" || type.ends_with("+json")) return BodyKind::kJson;
  return BodyKind::kOther;
}

std::optional<std::vector<Field>> BodyFields(std::string_view body, std::string_view content_type) {
  if (body.empty()) return std::nullopt;
  switch (KindOf(content_type)) {
    case BodyKind::kForm:
      return FormFields(body);
    case BodyKind::kJson:
      return JsonFields(body);
    case BodyKind::kOther:
      break;
  }
  return std::nullopt;
}

}  // namespace coord::http::internal
