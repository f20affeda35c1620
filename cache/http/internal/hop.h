// One request, after a Session's defaults and before anything is asked: between two redirects, one
// hop.
#ifndef COORD_CACHE_HTTP_INTERNAL_HOP_H_
#define COORD_CACHE_HTTP_INTERNAL_HOP_H_

#include <stop_token>
#include <string>

#include "absl/time/time.h"
#include "cache/http/headers.h"
#include "cache/http/internal/freshness.h"
#include "cache/http/internal/key_maker.h"
#include "cache/http/session_options.h"
#include "coord/internal/sync.h"

namespace coord::http::internal {

struct Hop {
  std::string method;
  std::string url;  // CheckUrl's
  Headers headers;  // all that are sent
  std::string body;
  KeyMaker::Identified who;
  Demand demand;
  ExpirySources sources;
  bool force_refresh = false;
  bool only_if_cached = false;
  bool read_only = false;
  bool disabled = false;
  bool follows = true;  // a redirect's body is nobody's
  Sink sink;
  std::stop_token stop;
  absl::Duration timeout;
  coord::internal::SteadyTime deadline;

  // Of the caller's own, to which a 304 is an answer.
  bool HasConditions() const {
    return headers.Has("If-None-Match") || headers.Has("If-Modified-Since");
  }
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_HOP_H_
