// An HTTP server of this process's own, that answers as it is told and counts what it is asked: for
// the demo, the tests and the benchmarks of the HTTP session.
#ifndef COORD_TOOLS_DEV_ORIGIN_H_
#define COORD_TOOLS_DEV_ORIGIN_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace coord::dev {

// On 127.0.0.1, at a free port. Thread-safe. Serves at least 128 connections at once, and keeps
// them open for a minute. The destructor ends it and them, and waits for handlers that run.
//
// What the library beneath decides: a method it does not know (PURGE) is refused with 400 and not
// counted, and so is a malformed Range with 416. Names of header fields are sent in an order of its
// own, those of one name as they were given. Nothing else is its: no compression, no ranges, no
// decoding of bodies or forms.
class Origin {
 public:
  using Fields = std::vector<std::pair<std::string, std::string>>;
  struct Request {
    std::string method;
    std::string target;  // as it was sent: path and query
    Fields headers;
    std::string body;
    // The first of that name, whatever its case; empty: there is none.
    std::string header(std::string_view name) const;
  };
  struct Reply {
    int status = 200;
    // Sent as they are; nothing is added but what the transfer itself needs (Content-Length or
    // Transfer-Encoding, Connection): no Date, no ETag.
    Fields headers = {};
    std::string body = {};
    // In place of `body`: that many bytes of a pattern, in chunks, with no Content-Length.
    std::size_t chunked_bytes = 0;
  };
  // Runs on one of the server's threads, for several requests at once; may wait.
  using Handler = std::function<Reply(const Request&)>;

  struct Tls {
    std::string cert_file = {}, key_file = {};
    std::string client_ca_file = {};  // clients must have a certificate by that authority
  };
  static absl::StatusOr<std::unique_ptr<Origin>> Start();
  static absl::StatusOr<std::unique_ptr<Origin>> Start(const Tls& tls);
  ~Origin();
  Origin(const Origin&) = delete;
  Origin& operator=(const Origin&) = delete;

  // What requests for that path get, whatever their method and query; in place of what was there.
  // 404 for paths that nothing was said of.
  void On(std::string path, Handler handler);
  void On(std::string path, Reply reply);

  int port() const;
  // "http://127.0.0.1:PORT" ("https://..." with Tls) and `target`, which begins with '/'.
  std::string Url(std::string_view target) const;
  // How many requests came for that path; for all of them.
  int requests(std::string_view path) const;
  int requests() const;
  // Those for that path, oldest first.
  std::vector<Request> log(std::string_view path) const;

 private:
  struct State;
  explicit Origin(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_ORIGIN_H_
