// A Lua script of your own, to be run by Client::Run: constant text, sent once to a server and then
// named by its SHA1.
//
//   const coord::Script script("return redis.call('GET', KEYS[1])");
//   absl::StatusOr<coord::Reply> reply = client.Run(script, {"greeting"}, {});
//
// Data belongs into keys and arguments, never into the text: a text for every value fills the
// server's script cache.
#ifndef COORD_SCRIPT_H_
#define COORD_SCRIPT_H_

#include <string>
#include <string_view>

#include "coord/internal/script.h"

namespace coord {

class Script {
 public:
  struct Options {
    std::string name = "script";  // for messages
    // Running it twice has the effect of running it once, so an unknown outcome may be replayed.
    bool retry_safe = false;
  };
  explicit Script(std::string_view text) : Script(text, Options()) {}
  Script(std::string_view text, Options options);
  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;

  std::string_view text() const { return text_; }
  std::string_view sha1() const { return sha1_; }

 private:
  friend class Client;
  const std::string name_;
  const std::string text_;
  const std::string sha1_;
  const internal::ScriptText script_;
};

}  // namespace coord

#endif  // COORD_SCRIPT_H_
