// A proxy that understands enough of what a server says to lose, hold and release its published
// messages, and nothing else.
//
//   PushFilter filter(server.url());
//   filter.OnMessage([](const PushMessage& message) {                 // every tenth is lost
//     return message.number % 10 == 9 ? PushVerdict::kDrop : PushVerdict::kPass;
//   });
//   auto client = Client::Connect(filter.url());
#ifndef COORD_TESTS_SUPPORT_PUSH_FILTER_H_
#define COORD_TESTS_SUPPORT_PUSH_FILTER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coord::testing {

// Cuts a RESP2 or RESP3 stream into its top-level frames. No I/O; it bounds nothing, so it is for
// servers that a test trusts.
class FrameCutter {
 public:
  void Feed(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole frame, byte for byte; nothing until it is complete.
  std::optional<std::string> Next();
  // What is not a whole frame yet.
  std::string_view rest() const { return buffer_; }
  // The bytes are no RESP; Next() gives nothing any more.
  bool broken() const { return broken_; }

 private:
  bool Step();  // over one element; false: not all of it is there

  std::string buffer_;
  std::size_t at_ = 0;  // what has been looked at; always at the beginning of an element
  std::vector<std::int64_t> open_;  // how many elements are wanted yet, per nesting level
  bool broken_ = false;
};

// The texts of a flat frame of strings and integers, such as a message; nothing for other frames.
std::optional<std::vector<std::string>> FrameTexts(std::string_view frame);

struct PushMessage {
  std::size_t connection = 0;  // counted from 0 in the order of accepting
  std::string kind{};          // "message", "smessage" or "pmessage"
  std::string channel{};
  std::string payload{};
  std::uint64_t number = 0;  // counted from 0 over all connections
};

enum class PushVerdict { kPass, kDrop, kHold };

// Lives in a thread of its own, which the destructor joins. Everything but published messages
// passes byte for byte, in both directions: answers, confirmations of subscriptions, other pushes.
// Thread-safe.
//
// Fork the children of a test before making one: the thread sanitizer lets no child of a process
// with threads start threads. A child may try to connect to `path` until it is there.
class PushFilter {
 public:
  // `upstream`: "redis://address:port" or "unix:///path". Listens on the unix socket `path`, by
  // default one in a directory of its own.
  explicit PushFilter(std::string_view upstream, std::string path = {});
  ~PushFilter();
  PushFilter(const PushFilter&) = delete;
  PushFilter& operator=(const PushFilter&) = delete;

  std::string url() const;

  // Asked for every message from now on, on the filter's thread. Unset, as at first: all pass.
  void OnMessage(std::function<PushVerdict(const PushMessage&)> judge);
  // Delivers what was held, in order, to whoever is subscribed to its channel now, which may be a
  // connection that has come since; how many those were. What finds nobody stays held. They are not
  // judged again.
  std::size_t ReleaseHeld();
  void CloseConnections();

  std::uint64_t messages();  // that have come
  std::uint64_t dropped();
  std::size_t held();      // now
  std::size_t accepted();  // connections so far

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_PUSH_FILTER_H_
