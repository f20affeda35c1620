// What a request has that must not be stored, and whether a text has it. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_SECRETS_H_
#define COORD_CACHE_HTTP_INTERNAL_SECRETS_H_

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"

namespace coord::http::internal {

// Collects the values of secret fields, in the forms that somebody might repeat.
class Secrets {
 public:
  // Shorter values stand in any text by chance, and are not collected; nor are cookies below 12
  // bytes: most cookies are no secrets (theme=dark), and those that are are long.
  static constexpr std::size_t kLeast = 6;
  static constexpr std::size_t kLeastCookie = 12;

  void Add(std::string_view value);
  // As it is and decoded.
  void AddEncoded(std::string_view value);
  // Of "a=1; b=2" the values.
  void AddCookies(std::string_view value);
  // Of credentials also the token alone, of basic ones the password; of cookies each.
  void AddHeader(std::string_view name, std::string_view value);
  // All of it; or only what stands, however deep, under a name of which `wanted` says so.
  void AddJson(const nlohmann::json& value);
  void AddJsonNamed(const nlohmann::json& value, absl::FunctionRef<bool(std::string_view)> wanted);

  // Each once.
  std::vector<std::string> Take();

 private:
  std::vector<std::string> values_;
};

// Whether any of these stands in `text`, as it is or escaped for a URL, a form or JSON.
bool RepeatsSecret(std::string_view text, const std::vector<std::string>& secrets);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_SECRETS_H_
