// Signing in: everything a new connection needs, in one round trip. Pure: what to send, and what
// the answers mean.
#ifndef COORD_DEPLOYMENT_HANDSHAKE_H_
#define COORD_DEPLOYMENT_HANDSHAKE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "coord/internal/script.h"
#include "coord/reply.h"

namespace coord::internal {

struct Identity {
  std::string user;  // empty: the default user
  std::string password;
  int db = 0;
  std::string client_name;
  std::string channel = {};  // to subscribe to, with RESP3; empty: none
  bool must_be_master = false;
};

// What a server says of itself while signing in.
struct ServerFacts {
  std::string name = {};  // "redis", "valkey"; empty: it is older than saying so
  int major = 0;
  int minor = 0;
  // 7.0 and up; every Valkey.
  bool has_sharded_channels() const { return major >= 7; }
};

// HELLO 3 with AUTH and SETNAME, SELECT, and SCRIPT LOAD of each script; for a server that does not
// know HELLO, or does not let us, AUTH and CLIENT SETNAME instead.
class Handshake {
 public:
  enum class Protocol { kResp3, kResp2 };

  Handshake(const Identity& identity, std::span<const ScriptText* const> scripts,
            Protocol protocol);

  const std::string& bytes() const { return bytes_; }
  std::size_t first_size() const { return first_size_; }
  std::size_t commands() const { return steps_.size(); }

  struct Result {
    absl::Status status;  // what `peer` refused, if anything that matters; lasting() tells whether
                          // trying again can help
    bool try_resp2 = false;  // not a failure: the server is older than HELLO
    int scripts_loaded =
        0;  // fewer than offered where the user may not SCRIPT LOAD; EVAL covers those
    bool subscribed = false;
    ServerFacts facts = {};
  };
  Result Judge(std::span<const Reply> replies, const std::string& peer) const;

 private:
  enum class Step { kHello, kAuth, kSetName, kSelect, kRole, kSubscribe, kLoad };
  void Add(Step step, std::span<const std::string_view> args);
  // What a server says to one step, without our password: some quote what they do not know.
  std::string Hidden(std::string_view text) const;

  std::string bytes_;
  std::size_t first_size_ = 0;
  std::vector<Step> steps_;
  std::string password_;
  int db_;
};

// A failure that will be the same next time (wrong password, missing right, no such database), so
// nobody should wait for it to pass.
bool IsLasting(const absl::Status& status);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_HANDSHAKE_H_
