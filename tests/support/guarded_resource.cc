#include "tests/support/guarded_resource.h"

#include <unistd.h>

#include <sstream>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"

namespace coord::testing {
namespace {

using internal::StrCat;

// Tokens are below 2^53, so Lua's numbers hold them exactly.
constexpr char kEnter[] = R"(
  local token, process = tonumber(ARGV[1]), ARGV[2]
  local admitted = token >= tonumber(redis.call('GET', 'largest') or '0')
  if admitted then redis.call('SET', 'largest', ARGV[1]) end
  redis.call('RPUSH', 'entries', 'E ' .. ARGV[1] .. ' ' .. process .. ' ' .. (admitted and 1 or 0))
  redis.call('SET', 'inside', process)
  return {tonumber(redis.call('GET', 'fenced') or '0'), tonumber(redis.call('GET', 'plain') or '0')})";

constexpr char kLeave[] = R"(
  local token, process = tonumber(ARGV[1]), ARGV[2]
  local admitted = token >= tonumber(redis.call('GET', 'largest') or '0')
  if admitted then
    redis.call('SET', 'fenced', ARGV[3])
    redis.call('INCR', 'fenced_writes')
  end
  redis.call('SET', 'plain', ARGV[4])
  redis.call('INCR', 'plain_writes')
  redis.call('RPUSH', 'entries', 'L ' .. ARGV[1] .. ' ' .. process .. ' ' .. (admitted and 1 or 0))
  if redis.call('GET', 'inside') == process then redis.call('DEL', 'inside') end
  return admitted and 1 or 0)";

}  // namespace

Reply GuardedResource::Run(const char* script, const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"EVAL", script, "0"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Reply reply = redis_.Command(command);
  if (reply.is_error()) Fatal("the guarded resource: " + reply.text());
  return reply;
}

GuardedResource::Visit GuardedResource::Enter(std::uint64_t token) {
  const Reply reply = Run(kEnter, {StrCat(token), StrCat(getpid())});
  return {token, reply.items()[0].integer(), reply.items()[1].integer()};
}

bool GuardedResource::Leave(const Visit& visit) {
  return Run(kLeave, {StrCat(visit.token), StrCat(getpid()), StrCat(visit.fenced + 1),
                      StrCat(visit.plain + 1)})
             .integer() == 1;
}

std::int64_t GuardedResource::Inside() {
  return internal::ParseInt64(redis_.Command({"GET", "inside"}).text()).value_or(0);
}

GuardedResource::Account GuardedResource::Read() {
  const auto number = [this](const char* key) {
    return internal::ParseInt64(redis_.Command({"GET", key}).text()).value_or(0);
  };
  Account account;
  account.fenced = number("fenced");
  account.plain = number("plain");
  account.fenced_writes = number("fenced_writes");
  account.plain_writes = number("plain_writes");
  const Reply entries = redis_.Command({"LRANGE", "entries", "0", "-1"});
  for (const Reply& line : entries.items()) {
    std::istringstream words(line.text());
    char letter = 0;
    Entry entry;
    words >> letter >> entry.token >> entry.process >> entry.admitted;
    if (!words) Fatal("the guarded resource's record: " + line.text());
    entry.leaving = letter == 'L';
    if (!entry.admitted) ++account.refused;
    account.entries.push_back(entry);
  }
  return account;
}

std::string GuardedResource::Account::Summary() const {
  return StrCat("fenced ", fenced, " after ", fenced_writes, " writes, plain ", plain, " after ",
                plain_writes, " writes, ", refused, " entries refused\n");
}

}  // namespace coord::testing
