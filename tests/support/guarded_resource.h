// What a lock guards, for tests: it takes fencing tokens seriously, and remembers what would have
// become of it had it not.
//
//   RedisServer elsewhere;                                // never the server of the lock
//   GuardedResource resource(elsewhere.unix_url());       // in each process
//   const GuardedResource::Visit visit = resource.Enter(lease.token().value());
//   ...
//   resource.Leave(visit);                                // writes what it read, plus one
#ifndef COORD_TESTS_SUPPORT_GUARDED_RESOURCE_H_
#define COORD_TESTS_SUPPORT_GUARDED_RESOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/raw_redis.h"

namespace coord::testing {

// Two numbers that every visitor reads when it comes and writes back, one larger, when it goes:
// `fenced` refuses whoever has a smaller token than the largest that it has seen, `plain` takes
// everything. Connects at its first use; one thread at a time.
class GuardedResource {
 public:
  explicit GuardedResource(const std::string& url) : redis_(url) {}

  struct Visit {
    std::uint64_t token = 0;
    std::int64_t fenced = 0;
    std::int64_t plain = 0;
  };
  Visit Enter(std::uint64_t token);
  // True when it was written to `fenced` too.
  bool Leave(const Visit& visit);

  // The process that entered last, if it has not left since; else 0.
  std::int64_t Inside();

  struct Entry {
    bool leaving = false;
    std::uint64_t token = 0;
    std::int64_t process = 0;
    bool admitted = false;  // by its token
  };
  struct Account {
    std::vector<Entry> entries{};  // in the order of their coming
    std::int64_t fenced = 0;
    std::int64_t plain = 0;
    // As many writes were taken. More than the number says: updates were lost.
    std::int64_t fenced_writes = 0;
    std::int64_t plain_writes = 0;
    std::int64_t refused = 0;  // entries that only a missing fence would have let pass

    std::string Summary() const;
  };
  Account Read();

 private:
  Reply Run(const char* script, const std::vector<std::string>& arguments);

  RawRedis redis_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_GUARDED_RESOURCE_H_
