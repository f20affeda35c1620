// Under which key the response to a request stands, and what of the request may be kept. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_KEY_MAKER_H_
#define COORD_CACHE_HTTP_INTERNAL_KEY_MAKER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "cache/http/headers.h"
#include "cache/http/internal/stored_response.h"

namespace coord::http::internal {

// See SessionOptions.
struct KeyRules {
  std::string prefix = {};  // "coord:http_cache:"
  std::vector<std::string> match_headers = {};
  std::vector<std::string> ignored_parameters = {};
  std::vector<std::string> secret_parameters = {};
  std::string identity_secret = {};
  bool sort_query = false;
};

// Names are compared without regard to case. Thread-safe: const.
class KeyMaker {
 public:
  explicit KeyMaker(KeyRules rules);

  struct Identified {
    std::string url;  // normalised, secret and ignored parameters redacted: may be shown and stored
    // Who asks: HMAC-SHA-256 of the secret parameters' values, in hex; empty: nobody.
    std::string identity;
    std::string host;  // that the request names in its own Host field, in lower case
    // The values themselves, at least 6 bytes long (cookies 12), also percent-decoded and of basic
    // authorization decoded: what must not be stored.
    std::vector<std::string> secrets;
  };
  // What a request says of itself. `url`: CheckUrl's. The body matters for methods other than GET
  // and HEAD: as a form or JSON, by its Content-Type, else as it is.
  absl::StatusOr<Identified> Identify(std::string_view method, std::string_view url,
                                      const Headers& headers, std::string_view body) const;
  // "<prefix><hash>": SHA-256, cut to 128 bits, in hex, of method, URL, identity, a Host that the
  // request names, and the body without its ignored fields.
  std::string Primary(std::string_view method, const Identified& who, std::string_view body,
                      std::string_view content_type) const;
  // "<primary>.<hash>".
  std::string Variant(std::string_view primary, std::string_view series,
                      const Selecting& selecting) const;

  // What selects a variant: `vary` and match_headers, and what the request has for each: lines
  // joined by ", ", blanks around commas taken out; ignored ones left out, secret ones hashed as
  // the identity is.
  Selecting SelectingFields(const std::vector<std::string>& vary, const Headers& request) const;

  // The response's fields as they may be stored: values of ignored and secret names "REDACTED".
  Headers Redacted(const Headers& response) const;
  // What a response gives its caller as secrets: the values of Set-Cookie, where they are at least
  // 12 bytes long.
  static std::vector<std::string> SecretsIn(const Headers& response);
  // Takes ignored parameters out of the URLs in Location and Content-Location of a response to a
  // request for `url`. False: one has a secret parameter, and what would be left of it leads
  // nowhere, so that this is not stored.
  bool RedactReferences(std::string_view url, Headers& response) const;

  bool IsSecret(std::string_view name) const;  // and not ignored
  bool IsIgnored(std::string_view name) const;
  // Whether it is among the names of secrets, ignored or not: such are for one origin alone.
  bool NamesSecret(std::string_view name) const;
  const KeyRules& rules() const { return rules_; }

 private:
  const KeyRules rules_;
  absl::flat_hash_set<std::string> secret_;   // lower case
  absl::flat_hash_set<std::string> ignored_;  // lower case
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_KEY_MAKER_H_
