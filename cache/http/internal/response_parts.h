// What a Response is made of.
#ifndef COORD_CACHE_HTTP_INTERNAL_RESPONSE_PARTS_H_
#define COORD_CACHE_HTTP_INTERNAL_RESPONSE_PARTS_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "cache/http/headers.h"
#include "cache/http/internal/stored_response.h"
#include "cache/http/response.h"

namespace coord::http::internal {

struct ResponseParts {
  // From the cache: status, headers and body are its, unless they are set below.
  std::shared_ptr<const StoredResponse> stored_response;
  int status = 0;
  Headers headers;  // with Age, for one from the cache
  std::string own_body;
  std::string_view body;  // of one of the two
  std::string url;
  std::string method;
  bool from_cache = false;
  bool revalidated = false;
  bool stale = false;
  bool stored = false;
  std::string key;
  absl::Time created = absl::InfinitePast();
  absl::Time expires = absl::InfinitePast();
  absl::Duration age = absl::ZeroDuration();
  std::string cache_status;
  std::vector<Response> history;
  absl::Duration elapsed = absl::ZeroDuration();
  std::function<absl::Time()> calendar;
  // Of header fields and parameters that ToJson redacts; null: none.
  std::shared_ptr<const std::vector<std::string>> secret_names;
};

// What is the same for every answer from the cache: `stored` with its Age at `now`, from the cache,
// stored, stale where it has expired. The rest is the caller's to add. Copies the header fields,
// not the body.
std::shared_ptr<ResponseParts> PartsFromStored(std::shared_ptr<const StoredResponse> stored,
                                               std::string key, absl::Time now,
                                               std::function<absl::Time()> calendar);
// The same for one that is nobody else's: nothing is copied, and `stored` keeps only its body.
std::shared_ptr<ResponseParts> PartsOfStored(std::shared_ptr<StoredResponse> stored,
                                             std::string key, absl::Time now,
                                             std::function<absl::Time()> calendar);
// The same, where there is nothing to add.
Response FromStored(std::shared_ptr<const StoredResponse> stored, std::string key, absl::Time now,
                    std::function<absl::Time()> calendar);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_RESPONSE_PARTS_H_
