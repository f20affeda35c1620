// The rights of a server's user that README.md lists, and the run of the tests with no others.
//
// With COORD_TEST_ACL=1 the default user of every RedisServer has these rights, on all keys and
// channels, so that no client of the library's can have more. RawRedis signs in as another user,
// who has all. What a test has the library send beyond these rights goes through AsAdmin().
#ifndef COORD_TESTS_SUPPORT_ACL_RIGHTS_H_
#define COORD_TESTS_SUPPORT_ACL_RIGHTS_H_

#include <string>
#include <vector>

#include "tests/support/redis_server.h"

namespace coord::testing {

// Word by word, as ACL SETUSER takes them, from README.md's block of text that begins with
// "~coord:*". They stand there and nowhere else. Ends the program when there is none.
std::vector<std::string> AclRules();

// Those that this server knows: README.md names the ones that Redis 6.2 refuses as unknown.
std::vector<std::string> AclRules(const ServerVersion& version);

// Whether this is the run with COORD_TEST_ACL=1.
bool LeastRights();

// Who has all rights in that run.
inline constexpr char kAdmin[] = "admin";
inline constexpr char kAdminPassword[] = "all";

// In that run `url`, of a server or of a proxy before one, with that user in it; else as it is.
std::string AsAdmin(std::string url);

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_ACL_RIGHTS_H_
