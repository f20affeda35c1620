// A plain blocking Redis client on hiredis, for looking behind the library's back.
//
//   RawRedis redis(server);
//   EXPECT_EQ(redis.Text({"GET", "coord:{deploy}:count"}), "3");
//   EXPECT_EQ(CommandCalls(redis, "evalsha"), 1);
#ifndef COORD_TESTS_SUPPORT_RAW_REDIS_H_
#define COORD_TESTS_SUPPORT_RAW_REDIS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "coord/reply.h"
#include "tests/support/sockets.h"

struct redisContext;

namespace coord::testing {

class RedisServer;

// Connects at its first command, and again when the server has closed the connection since. Has all
// rights, also where the library has the least (acl_rights.h). One thread at a time.
class RawRedis {
 public:
  // Through the server's unix socket.
  explicit RawRedis(const RedisServer& server);
  // "unix:///path" or "redis://address:port". `timeout` bounds connecting and each command.
  explicit RawRedis(std::string_view url, absl::Duration timeout = absl::Seconds(10));

  // What the server answered, errors too; "IOERR <why>" as an error when it did not.
  Reply Command(const std::vector<std::string>& arguments);
  // Behind a SUBSCRIBE: the text of the next message, or "IOERR <why>".
  std::string NextMessage();
  // Of an answer in which text or a number is expected; anything else is a failure of the test, and
  // empty or -1.
  std::string Text(const std::vector<std::string>& arguments);
  std::int64_t Integer(const std::vector<std::string>& arguments);

  static bool IsConnectionError(const Reply& reply);

 private:
  struct Free {
    void operator()(redisContext* context) const;
  };
  Reply Connect();  // nil: connected

  const Endpoint endpoint_;
  const absl::Duration timeout_;
  std::unique_ptr<redisContext, Free> context_;
};

// How often the server has run `command` since it started or since CONFIG RESETSTAT.
std::int64_t CommandCalls(RawRedis& redis, std::string_view command);
// All of its commands together, but for INFO and CONFIG, which tests ask with.
std::int64_t AllCalls(RawRedis& redis);

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_RAW_REDIS_H_
