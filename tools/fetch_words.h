// The command line of `coord fetch`, and the request that it means.
#ifndef COORD_TOOLS_FETCH_WORDS_H_
#define COORD_TOOLS_FETCH_WORDS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cache/http/session_options.h"
#include "tools/arguments.h"

namespace coord::tools {

struct FetchWords {
  Text url;
  Text method;
  Text data;
  std::vector<std::string> headers;
  Text expire;
  Text stale_if_error;
  Text max_time;
  Text output;
  Text store;
  Text remove;
  bool list = false;
  bool refresh = false;
  bool force_refresh = false;
  bool only_if_cached = false;
  bool no_cache = false;
  bool include = false;
  bool fail = false;
  bool no_redirects = false;
};

// kInvalidArgument for what is no request. No header's value is in the message.
absl::StatusOr<http::RequestOptions> ReadFetchRequest(const FetchWords& words);

}  // namespace coord::tools

#endif  // COORD_TOOLS_FETCH_WORDS_H_
