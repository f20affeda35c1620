// A proxy between a client and its server that makes the network's faults, set while it runs.
//
//   RedisServer server({.port = 0});
//   FaultProxy proxy(server.url());
//   auto client = Client::Connect(proxy.url());
//   proxy.Set(Direction::kReplies, {.delay = absl::Milliseconds(50)});
//   proxy.Set(Direction::kReplies, {});  // well again
#ifndef COORD_TESTS_SUPPORT_FAULT_PROXY_H_
#define COORD_TESTS_SUPPORT_FAULT_PROXY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "tests/support/sockets.h"

namespace coord::testing {

enum class Direction {
  kRequests = 0,  // from the client to the server
  kReplies = 1,   // from the server to the client
};

// What happens to the bytes of one direction. Default: they pass. Counts begin when the faults are
// set, and are for each connection on its own.
struct Faults {
  absl::Duration delay{};   // before each piece is passed on; order is kept
  absl::Duration jitter{};  // up to so much more, at random
  bool hold = false;        // keep what comes, and pass it on when `hold` is set no more
  bool drop = false;        // swallow what comes; the connection stays
  bool reset = false;  // swallow the next bytes that come and reset the connection (SO_LINGER 0)
  std::optional<std::uint64_t> truncate_after{};  // pass so many bytes, then close
  std::optional<std::uint64_t> corrupt_at{};      // change the byte at this offset
  unsigned char corrupt_xor = 0xff;               // how it is changed
  std::size_t chunk = 0;         // bytes written at once; 0: all there is; 1: split to single bytes
  absl::Duration chunk_pause{};  // between one chunk and the next
  bool once =
      false;  // when a reset, truncation or corruption has happened, this direction is well again
};

// Lives in a thread of its own, which the destructor joins; connections still open are closed. Each
// call returns when it has taken effect: bytes that reach the proxy afterwards meet the new faults.
// Thread-safe.
//
// A reset can be seen by a TCP client only. When a client goes away while its requests are held,
// they still reach the server on release, as they would from a slow network.
class FaultProxy {
 public:
  enum class Listener { kTcp, kUnix };

  // `upstream`: "redis://address:port" or "unix:///path".
  explicit FaultProxy(std::string_view upstream, Listener listener = Listener::kTcp);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  std::string url() const;
  int port() const;  // 0 with Listener::kUnix

  // For every connection, present and future.
  void Set(Direction direction, const Faults& faults);
  // For the present connections: a request held on them can be overtaken over a new one.
  void SetPresent(Direction direction, const Faults& faults);
  // For one connection, counted from 0 in the order of accepting; without effect when it is gone.
  void SetOne(std::size_t connection, Direction direction, const Faults& faults);
  // No faults, and connections accepted.
  void Heal();

  // The server runs the next request, and the client sees a reset in the place of its reply.
  void ResetBeforeReply() { Set(Direction::kReplies, {.reset = true, .once = true}); }

  // Loses replies, now by the message and now with the connection, while `running` is above 0;
  // heals then.
  void LoseRepliesWhile(const std::atomic<int>& running);

  void ResetConnections();              // all present ones, at once
  void CloseConnections();              // the same, orderly
  void HalfClose(Direction direction);  // of all present ones: the receiver sees the end, the other
                                        // way stays open
  void Refuse(bool refuse);  // whether connecting fails (nobody listens); present connections stay
  void SetUpstream(std::string_view upstream);  // for future connections
  std::size_t DiscardHeld(
      Direction direction);  // forgets what is held or delayed; how many bytes that was

  std::size_t accepted();                      // connections so far
  std::size_t open();                          // connections now
  std::size_t held(Direction direction);       // bytes held or delayed now
  std::uint64_t passed(Direction direction);   // bytes passed on so far
  std::uint64_t arrived(Direction direction);  // bytes received so far, whatever became of them

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_FAULT_PROXY_H_
