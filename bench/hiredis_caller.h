// The yardstick: what a program does that has hiredis and the scripts, and no toolkit.
#ifndef COORD_BENCH_HIREDIS_CALLER_H_
#define COORD_BENCH_HIREDIS_CALLER_H_

#include <hiredis/hiredis.h>

#include <initializer_list>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "coord/internal/script.h"

namespace coord::bench {

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using HiredisReply = std::unique_ptr<redisReply, FreeReply>;

// One blocking connection. Not thread-safe. Ends the program when it cannot connect.
class HiredisCaller {
 public:
  explicit HiredisCaller(const std::string& socket_path);

  // Null on any error, that of a reply included.
  HiredisReply Command(std::initializer_list<std::string_view> args);
  void Load(const internal::ScriptText& script);
  // EVALSHA; the script must be loaded.
  HiredisReply Run(const internal::ScriptText& script, std::initializer_list<std::string_view> keys,
                   std::initializer_list<std::string_view> args);

  // Run in three steps, to have several servers at work at once. False on an error, as above.
  bool Append(const internal::ScriptText& script, std::initializer_list<std::string_view> keys,
              std::initializer_list<std::string_view> args);
  bool Flush();
  HiredisReply Receive();

 private:
  struct FreeContext {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  HiredisReply Send(std::span<const std::string_view> words);

  std::unique_ptr<redisContext, FreeContext> context_;
};

// Owner ids of the shape and length that coord makes ("<32 hex digits>@<host>:<pid>"), from a cheap
// generator: this is the other side's cost, so it is kept as low as can be.
class CheapOwnerIds {
 public:
  CheapOwnerIds();
  const std::string& Next();
  std::size_t size() const { return id_.size(); }

 private:
  std::mt19937_64 random_;
  std::string id_;
};

// A mutex by hand: the library's own two scripts, two round trips, a fresh owner each time.
class HiredisMutex {
 public:
  HiredisMutex(const std::string& socket_path, std::string_view name);
  // Acquires and releases; false on any error.
  bool Pair();

 private:
  HiredisCaller caller_;
  CheapOwnerIds owners_;
  const std::string lease_key_;
  const std::string fence_key_;
  const std::string queue_key_;
  const std::string readers_key_;
};

}  // namespace coord::bench

#endif  // COORD_BENCH_HIREDIS_CALLER_H_
