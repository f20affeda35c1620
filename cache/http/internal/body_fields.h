// The fields of queries, forms and JSON objects, as they were sent. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_BODY_FIELDS_H_
#define COORD_CACHE_HTTP_INTERNAL_BODY_FIELDS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coord::http::internal {

// Views are into the text.
struct Field {
  std::string name;       // decoded
  std::string_view text;  // all of it, as it was sent
  std::string_view key;   // the name as it was sent
  std::optional<std::string_view> value;
};

std::vector<Field> FormFields(std::string_view text);
// What stands behind the '?'.
std::string_view QueryOf(std::string_view url);

enum class BodyKind { kOther, kForm, kJson };
BodyKind KindOf(std::string_view content_type);
// Of a form, or of the top level of a JSON object. nullopt: it has none.
std::optional<std::vector<Field>> BodyFields(std::string_view body, std::string_view content_type);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_BODY_FIELDS_H_
