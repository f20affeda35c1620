#include "coord/deployment/request_route.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>

#include "coord/deployment/slot.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

using enum CommandKeys::Form;

// Sorted by name. OBJECT, MEMORY, XINFO and XGROUP: their subcommands that name a key name it next,
// the others have no argument there.
constexpr CommandKeys kCommands[] = {
    {"ACL", kSome},
    {"APPEND", kKeys, 1, 1, 1},
    {"ASKING", kNone},
    {"AUTH", kNone},
    {"BGREWRITEAOF", kEveryMaster},
    {"BGSAVE", kEveryMaster},
    {"BITCOUNT", kKeys, 1, 1, 1},
    {"BITFIELD", kKeys, 1, 1, 1},
    {"BITFIELD_RO", kKeys, 1, 1, 1},
    {"BITOP", kKeys, 2, -1, 1},
    {"BITPOS", kKeys, 1, 1, 1},
    {"BLMOVE", kKeys, 1, 2, 1},
    {"BLMPOP", kCounted, 2},
    {"BLPOP", kKeys, 1, -2, 1},
    {"BRPOP", kKeys, 1, -2, 1},
    {"BRPOPLPUSH", kKeys, 1, 2, 1},
    {"BZMPOP", kCounted, 2},
    {"BZPOPMAX", kKeys, 1, -2, 1},
    {"BZPOPMIN", kKeys, 1, -2, 1},
    {"CLIENT", kNone},
    {"CLUSTER", kNone},
    {"COMMAND", kNone},
    {"COMMANDLOG", kSome},
    {"CONFIG", kSome},
    {"COPY", kKeys, 1, 2, 1},
    {"DBSIZE", kEveryMasterScan},
    {"DEBUG", kEveryMaster},
    {"DECR", kKeys, 1, 1, 1},
    {"DECRBY", kKeys, 1, 1, 1},
    {"DEL", kKeys, 1, -1, 1},
    {"DELEX", kKeys, 1, 1, 1},
    {"DELIFEQ", kKeys, 1, 1, 1},
    {"DIGEST", kKeys, 1, 1, 1},
    {"DISCARD", kNone},
    {"DUMP", kKeys, 1, 1, 1},
    {"ECHO", kNone},
    {"EVAL", kCounted, 2},
    {"EVALSHA", kCounted, 2},
    {"EVALSHA_RO", kCounted, 2},
    {"EVAL_RO", kCounted, 2},
    {"EXEC", kNone},
    {"EXISTS", kKeys, 1, -1, 1},
    {"EXPIRE", kKeys, 1, 1, 1},
    {"EXPIREAT", kKeys, 1, 1, 1},
    {"EXPIRETIME", kKeys, 1, 1, 1},
    {"FAILOVER", kOneNode},
    {"FCALL", kCounted, 2},
    {"FCALL_RO", kCounted, 2},
    {"FLUSHALL", kEveryMaster},
    {"FLUSHDB", kEveryMaster},
    {"FUNCTION", kSome},
    {"GEOADD", kKeys, 1, 1, 1},
    {"GEODIST", kKeys, 1, 1, 1},
    {"GEOHASH", kKeys, 1, 1, 1},
    {"GEOPOS", kKeys, 1, 1, 1},
    {"GEORADIUS", kGeoRadius},
    {"GEORADIUSBYMEMBER", kGeoRadius},
    {"GEORADIUSBYMEMBER_RO", kKeys, 1, 1, 1},
    {"GEORADIUS_RO", kKeys, 1, 1, 1},
    {"GEOSEARCH", kKeys, 1, 1, 1},
    {"GEOSEARCHSTORE", kKeys, 1, 2, 1},
    {"GET", kKeys, 1, 1, 1},
    {"GETBIT", kKeys, 1, 1, 1},
    {"GETDEL", kKeys, 1, 1, 1},
    {"GETEX", kKeys, 1, 1, 1},
    {"GETRANGE", kKeys, 1, 1, 1},
    {"GETSET", kKeys, 1, 1, 1},
    {"HDEL", kKeys, 1, 1, 1},
    {"HELLO", kNone},
    {"HEXISTS", kKeys, 1, 1, 1},
    {"HEXPIRE", kKeys, 1, 1, 1},
    {"HEXPIREAT", kKeys, 1, 1, 1},
    {"HEXPIRETIME", kKeys, 1, 1, 1},
    {"HGET", kKeys, 1, 1, 1},
    {"HGETALL", kKeys, 1, 1, 1},
    {"HGETDEL", kKeys, 1, 1, 1},
    {"HGETEX", kKeys, 1, 1, 1},
    {"HINCRBY", kKeys, 1, 1, 1},
    {"HINCRBYFLOAT", kKeys, 1, 1, 1},
    {"HKEYS", kKeys, 1, 1, 1},
    {"HLEN", kKeys, 1, 1, 1},
    {"HMGET", kKeys, 1, 1, 1},
    {"HMSET", kKeys, 1, 1, 1},
    {"HPERSIST", kKeys, 1, 1, 1},
    {"HPEXPIRE", kKeys, 1, 1, 1},
    {"HPEXPIREAT", kKeys, 1, 1, 1},
    {"HPEXPIRETIME", kKeys, 1, 1, 1},
    {"HPTTL", kKeys, 1, 1, 1},
    {"HRANDFIELD", kKeys, 1, 1, 1},
    {"HSCAN", kKeys, 1, 1, 1},
    {"HSET", kKeys, 1, 1, 1},
    {"HSETEX", kKeys, 1, 1, 1},
    {"HSETNX", kKeys, 1, 1, 1},
    {"HSTRLEN", kKeys, 1, 1, 1},
    {"HTTL", kKeys, 1, 1, 1},
    {"HVALS", kKeys, 1, 1, 1},
    {"INCR", kKeys, 1, 1, 1},
    {"INCRBY", kKeys, 1, 1, 1},
    {"INCRBYFLOAT", kKeys, 1, 1, 1},
    {"INFO", kNone},
    {"KEYS", kEveryMasterScan},
    {"LASTSAVE", kNone},
    {"LATENCY", kSome},
    {"LCS", kKeys, 1, 2, 1},
    {"LINDEX", kKeys, 1, 1, 1},
    {"LINSERT", kKeys, 1, 1, 1},
    {"LLEN", kKeys, 1, 1, 1},
    {"LMOVE", kKeys, 1, 2, 1},
    {"LMPOP", kCounted, 1},
    {"LOLWUT", kNone},
    {"LPOP", kKeys, 1, 1, 1},
    {"LPOS", kKeys, 1, 1, 1},
    {"LPUSH", kKeys, 1, 1, 1},
    {"LPUSHX", kKeys, 1, 1, 1},
    {"LRANGE", kKeys, 1, 1, 1},
    {"LREM", kKeys, 1, 1, 1},
    {"LSET", kKeys, 1, 1, 1},
    {"LTRIM", kKeys, 1, 1, 1},
    {"MEMORY", kKeys, 2, 2, 1},
    {"MGET", kKeys, 1, -1, 1},
    {"MIGRATE", kMigrate},
    {"MODULE", kSome},
    {"MONITOR", kOneNode},
    {"MOVE", kKeys, 1, 1, 1},
    {"MSET", kKeys, 1, -1, 2},
    {"MSETNX", kKeys, 1, -1, 2},
    {"MULTI", kNone},
    {"OBJECT", kKeys, 2, 2, 1},
    {"PERSIST", kKeys, 1, 1, 1},
    {"PEXPIRE", kKeys, 1, 1, 1},
    {"PEXPIREAT", kKeys, 1, 1, 1},
    {"PEXPIRETIME", kKeys, 1, 1, 1},
    {"PFADD", kKeys, 1, 1, 1},
    {"PFCOUNT", kKeys, 1, -1, 1},
    {"PFDEBUG", kKeys, 2, 2, 1},
    {"PFMERGE", kKeys, 1, -1, 1},
    {"PFSELFTEST", kEveryMaster},
    {"PING", kNone},
    {"PSETEX", kKeys, 1, 1, 1},
    {"PSUBSCRIBE", kNone},
    {"PSYNC", kOneNode},
    {"PTTL", kKeys, 1, 1, 1},
    {"PUBLISH", kNone},
    {"PUBSUB", kNone},
    {"PUNSUBSCRIBE", kNone},
    {"QUIT", kNone},
    {"RANDOMKEY", kEveryMasterScan},
    {"READONLY", kNone},
    {"READWRITE", kNone},
    {"RENAME", kKeys, 1, 2, 1},
    {"RENAMENX", kKeys, 1, 2, 1},
    {"REPLCONF", kOneNode},
    {"REPLICAOF", kOneNode},
    {"RESET", kNone},
    {"RESTORE", kKeys, 1, 1, 1},
    {"RESTORE-ASKING", kKeys, 1, 1, 1},
    {"ROLE", kNone},
    {"RPOP", kKeys, 1, 1, 1},
    {"RPOPLPUSH", kKeys, 1, 2, 1},
    {"RPUSH", kKeys, 1, 1, 1},
    {"RPUSHX", kKeys, 1, 1, 1},
    {"SADD", kKeys, 1, 1, 1},
    {"SAVE", kEveryMaster},
    {"SCAN", kEveryMasterScan},
    {"SCARD", kKeys, 1, 1, 1},
    {"SCRIPT", kSome},
    {"SDIFF", kKeys, 1, -1, 1},
    {"SDIFFSTORE", kKeys, 1, -1, 1},
    {"SELECT", kNone},
    {"SET", kKeys, 1, 1, 1},
    {"SETBIT", kKeys, 1, 1, 1},
    {"SETEX", kKeys, 1, 1, 1},
    {"SETNX", kKeys, 1, 1, 1},
    {"SETRANGE", kKeys, 1, 1, 1},
    {"SHUTDOWN", kOneNode},
    {"SINTER", kKeys, 1, -1, 1},
    {"SINTERCARD", kCounted, 1},
    {"SINTERSTORE", kKeys, 1, -1, 1},
    {"SISMEMBER", kKeys, 1, 1, 1},
    {"SLAVEOF", kOneNode},
    {"SLOWLOG", kSome},
    {"SMEMBERS", kKeys, 1, 1, 1},
    {"SMISMEMBER", kKeys, 1, 1, 1},
    {"SMOVE", kKeys, 1, 2, 1},
    {"SORT", kSort},
    {"SORT_RO", kKeys, 1, 1, 1},
    {"SPOP", kKeys, 1, 1, 1},
    {"SPUBLISH", kKeys, 1, 1, 1},
    {"SRANDMEMBER", kKeys, 1, 1, 1},
    {"SREM", kKeys, 1, 1, 1},
    {"SSCAN", kKeys, 1, 1, 1},
    {"SSUBSCRIBE", kKeys, 1, -1, 1},
    {"STRLEN", kKeys, 1, 1, 1},
    {"SUBSCRIBE", kNone},
    {"SUBSTR", kKeys, 1, 1, 1},
    {"SUNION", kKeys, 1, -1, 1},
    {"SUNIONSTORE", kKeys, 1, -1, 1},
    {"SUNSUBSCRIBE", kKeys, 1, -1, 1},
    {"SWAPDB", kEveryMaster},
    {"SYNC", kOneNode},
    {"TIME", kNone},
    {"TOUCH", kKeys, 1, -1, 1},
    {"TTL", kKeys, 1, 1, 1},
    {"TYPE", kKeys, 1, 1, 1},
    {"UNLINK", kKeys, 1, -1, 1},
    {"UNSUBSCRIBE", kNone},
    {"UNWATCH", kNone},
    {"VADD", kKeys, 1, 1, 1},
    {"VCARD", kKeys, 1, 1, 1},
    {"VDIM", kKeys, 1, 1, 1},
    {"VEMB", kKeys, 1, 1, 1},
    {"VGETATTR", kKeys, 1, 1, 1},
    {"VINFO", kKeys, 1, 1, 1},
    {"VISMEMBER", kKeys, 1, 1, 1},
    {"VLINKS", kKeys, 1, 1, 1},
    {"VRANDMEMBER", kKeys, 1, 1, 1},
    {"VREM", kKeys, 1, 1, 1},
    {"VSETATTR", kKeys, 1, 1, 1},
    {"VSIM", kKeys, 1, 1, 1},
    {"WAIT", kNone},
    {"WAITAOF", kNone},
    {"WATCH", kKeys, 1, -1, 1},
    {"XACK", kKeys, 1, 1, 1},
    {"XACKDEL", kKeys, 1, 1, 1},
    {"XADD", kKeys, 1, 1, 1},
    {"XAUTOCLAIM", kKeys, 1, 1, 1},
    {"XCLAIM", kKeys, 1, 1, 1},
    {"XDEL", kKeys, 1, 1, 1},
    {"XDELEX", kKeys, 1, 1, 1},
    {"XGROUP", kKeys, 2, 2, 1},
    {"XINFO", kKeys, 2, 2, 1},
    {"XLEN", kKeys, 1, 1, 1},
    {"XPENDING", kKeys, 1, 1, 1},
    {"XRANGE", kKeys, 1, 1, 1},
    {"XREAD", kStreams},
    {"XREADGROUP", kStreams},
    {"XREVRANGE", kKeys, 1, 1, 1},
    {"XSETID", kKeys, 1, 1, 1},
    {"XTRIM", kKeys, 1, 1, 1},
    {"ZADD", kKeys, 1, 1, 1},
    {"ZCARD", kKeys, 1, 1, 1},
    {"ZCOUNT", kKeys, 1, 1, 1},
    {"ZDIFF", kCounted, 1},
    {"ZDIFFSTORE", kCountedBehind, 2},
    {"ZINCRBY", kKeys, 1, 1, 1},
    {"ZINTER", kCounted, 1},
    {"ZINTERCARD", kCounted, 1},
    {"ZINTERSTORE", kCountedBehind, 2},
    {"ZLEXCOUNT", kKeys, 1, 1, 1},
    {"ZMPOP", kCounted, 1},
    {"ZMSCORE", kKeys, 1, 1, 1},
    {"ZPOPMAX", kKeys, 1, 1, 1},
    {"ZPOPMIN", kKeys, 1, 1, 1},
    {"ZRANDMEMBER", kKeys, 1, 1, 1},
    {"ZRANGE", kKeys, 1, 1, 1},
    {"ZRANGEBYLEX", kKeys, 1, 1, 1},
    {"ZRANGEBYSCORE", kKeys, 1, 1, 1},
    {"ZRANGESTORE", kKeys, 1, 2, 1},
    {"ZRANK", kKeys, 1, 1, 1},
    {"ZREM", kKeys, 1, 1, 1},
    {"ZREMRANGEBYLEX", kKeys, 1, 1, 1},
    {"ZREMRANGEBYRANK", kKeys, 1, 1, 1},
    {"ZREMRANGEBYSCORE", kKeys, 1, 1, 1},
    {"ZREVRANGE", kKeys, 1, 1, 1},
    {"ZREVRANGEBYLEX", kKeys, 1, 1, 1},
    {"ZREVRANGEBYSCORE", kKeys, 1, 1, 1},
    {"ZREVRANK", kKeys, 1, 1, 1},
    {"ZSCAN", kKeys, 1, 1, 1},
    {"ZSCORE", kKeys, 1, 1, 1},
    {"ZUNION", kCounted, 1},
    {"ZUNIONSTORE", kCountedBehind, 2},
};
static_assert(std::is_sorted(std::begin(kCommands), std::end(kCommands),
                             [](const CommandKeys& a, const CommandKeys& b) {
                               return a.name < b.name;
                             }));

// What of a kSome command concerns the node that gets it, or all of them.
constexpr struct {
  std::string_view name;
  std::string_view subcommand;
} kConcernsNodes[] = {
    {"ACL", "DELUSER"},      {"ACL", "LOAD"},         {"ACL", "SAVE"},       {"ACL", "SETUSER"},
    {"COMMANDLOG", "RESET"}, {"CONFIG", "RESETSTAT"}, {"CONFIG", "REWRITE"}, {"CONFIG", "SET"},
    {"FUNCTION", "DELETE"},  {"FUNCTION", "FLUSH"},   {"FUNCTION", "KILL"},  {"FUNCTION", "LOAD"},
    {"FUNCTION", "RESTORE"}, {"LATENCY", "RESET"},    {"MODULE", "LOAD"},    {"MODULE", "LOADEX"},
    {"MODULE", "UNLOAD"},    {"SCRIPT", "FLUSH"},     {"SCRIPT", "KILL"},    {"SCRIPT", "LOAD"},
    {"SLOWLOG", "RESET"},
};

constexpr char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

bool Is(std::string_view text, std::string_view capitals) {
  return text.size() == capitals.size() && std::equal(text.begin(), text.end(), capitals.begin(),
                                                      [](char a, char b) { return Upper(a) == b; });
}

// Reads a RESP array of bulk strings from its front.
class Arguments {
 public:
  // Of the array's header; negative when there is none.
  static constexpr int kMost = 16 << 20;

  explicit Arguments(std::string_view bytes) : rest_(bytes) {
    if (const auto count = Header('*', kMost)) count_ = static_cast<int>(*count);
  }

  int count() const { return count_; }
  // Of the next one, 0 for the command's name.
  int index() const { return index_; }
  bool malformed() const { return malformed_; }

  // The next argument; false at the end, and when what comes is none.
  bool Next(std::string_view& argument) {
    if (index_ >= count_) return false;
    const auto size = Header('$', static_cast<std::int64_t>(rest_.size()));
    if (!size) return Malformed();
    const auto length = static_cast<std::size_t>(*size);
    if (rest_.size() < length + 2 || rest_[length] != '\r' || rest_[length + 1] != '\n') {
      return Malformed();
    }
    argument = rest_.substr(0, length);
    rest_.remove_prefix(length + 2);
    ++index_;
    return true;
  }
  bool Skip(int how_many) {
    std::string_view ignored;
    for (; how_many > 0; --how_many) {
      if (!Next(ignored)) return false;
    }
    return true;
  }

 private:
  bool Malformed() {
    malformed_ = true;
    return false;
  }
  // "<type><number>\r\n".
  std::optional<std::int64_t> Header(char type, std::int64_t most) {
    if (rest_.empty() || rest_[0] != type) return std::nullopt;
    std::int64_t value = 0;
    std::size_t at = 1;
    for (; at < rest_.size() && rest_[at] >= '0' && rest_[at] <= '9'; ++at) {
      value = value * 10 + (rest_[at] - '0');
      if (value > most) return std::nullopt;
    }
    if (at == 1 || rest_.size() < at + 2 || rest_[at] != '\r' || rest_[at + 1] != '\n') {
      return std::nullopt;
    }
    rest_.remove_prefix(at + 2);
    return value;
  }

  std::string_view rest_;
  int count_ = -1;
  int index_ = 0;
  bool malformed_ = false;
};

// Each of these adds the keys that it finds. False: there is no point in going on, because a key is
// in another slot or because the command is malformed (then `keys` is void).
struct Finder {
  Arguments& arguments;
  KeysRoute& keys;
  bool wrong_form = false;

  bool WrongForm() {
    wrong_form = true;
    return false;
  }

  // The next `how_many` arguments.
  bool Take(std::int64_t how_many) {
    std::string_view key;
    for (; how_many > 0; --how_many) {
      if (!arguments.Next(key)) return WrongForm();
      if (!keys.Add(key)) return false;
    }
    return true;
  }

  bool Fixed(const CommandKeys& command) {
    int last = command.last < 0 ? arguments.count() + command.last : command.last;
    last = std::min(last, arguments.count() - 1);
    if (last < command.first) return WrongForm();
    if (!arguments.Skip(command.first - arguments.index())) return WrongForm();
    for (int at = command.first; at <= last; at += command.step) {
      if (!Take(1)) return false;
      if (at + command.step <= last && !arguments.Skip(command.step - 1)) return WrongForm();
    }
    return true;
  }

  bool Counted(int count_at) {
    if (!arguments.Skip(count_at - arguments.index())) return WrongForm();
    std::string_view text;
    if (!arguments.Next(text)) return WrongForm();
    const std::optional<std::int64_t> count = ParseInt64(text);
    if (!count || *count < 0 || *count > arguments.count() - arguments.index()) return WrongForm();
    return Take(*count);
  }

  // The last option of one of these names has a key behind it; those in `skipped` have something
  // else there.
  struct Skipped {
    std::string_view name;
    int arguments;
  };
  bool Stored(std::string_view store, std::string_view or_store, int from,
              std::initializer_list<Skipped> skipped) {
    if (!Take(1)) return false;
    // Too short for options.
    if (!arguments.Skip(from - arguments.index())) return !arguments.malformed() || WrongForm();
    std::string_view option, key;
    bool stored = false;
    while (arguments.Next(option)) {
      if (Is(option, store) || Is(option, or_store)) {
        if (!arguments.Next(key)) return WrongForm();
        stored = true;
        continue;
      }
      for (const Skipped& other : skipped) {
        if (Is(option, other.name)) arguments.Skip(other.arguments);
      }
    }
    if (arguments.malformed()) return WrongForm();
    return !stored || keys.Add(key);
  }

  bool Streams() {
    std::string_view option;
    while (arguments.Next(option)) {
      if (Is(option, "GROUP")) {
        arguments.Skip(2);
      } else if (Is(option, "COUNT") || Is(option, "BLOCK") || Is(option, "CLAIM")) {
        arguments.Skip(1);
      } else if (Is(option, "STREAMS")) {
        const int left = arguments.count() - arguments.index();
        if (left == 0 || left % 2 != 0) return WrongForm();
        return Take(left / 2);
      }
    }
    return WrongForm();
  }

  bool Migrate() {
    std::string_view text;
    if (!arguments.Skip(2) || !arguments.Next(text)) return WrongForm();
    if (!text.empty()) return keys.Add(text);
    arguments.Skip(2);
    while (arguments.Next(text)) {
      if (Is(text, "AUTH")) {
        arguments.Skip(1);
      } else if (Is(text, "AUTH2")) {
        arguments.Skip(2);
      } else if (Is(text, "KEYS")) {
        return Take(arguments.count() - arguments.index());
      }
    }
    return WrongForm();
  }

  bool Find(const CommandKeys& command) {
    switch (command.form) {
      case kKeys:
        return Fixed(command);
      case kCounted:
        return Counted(command.first);
      case kCountedBehind:
        return Take(1) && Counted(command.first);
      case kSort:
        return Stored("STORE", "STORE", 2, {{"LIMIT", 2}, {"GET", 1}, {"BY", 1}});
      case kGeoRadius:
        return Stored("STORE", "STOREDIST", 5, {{"COUNT", 1}});
      case kStreams:
        return Streams();
      case kMigrate:
        return Migrate();
      case kNone:
      case kSome:
      case kEveryMaster:
      case kEveryMasterScan:
      case kOneNode:
        break;
    }
    return true;
  }
};

absl::Status Refused(const CommandKeys& command, std::string_view subcommand,
                     std::string_view what) {
  std::string name(command.name);
  if (!subcommand.empty()) name += StrCat(" ", subcommand);
  constexpr std::string_view kEvery =
      " concerns every master of the Cluster, and a Client sends a command to one; ";
  if (command.form == kEveryMasterScan) {
    return InvalidArgument(
        StrCat(what, ": ", name, kEvery, "use coord::ScanKeys of coord/keyspace.h"));
  }
  if (command.form == kOneNode) {
    return InvalidArgument(StrCat(what, ": ", name,
                                  " concerns one certain node of the Cluster; connect to that node "
                                  "with redis://"));
  }
  return InvalidArgument(
      StrCat(what, ": ", name, kEvery, "connect to that node with redis://, and to each in turn"));
}

absl::Status NotACommand(std::string_view what) {
  return InvalidArgument(StrCat(what, ": these bytes are not one encoded command"));
}

}  // namespace

const CommandKeys* FindCommandKeys(std::string_view name) {
  char capitals[24];
  if (name.size() > sizeof(capitals)) return nullptr;
  std::transform(name.begin(), name.end(), capitals, Upper);
  const std::string_view wanted(capitals, name.size());
  const auto* const found =
      std::lower_bound(std::begin(kCommands), std::end(kCommands), wanted,
                       [](const CommandKeys& a, std::string_view b) { return a.name < b; });
  return found != std::end(kCommands) && found->name == wanted ? found : nullptr;
}

bool KeysRoute::Add(std::string_view key) {
  if (slot_ < 0) {
    first_ = key;
    tag_ = HashTag(key);
    slot_ = Crc16(tag_) % kSlots;
    return true;
  }
  const std::string_view tag = HashTag(key);
  if (tag == tag_) return true;
  const int slot = Crc16(tag) % kSlots;
  if (slot == slot_) return true;
  stray_ = key;
  stray_slot_ = slot;
  return false;
}

absl::Status KeysRoute::status() const {
  if (stray_slot_ < 0) return absl::OkStatus();
  return InvalidArgument(
      StrCat(what_, ": keys ", Quoted(first_), " and ", Quoted(stray_), " are in different slots (",
             slot_, " and ", stray_slot_,
             ") of the Cluster, where one command can only touch one; give them a common {tag}"));
}

Route KeysRoute::route() const {
  return slot_ < 0 ? Route{Route::Kind::kAnyNode, -1} : Route{Route::Kind::kSlot, slot_};
}

absl::StatusOr<Route> RouteOf(std::string_view bytes, std::string_view what) {
  constexpr Route kAny{Route::Kind::kAnyNode, -1};
  Arguments arguments(bytes);
  std::string_view name;
  if (arguments.count() < 1 || !arguments.Next(name)) return NotACommand(what);
  const CommandKeys* const command = FindCommandKeys(name);
  if (command == nullptr) return Route{Route::Kind::kAskServer, -1};
  switch (command->form) {
    case kNone:
      return kAny;
    case kSome: {
      std::string_view subcommand;
      if (!arguments.Next(subcommand)) return kAny;
      for (const auto& refused : kConcernsNodes) {
        if (refused.name == command->name && Is(subcommand, refused.subcommand)) {
          return Refused(*command, refused.subcommand, what);
        }
      }
      return kAny;
    }
    case kEveryMaster:
    case kEveryMasterScan:
    case kOneNode:
      return Refused(*command, "", what);
    default:
      break;
  }
  KeysRoute keys(what);
  Finder finder{arguments, keys};
  if (finder.Find(*command)) return keys.route();
  if (arguments.malformed()) return NotACommand(what);
  if (finder.wrong_form) return kAny;
  return keys.status();
}

}  // namespace coord::internal
