// The header fields of a request or a response (RFC 9110 section 5).
#ifndef COORD_CACHE_HTTP_HEADERS_H_
#define COORD_CACHE_HTTP_HEADERS_H_

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace coord::http {

// Fields in the order they came. Names are compared without regard to case, and keep how they were
// written. A plain value.
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  bool Has(std::string_view name) const;
  // The value, where there is one field of that name; of several, all of them joined with ", ", as
  // section 5.3 has it. nullopt: there is none.
  std::optional<std::string> Get(std::string_view name) const;
  // Each line's value, in order.
  std::vector<std::string_view> All(std::string_view name) const;

  void Add(std::string name, std::string value);
  // In place of all of that name.
  void Set(std::string_view name, std::string value);
  // How many there were.
  std::size_t Remove(std::string_view name);

  // OK, or kInvalidArgument for a name that is no token or a value with a control character (CR and
  // LF above all): such would say something else on the wire. Names the field, never its value.
  absl::Status Check() const;

  bool empty() const { return fields_.empty(); }
  std::size_t size() const { return fields_.size(); }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

  friend bool operator==(const Headers&, const Headers&) = default;

 private:
  std::vector<Field> fields_;
};

// Whether two names of fields are the same.
bool SameFieldName(std::string_view one, std::string_view other);

}  // namespace coord::http

#endif  // COORD_CACHE_HTTP_HEADERS_H_
