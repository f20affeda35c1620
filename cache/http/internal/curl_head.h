// What the header lines of a response say, as libcurl passes them on. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_CURL_HEAD_H_
#define COORD_CACHE_HTTP_INTERNAL_CURL_HEAD_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "cache/http/headers.h"

namespace coord::http::internal {

class CurlHead {
 public:
  // Heads that take more than that together are refused: those of 1xx count, too.
  explicit CurlHead(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  // A line as it came: a status line begins a head anew, an empty one ends it, one that begins with
  // a blank goes on with the field before (RFC 9112 section 5.2). What is no field is left out;
  // control characters in values become blanks (RFC 9110 section 5.5). False: too large.
  bool AddLine(std::string_view line);

  bool complete() const { return complete_; }
  const Headers& headers() const { return headers_; }
  // Content-Length several times and not the same, or beside Transfer-Encoding.
  bool lengths_conflict() const;
  // Whether libcurl decodes a body with that Content-Encoding, when it is to.
  bool is_encoded() const;
  // Without the fields that speak of the body as it was sent.
  Headers decoded_headers() const;

 private:
  void Begin(std::string_view line);
  void Flush();

  const std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  bool complete_ = false;
  Headers headers_;
  // The last field, with which a next line could go on; no name: there is none.
  std::string name_, value_;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_CURL_HEAD_H_
