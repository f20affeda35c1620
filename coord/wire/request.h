// One command, encoded and ready to be sent, perhaps several times.
#ifndef COORD_WIRE_REQUEST_H_
#define COORD_WIRE_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "coord/internal/script.h"
#include "coord/wire/resp.h"

namespace coord::internal {

class Request {
 public:
  static Request Command(std::span<const std::string_view> args);
  // EVALSHA; UseEval() turns it into EVAL of the whole text.
  static Request Call(const ScriptText& script, std::span<const std::string_view> keys,
                      std::span<const std::string_view> args);

  // A command that is answered by a push alone (SUNSUBSCRIBE), and a PING whose reply stands for
  // it.
  static Request PushedCommand(std::span<const std::string_view> args);

  // COMMAND GETKEYS of a command of so many words, which are given as they are encoded.
  static Request CommandKeysOf(std::int64_t words, std::string_view encoded);

  const std::string& bytes() const { return bytes_; }
  // The command alone, without what goes in front of it.
  std::string_view command() const { return std::string_view(bytes_).substr(prefix_); }
  // "GET", or the script's name: for messages.
  const std::string& what() const { return what_; }
  bool is_script() const { return script_ != nullptr; }
  bool retry_safe() const { return retry_safe_; }
  void set_retry_safe(bool safe) { retry_safe_ = safe; }

  // Asks for what the command publishes to be sent before its own reply. A server writes out first
  // what it began to write last, and what a script publishes it begins before the script's reply;
  // a PING in front begins ours earlier still. It spares those who wait for the message the time of
  // a write and, on the caller's own CPU, of what the caller does next. A wish: where a server
  // does otherwise, nothing else changes. One-command calls only (see replies()).
  void TellOthersFirst();
  // Whether the command goes with an ASKING in front, as one unit: a Cluster's node that is taking
  // a slot over serves it then (Redis Cluster specification, "ASK redirection").
  void SetAsking(bool asking);
  bool asking() const { return asking_; }
  // How many replies come, of which the last is the command's.
  std::size_t replies() const { return 1 + (told_first_ ? 1 : 0) + (asking_ ? 1 : 0); }
  static constexpr std::size_t kMostReplies = 3;

  // What to send when the server does not know the script (NOSCRIPT). False when that is what it
  // already is.
  bool UseEval();

 private:
  std::string bytes_;
  std::string what_;
  const ScriptText* script_ = nullptr;  // borrowed; null for a plain command and after UseEval
  std::size_t prefix_ = 0;              // of bytes_: what goes in front
  bool told_first_ = false;             // a PING is in front
  bool asking_ = false;                 // an ASKING is, right before the command
  std::size_t tail_ = 0;                // where numkeys, keys and arguments start in bytes_
  std::size_t arity_ = 0;
  bool retry_safe_ = false;
};

// Binds an embedded script; the wrong number of keys or arguments does not compile.
//   Request request = Bind(kMutexAcquire, {lease, fence}, {owner, ttl});
template <int kKeys, int kArgs, std::size_t kGivenKeys, std::size_t kGivenArgs>
Request Bind(const Script<kKeys, kArgs>& script, const std::string_view (&keys)[kGivenKeys],
             const std::string_view (&args)[kGivenArgs]) {
  static_assert(CountFits(kKeys, static_cast<int>(kGivenKeys)), "wrong number of keys");
  static_assert(CountFits(kArgs, static_cast<int>(kGivenArgs)), "wrong number of arguments");
  return Request::Call(script, keys, args);
}

template <int kKeys, std::size_t kGivenKeys>
Request Bind(const Script<kKeys, 0>& script, const std::string_view (&keys)[kGivenKeys]) {
  static_assert(CountFits(kKeys, static_cast<int>(kGivenKeys)), "wrong number of keys");
  return Request::Call(script, keys, {});
}

// For scripts that take any number of arguments; the caller keeps to the declared least.
template <int kKeys, int kArgs, std::size_t kGivenKeys>
requires(kArgs < 0) Request
    Bind(const Script<kKeys, kArgs>& script, const std::string_view (&keys)[kGivenKeys],
         std::span<const std::string_view> args) {
  static_assert(CountFits(kKeys, static_cast<int>(kGivenKeys)), "wrong number of keys");
  return Request::Call(script, keys, args);
}

}  // namespace coord::internal

#endif  // COORD_WIRE_REQUEST_H_
