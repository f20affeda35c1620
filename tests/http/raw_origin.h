// An origin that sends whatever bytes a test wants, for what no proper server does.
//
//   RawOrigin origin([](const std::string& request, RawOrigin::Connection& connection) {
//     connection.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour");
//     connection.Reset();
//   });
#ifndef COORD_TESTS_HTTP_RAW_ORIGIN_H_
#define COORD_TESTS_HTTP_RAW_ORIGIN_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tests/support/sockets.h"

namespace coord::testing {

// Thread-safe. Each connection has a thread; the destructor ends them all, also those that wait in
// a script.
class RawOrigin {
 public:
  // Of one script's call.
  class Connection {
   public:
    virtual ~Connection() = default;
    // All of it, or false: the peer is gone.
    virtual bool Send(std::string_view bytes) = 0;
    // So that the peer sees a reset.
    virtual void Reset() = 0;
    virtual void Close() = 0;
    // Nothing more will be sent; the peer sees the end, and can go on sending.
    virtual void HalfClose() = 0;
    // Until the peer has closed, or the origin ends. What it sends meanwhile is lost.
    virtual void WaitForClose() = 0;
    // Until RawOrigin::Release, or the origin ends.
    virtual void Hold() = 0;
    // Which it is, from 1.
    virtual int number() const = 0;
  };
  // Runs for each request: `request` is its head and the body that Content-Length speaks of. A
  // connection that was not closed is then read from again.
  using Script = std::function<void(const std::string& request, Connection& connection)>;

  // At a free port of 127.0.0.1, or a unix socket. `greeting` is sent on each connection before
  // anything is read.
  explicit RawOrigin(Script script, Endpoint endpoint = {}, std::string greeting = {});
  // Each request gets that.
  explicit RawOrigin(std::string answer);
  ~RawOrigin();
  RawOrigin(const RawOrigin&) = delete;
  RawOrigin& operator=(const RawOrigin&) = delete;

  int port() const;
  // "http://127.0.0.1:PORT" and `target`, which begins with '/'.
  std::string Url(std::string_view target) const;
  int connections() const;  // taken so far
  int requests() const;     // read so far
  // Of those, the one that came last.
  std::string last_request() const;
  // Scripts that hold go on, and later ones do not hold.
  void Release();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_HTTP_RAW_ORIGIN_H_
