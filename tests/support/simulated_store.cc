#include "tests/support/simulated_store.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"

namespace coord::testing {
namespace {

using internal::StrCat;
using Kind = Reply::Kind;

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMinInt = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMaxString = 512 << 20;

Reply Ok() { return Reply::Text(Kind::kStatus, "OK"); }
Reply Bulk(std::string text) { return Reply::Text(Kind::kString, std::move(text)); }
// An error that repeats a client's words, which may hold line ends.
Reply Error(std::string text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.pop_back();
  for (char& c : text) c = c == '\r' || c == '\n' ? ' ' : c;
  return Reply::Text(Kind::kError, std::move(text));
}
Reply Array(std::vector<Reply> items = {}) { return Reply::Items(Kind::kArray, std::move(items)); }
template <typename Size>
Reply Count(Size count) {
  return Reply::Integer(static_cast<std::int64_t>(count));
}
Reply WrongType() {
  return Error("WRONGTYPE Operation against a key holding the wrong kind of value");
}
Reply NotAnInteger() { return Error("ERR value is not an integer or out of range"); }
Reply NotARange() { return Error("ERR min or max is not a float"); }
Reply SyntaxError() { return Error("ERR syntax error"); }
Reply InvalidExpiry(std::string_view command) {
  return Error(StrCat("ERR invalid expire time in '", command, "' command"));
}
Reply WrongArity(std::string_view command) {
  return Error(StrCat("ERR wrong number of arguments for '", command, "' command"));
}

[[noreturn]] void NotSimulated(std::string_view what) {
  Fatal(StrCat("the simulated Redis does not know ", what));
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// As the server reads integers: no sign but '-', no leading zero, no space.
std::optional<std::int64_t> ParseInteger(const std::string& text) {
  const std::string_view digits = std::string_view(text).substr(text.starts_with('-') ? 1 : 0);
  if (digits.empty() || (digits[0] == '0' && text.size() > 1)) return std::nullopt;
  return internal::ParseInt64(text);
}

// As the server reads scores and bounds: what strtod takes.
std::optional<double> ParseBound(const std::string& text, std::size_t from) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str() + from, &end);
  if (*end != '\0' || std::isnan(value)) return std::nullopt;
  return value;
}

std::optional<double> ParseScore(const std::string& text) {
  if (text.empty() || std::isspace(static_cast<unsigned char>(text[0])) != 0) return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const double value = std::strtod(text.c_str(), &end);
  if (end != text.c_str() + text.size() || std::isnan(value)) return std::nullopt;
  if (errno == ERANGE && (std::isinf(value) || value == 0)) return std::nullopt;
  return value;
}

std::string ScoreText(double score) {
  if (std::isinf(score)) return score > 0 ? "inf" : "-inf";
  std::array<char, 64> text;
  const int size = std::snprintf(text.data(), text.size(), "%.17g", score);
  return std::string(text.data(), static_cast<std::size_t>(size));
}

// The half-open range of positions that first..last (both may count from the end) stand for.
struct Positions {
  std::int64_t begin = 0;
  std::int64_t end = 0;  // begin == end: none
};
Positions Clip(std::int64_t first, std::int64_t last, std::size_t size) {
  const auto length = static_cast<std::int64_t>(size);
  if (first < 0) first = std::max<std::int64_t>(length + first, 0);
  if (last < 0) last = length + last;
  if (first > last || first >= length) return {};
  return {first, std::min(last, length - 1) + 1};
}

}  // namespace

const std::unordered_map<std::string_view, SimulatedStore::Handler>& SimulatedStore::Handlers() {
  using S = SimulatedStore;
  static const auto* const handlers = [] {
    static constexpr Handler kAll[] = {
        {"get", 2, &S::Get},
        {"mget", -2, &S::MGet},
        {"set", -3, &S::Set},
        {"del", -2, &S::Del},
        {"unlink", -2, &S::Del},
        {"exists", -2, &S::Exists},
        {"type", 2, &S::Type},
        {"expire", -3, &S::Expire},
        {"pexpire", -3, &S::PExpire},
        {"expireat", -3, &S::ExpireAtSeconds},
        {"pexpireat", -3, &S::PExpireAt},
        {"ttl", 2, &S::Ttl},
        {"pttl", 2, &S::PTtl},
        {"expiretime", 2, &S::ExpireTime},
        {"pexpiretime", 2, &S::PExpireTime},
        {"persist", 2, &S::Persist},
        {"rename", 3, &S::Rename},
        {"time", 1, &S::Time},
        {"publish", 3, &S::Publish},
        {"spublish", 3, &S::SPublish},
        {"ping", -1, &S::Ping},
        {"echo", 2, &S::Echo},
        {"flushall", -1, &S::FlushAll},
        {"info", -1, &S::Info},
        {"dbsize", 1, &S::DbSize},
        {"incr", 2, &S::Incr},
        {"decr", 2, &S::Decr},
        {"incrby", 3, &S::IncrBy},
        {"decrby", 3, &S::DecrBy},
        {"strlen", 2, &S::StrLen},
        {"getrange", 4, &S::GetRange},
        {"setrange", 4, &S::SetRange},
        {"append", 3, &S::Append},
        {"getdel", 2, &S::GetDel},
        {"getex", -2, &S::GetEx},
        {"lpush", -3, &S::LPush},
        {"rpush", -3, &S::RPush},
        {"lpop", -2, &S::LPop},
        {"rpop", -2, &S::RPop},
        {"llen", 2, &S::LLen},
        {"lrange", 4, &S::LRange},
        {"ltrim", 4, &S::LTrim},
        {"lindex", 3, &S::LIndex},
        {"lset", 4, &S::LSet},
        {"linsert", 5, &S::LInsert},
        {"lrem", 4, &S::LRem},
        {"lpos", -3, &S::LPos},
        {"hset", -4, &S::HSet},
        {"hsetnx", 4, &S::HSetNx},
        {"hget", 3, &S::HGet},
        {"hmget", -3, &S::HMGet},
        {"hdel", -3, &S::HDel},
        {"hlen", 2, &S::HLen},
        {"hexists", 3, &S::HExists},
        {"hgetall", 2, &S::HGetAll},
        {"hincrby", 4, &S::HIncrBy},
        {"sadd", -3, &S::SAdd},
        {"srem", -3, &S::SRem},
        {"smembers", 2, &S::SMembers},
        {"scard", 2, &S::SCard},
        {"sismember", 3, &S::SIsMember},
        {"zadd", -4, &S::ZAdd},
        {"zrem", -3, &S::ZRem},
        {"zscore", 3, &S::ZScore},
        {"zcard", 2, &S::ZCard},
        {"zcount", 4, &S::ZCount},
        {"zrange", -4, &S::ZRange},
        {"zrangebyscore", -4, &S::ZRangeByScore},
        {"zremrangebyscore", 4, &S::ZRemRangeByScore},
        {"zremrangebyrank", 4, &S::ZRemRangeByRank},
        {"zpopmin", -2, &S::ZPopMin},
        {"zrank", 3, &S::ZRank},
    };
    auto* const map = new std::unordered_map<std::string_view, Handler>();
    for (const Handler& handler : kAll) map->emplace(handler.name, handler);
    return map;
  }();
  return *handlers;
}

Reply SimulatedStore::Run(Args args, bool from_script) {
  if (args.empty()) Fatal("a command without a name");
  const std::string name = Lower(args[0]);
  const auto found = Handlers().find(name);
  if (found == Handlers().end()) NotSimulated(StrCat("the command ", args[0]));
  const Handler& handler = found->second;
  const auto given = static_cast<int>(args.size());
  if (handler.arity >= 0 ? given != handler.arity : given < -handler.arity) {
    return from_script ? Error("ERR Wrong number of args calling Redis command from script")
                       : WrongArity(name);
  }
  ++command_calls_[name];
  return (this->*handler.run)(args);
}

SimulatedStore::Entry* SimulatedStore::Live(const std::string& key) {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return nullptr;
  // In the millisecond in which its time is up a key is still there.
  if (found->second.expire_ms && now_ms() > *found->second.expire_ms) {
    keys_.erase(found);
    return nullptr;
  }
  return &found->second;
}

void SimulatedStore::RemoveExpired() {
  std::erase_if(keys_, [this](const auto& entry) {
    return entry.second.expire_ms && now_ms() > *entry.second.expire_ms;
  });
}

template <typename T>
SimulatedStore::Found<T> SimulatedStore::Find(const std::string& key) {
  Entry* const entry = Live(key);
  if (entry == nullptr) return {};
  T* const value = std::get_if<T>(&entry->value);
  return {entry, value, value == nullptr};
}

// REQUIRES: the key holds a T or nothing.
template <typename T>
T& SimulatedStore::FindOrMake(const std::string& key) {
  if (Entry* const entry = Live(key)) return std::get<T>(entry->value);
  return std::get<T>(keys_.emplace(key, Entry{T(), std::nullopt}).first->second.value);
}

template <typename T>
void SimulatedStore::EraseIfEmpty(const std::string& key, const T& value) {
  if (value.empty()) keys_.erase(key);
}

// Keys of any type.

Reply SimulatedStore::Del(Args a) {
  std::int64_t deleted = 0;
  for (const std::string& key : a.subspan(1)) {
    if (Live(key) == nullptr) continue;
    keys_.erase(key);
    ++deleted;
  }
  return Reply::Integer(deleted);
}

Reply SimulatedStore::Exists(Args a) {
  std::int64_t found = 0;
  for (const std::string& key : a.subspan(1)) found += Live(key) != nullptr ? 1 : 0;
  return Reply::Integer(found);
}

Reply SimulatedStore::Type(Args a) {
  static constexpr std::array kNames = {"string", "list", "hash", "set", "zset"};
  const Entry* const entry = Live(a[1]);
  return Reply::Text(Kind::kStatus, entry == nullptr ? "none" : kNames[entry->value.index()]);
}

Reply SimulatedStore::ExpireAt(Args a, std::int64_t base, bool seconds) {
  bool nx = false, xx = false, gt = false, lt = false;
  for (const std::string& argument : a.subspan(3)) {
    const std::string option = Lower(argument);
    if (option == "nx") {
      nx = true;
    } else if (option == "xx") {
      xx = true;
    } else if (option == "gt") {
      gt = true;
    } else if (option == "lt") {
      lt = true;
    } else {
      return Error(StrCat("ERR Unsupported option ", argument));
    }
  }
  if (nx && (xx || gt || lt)) {
    return Error("ERR NX and XX, GT or LT options at the same time are not compatible");
  }
  if (gt && lt) return Error("ERR GT and LT options at the same time are not compatible");
  const std::optional<std::int64_t> given = ParseInteger(a[2]);
  if (!given) return NotAnInteger();
  std::int64_t when = *given;
  if (seconds) {
    if (when > kMaxInt / 1000 || when < kMinInt / 1000) return InvalidExpiry(Lower(a[0]));
    when *= 1000;
  }
  if (when > kMaxInt - base) return InvalidExpiry(Lower(a[0]));
  when += base;

  Entry* const entry = Live(a[1]);
  if (entry == nullptr) return Reply::Integer(0);
  const std::optional<std::int64_t> current = entry->expire_ms;
  // A key without a time to live counts as one that lives for ever.
  if ((nx && current) || (xx && !current) || (gt && (!current || when <= *current)) ||
      (lt && current && when >= *current)) {
    return Reply::Integer(0);
  }
  if (when <= now_ms()) {
    keys_.erase(a[1]);
  } else {
    entry->expire_ms = when;
  }
  return Reply::Integer(1);
}

Reply SimulatedStore::TimeToLive(Args a, bool seconds, bool absolute) {
  const Entry* const entry = Live(a[1]);
  if (entry == nullptr) return Reply::Integer(-2);
  if (!entry->expire_ms) return Reply::Integer(-1);
  const std::int64_t ms =
      absolute ? *entry->expire_ms : std::max<std::int64_t>(*entry->expire_ms - now_ms(), 0);
  return Reply::Integer(seconds ? (ms + 500) / 1000 : ms);
}

Reply SimulatedStore::Persist(Args a) {
  Entry* const entry = Live(a[1]);
  if (entry == nullptr || !entry->expire_ms) return Reply::Integer(0);
  entry->expire_ms.reset();
  return Reply::Integer(1);
}

Reply SimulatedStore::Rename(Args a) {
  if (Live(a[1]) == nullptr) return Error("ERR no such key");
  if (a[1] != a[2]) {
    auto moved = keys_.extract(a[1]);
    moved.key() = a[2];
    keys_.erase(a[2]);
    keys_.insert(std::move(moved));
  }
  return Ok();
}

// The server itself.

Reply SimulatedStore::Time(Args) {
  return Array({Bulk(std::to_string(now_us_ / 1000000)), Bulk(std::to_string(now_us_ % 1000000))});
}

Reply SimulatedStore::Publish(Args a) {
  published_.push_back({a[1], a[2], false});
  return Reply::Integer(receivers_ ? receivers_(published_.back()) : 0);
}

Reply SimulatedStore::SPublish(Args a) {
  published_.push_back({a[1], a[2], true});
  return Reply::Integer(receivers_ ? receivers_(published_.back()) : 0);
}

Reply SimulatedStore::Ping(Args a) {
  if (a.size() > 2) return WrongArity("ping");
  return a.size() == 2 ? Bulk(a[1]) : Reply::Text(Kind::kStatus, "PONG");
}

Reply SimulatedStore::Echo(Args a) { return Bulk(a[1]); }

Reply SimulatedStore::FlushAll(Args a) {
  if (a.size() > 2) return SyntaxError();
  if (a.size() == 2 && Lower(a[1]) != "sync" && Lower(a[1]) != "async") return SyntaxError();
  keys_.clear();
  return Ok();
}

Reply SimulatedStore::Info(Args a) {
  const std::string server = StrCat("# Server\r\nredis_version:7.0.15\r\nrun_id:", run_id_, "\r\n");
  if (a.size() == 2 && Lower(a[1]) == "server") return Bulk(server);
  if (a.size() != 1) NotSimulated("INFO of another section than server");
  // Of all sections no more than what the scripts look for.
  return Bulk(StrCat(server, "\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n",
                     "\r\n# Cluster\r\ncluster_enabled:0\r\n"));
}

Reply SimulatedStore::DbSize(Args) { return Count(keys_.size()); }

// Strings.

// An error reply, or nothing.
std::optional<Reply> SimulatedStore::ParseStringOptions(Args a, std::size_t first, bool is_set,
                                                        StringOptions& options) const {
  for (std::size_t i = first; i < a.size(); ++i) {
    const std::string option = Lower(a[i]);
    const bool is_relative = option == "ex" || option == "px";
    const bool is_absolute = option == "exat" || option == "pxat";
    if (is_set && option == "nx" && !options.xx) {
      options.nx = true;
    } else if (is_set && option == "xx" && !options.nx) {
      options.xx = true;
    } else if (is_set && option == "get") {
      options.get = true;
    } else if (is_set && option == "keepttl" && options.expire == nullptr) {
      options.keep_ttl = true;
    } else if (!is_set && option == "persist" && options.expire == nullptr) {
      options.persist = true;
    } else if ((is_relative || is_absolute) && i + 1 < a.size() && !options.keep_ttl &&
               !options.persist) {
      // The same option twice is fine, two different ones are not.
      const bool is_seconds = option == "ex" || option == "exat";
      if (options.expire != nullptr &&
          (options.relative != is_relative || options.seconds != is_seconds)) {
        return SyntaxError();
      }
      options.relative = is_relative;
      options.absolute = is_absolute;
      options.seconds = is_seconds;
      options.expire = &a[++i];
    } else {
      return SyntaxError();
    }
  }
  return std::nullopt;
}

// An error reply, or nothing and in `at_ms` when it expires, if ever.
std::optional<Reply> SimulatedStore::ExpiryOf(const StringOptions& options,
                                              std::string_view command,
                                              std::optional<std::int64_t>& at_ms) const {
  if (options.expire == nullptr) return std::nullopt;
  const std::optional<std::int64_t> given = ParseInteger(*options.expire);
  if (!given) return NotAnInteger();
  std::int64_t ms = *given;
  if (ms <= 0 || (options.seconds && ms > kMaxInt / 1000)) return InvalidExpiry(command);
  if (options.seconds) ms *= 1000;
  if (options.relative) {
    if (ms > kMaxInt - now_ms()) return InvalidExpiry(command);
    ms += now_ms();
  }
  at_ms = ms;
  return std::nullopt;
}

Reply SimulatedStore::Get(Args a) {
  const Found<String> found = Find<String>(a[1]);
  if (found.wrong_type) return WrongType();
  return found.value == nullptr ? Reply() : Bulk(*found.value);
}

Reply SimulatedStore::MGet(Args a) {
  std::vector<Reply> values;
  for (const std::string& key : a.subspan(1)) {
    const Found<String> found = Find<String>(key);
    values.push_back(found.value == nullptr ? Reply() : Bulk(*found.value));
  }
  return Array(std::move(values));
}

Reply SimulatedStore::Set(Args a) {
  StringOptions options;
  if (auto error = ParseStringOptions(a, 3, true, options)) return *std::move(error);
  std::optional<std::int64_t> at_ms;
  if (auto error = ExpiryOf(options, "set", at_ms)) return *std::move(error);
  Entry* const entry = Live(a[1]);
  Reply before;
  if (options.get && entry != nullptr) {
    const String* const value = std::get_if<String>(&entry->value);
    if (value == nullptr) return WrongType();
    before = Bulk(*value);
  }
  if (entry != nullptr ? options.nx : options.xx) return before;
  if (entry == nullptr) {
    keys_.emplace(a[1], Entry{a[2], at_ms});
  } else {
    entry->value = a[2];
    if (!options.keep_ttl) entry->expire_ms = at_ms;
  }
  return options.get ? before : Ok();
}

Reply SimulatedStore::GetDel(Args a) {
  Reply reply = Get(a);
  if (reply.is_string()) keys_.erase(a[1]);
  return reply;
}

Reply SimulatedStore::GetEx(Args a) {
  StringOptions options;
  if (auto error = ParseStringOptions(a, 2, false, options)) return *std::move(error);
  Reply reply = Get(a);
  if (!reply.is_string()) return reply;
  std::optional<std::int64_t> at_ms;
  if (auto error = ExpiryOf(options, "getex", at_ms)) return *std::move(error);
  Entry* const entry = Live(a[1]);
  if (options.absolute && *at_ms <= now_ms()) {
    keys_.erase(a[1]);
  } else if (at_ms) {
    entry->expire_ms = at_ms;
  } else if (options.persist) {
    entry->expire_ms.reset();
  }
  return reply;
}

Reply SimulatedStore::StrLen(Args a) {
  const Found<String> found = Find<String>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : found.value->size());
}

Reply SimulatedStore::GetRange(Args a) {
  const std::optional<std::int64_t> first = ParseInteger(a[2]);
  const std::optional<std::int64_t> last = ParseInteger(a[3]);
  if (!first || !last) return NotAnInteger();
  const Found<String> found = Find<String>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr || (*first < 0 && *last < 0 && *first > *last)) return Bulk("");
  const auto size = static_cast<std::int64_t>(found.value->size());
  // Unlike in lists, an end before the first byte stands for the first byte.
  const std::int64_t end = *last < 0 ? std::max<std::int64_t>(size + *last, 0) : *last;
  const Positions range = Clip(*first, end, found.value->size());
  return Bulk(found.value->substr(static_cast<std::size_t>(range.begin),
                                  static_cast<std::size_t>(range.end - range.begin)));
}

Reply SimulatedStore::SetRange(Args a) {
  const std::optional<std::int64_t> offset = ParseInteger(a[2]);
  if (!offset) return NotAnInteger();
  if (*offset < 0) return Error("ERR offset is out of range");
  const std::string& piece = a[3];
  const Found<String> found = Find<String>(a[1]);
  if (found.wrong_type) return WrongType();
  if (piece.empty()) return Count(found.value == nullptr ? 0 : found.value->size());
  if (*offset > kMaxString - static_cast<std::int64_t>(piece.size())) {
    return Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
  }
  String& text = FindOrMake<String>(a[1]);
  const auto at = static_cast<std::size_t>(*offset);
  if (text.size() < at + piece.size()) text.resize(at + piece.size(), '\0');
  text.replace(at, piece.size(), piece);
  return Count(text.size());
}

Reply SimulatedStore::Append(Args a) {
  if (Find<String>(a[1]).wrong_type) return WrongType();
  String& text = FindOrMake<String>(a[1]);
  text += a[2];
  return Count(text.size());
}

Reply SimulatedStore::Add(const std::string& key, std::int64_t amount) {
  const Found<String> found = Find<String>(key);
  if (found.wrong_type) return WrongType();
  const std::optional<std::int64_t> before =
      found.value == nullptr ? std::optional<std::int64_t>(0) : ParseInteger(*found.value);
  if (!before) return NotAnInteger();
  std::int64_t sum = 0;
  if (__builtin_add_overflow(*before, amount, &sum)) {
    return Error("ERR increment or decrement would overflow");
  }
  FindOrMake<String>(key) = std::to_string(sum);
  return Reply::Integer(sum);
}

Reply SimulatedStore::IncrBy(Args a) {
  const std::optional<std::int64_t> amount = ParseInteger(a[2]);
  return amount ? Add(a[1], *amount) : NotAnInteger();
}

Reply SimulatedStore::DecrBy(Args a) {
  const std::optional<std::int64_t> amount = ParseInteger(a[2]);
  if (!amount) return NotAnInteger();
  if (*amount == kMinInt) return Error("ERR decrement would overflow");
  return Add(a[1], -*amount);
}

// Lists.

Reply SimulatedStore::Push(Args a, bool left) {
  if (Find<List>(a[1]).wrong_type) return WrongType();
  List& list = FindOrMake<List>(a[1]);
  for (const std::string& item : a.subspan(2)) {
    if (left) {
      list.push_front(item);
    } else {
      list.push_back(item);
    }
  }
  return Count(list.size());
}

Reply SimulatedStore::Pop(Args a, bool left) {
  if (a.size() > 3) return WrongArity(left ? "lpop" : "rpop");
  const bool counted = a.size() == 3;
  const std::optional<std::int64_t> given = counted ? ParseInteger(a[2]) : 1;
  if (!given || *given < 0) return Error("ERR value is out of range, must be positive");
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply();
  List& list = *found.value;
  std::vector<Reply> popped;
  while (!list.empty() && popped.size() < static_cast<std::size_t>(*given)) {
    popped.push_back(Bulk(left ? list.front() : list.back()));
    if (left) {
      list.pop_front();
    } else {
      list.pop_back();
    }
  }
  EraseIfEmpty(a[1], list);
  return counted ? Array(std::move(popped)) : std::move(popped[0]);
}

Reply SimulatedStore::LLen(Args a) {
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : found.value->size());
}

Reply SimulatedStore::LRange(Args a) {
  const std::optional<std::int64_t> first = ParseInteger(a[2]);
  const std::optional<std::int64_t> last = ParseInteger(a[3]);
  if (!first || !last) return NotAnInteger();
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  std::vector<Reply> items;
  if (found.value != nullptr) {
    const Positions range = Clip(*first, *last, found.value->size());
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      items.push_back(Bulk((*found.value)[static_cast<std::size_t>(i)]));
    }
  }
  return Array(std::move(items));
}

Reply SimulatedStore::LTrim(Args a) {
  const std::optional<std::int64_t> first = ParseInteger(a[2]);
  const std::optional<std::int64_t> last = ParseInteger(a[3]);
  if (!first || !last) return NotAnInteger();
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Ok();
  List& list = *found.value;
  const Positions range = Clip(*first, *last, list.size());
  list.erase(list.begin() + range.end, list.end());
  list.erase(list.begin(), list.begin() + range.begin);
  EraseIfEmpty(a[1], list);
  return Ok();
}

Reply SimulatedStore::LIndex(Args a) {
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply();
  const std::optional<std::int64_t> index = ParseInteger(a[2]);
  if (!index) return NotAnInteger();
  const auto size = static_cast<std::int64_t>(found.value->size());
  const std::int64_t at = *index < 0 ? size + *index : *index;
  if (at < 0 || at >= size) return Reply();
  return Bulk((*found.value)[static_cast<std::size_t>(at)]);
}

Reply SimulatedStore::LSet(Args a) {
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Error("ERR no such key");
  const std::optional<std::int64_t> index = ParseInteger(a[2]);
  if (!index) return NotAnInteger();
  const auto size = static_cast<std::int64_t>(found.value->size());
  const std::int64_t at = *index < 0 ? size + *index : *index;
  if (at < 0 || at >= size) return Error("ERR index out of range");
  (*found.value)[static_cast<std::size_t>(at)] = a[3];
  return Ok();
}

Reply SimulatedStore::LInsert(Args a) {
  const std::string where = Lower(a[2]);
  if (where != "before" && where != "after") return SyntaxError();
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  const auto pivot = std::find(found.value->begin(), found.value->end(), a[3]);
  if (pivot == found.value->end()) return Reply::Integer(-1);
  found.value->insert(where == "before" ? pivot : std::next(pivot), a[4]);
  return Count(found.value->size());
}

Reply SimulatedStore::LRem(Args a) {
  const std::optional<std::int64_t> given = ParseInteger(a[2]);
  if (!given) return NotAnInteger();
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  List& list = *found.value;
  const bool from_tail = *given < 0;
  if (from_tail) std::reverse(list.begin(), list.end());
  const std::uint64_t most =
      from_tail ? 0 - static_cast<std::uint64_t>(*given) : static_cast<std::uint64_t>(*given);
  std::uint64_t removed = 0;
  std::erase_if(list, [&](const std::string& item) {
    if (item != a[3] || (most != 0 && removed >= most)) return false;
    ++removed;
    return true;
  });
  if (from_tail) std::reverse(list.begin(), list.end());
  EraseIfEmpty(a[1], list);
  return Count(removed);
}

Reply SimulatedStore::LPos(Args a) {
  std::int64_t rank = 1, most = 0;
  std::optional<std::int64_t> count;
  for (std::size_t i = 3; i < a.size(); i += 2) {
    const std::string option = Lower(a[i]);
    if (i + 1 >= a.size()) return SyntaxError();
    const std::optional<std::int64_t> value = ParseInteger(a[i + 1]);
    if (option == "rank") {
      if (!value) return NotAnInteger();
      if (*value == 0) {
        return Error(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
            "or use negative to start from the end of the list");
      }
      if (*value == kMinInt) NotSimulated("LPOS with the least RANK, which overflows");
      rank = *value;
    } else if (option == "count") {
      if (!value || *value < 0) return Error("ERR COUNT can't be negative");
      count = value;
    } else if (option == "maxlen") {
      if (!value || *value < 0) return Error("ERR MAXLEN can't be negative");
      most = *value;
    } else {
      return SyntaxError();
    }
  }
  const Found<List> found = Find<List>(a[1]);
  if (found.wrong_type) return WrongType();
  std::vector<Reply> positions;
  if (found.value != nullptr) {
    const auto size = static_cast<std::int64_t>(found.value->size());
    const std::int64_t wanted = count.value_or(1);
    std::int64_t matches = 0;
    for (std::int64_t i = 0; i < size && (most == 0 || i < most); ++i) {
      const std::int64_t at = rank > 0 ? i : size - 1 - i;
      if ((*found.value)[static_cast<std::size_t>(at)] != a[2]) continue;
      if (++matches < std::abs(rank)) continue;
      positions.push_back(Reply::Integer(at));
      if (static_cast<std::int64_t>(positions.size()) == wanted) break;
    }
  }
  if (count) return Array(std::move(positions));
  return positions.empty() ? Reply() : positions[0];
}

// Hashes.

SimulatedStore::Hash::iterator SimulatedStore::Field(Hash& hash, const std::string& name) {
  return std::find_if(hash.begin(), hash.end(),
                      [&name](const auto& field) { return field.first == name; });
}

Reply SimulatedStore::HSet(Args a) {
  if (a.size() % 2 != 0) return WrongArity("hset");
  if (Find<Hash>(a[1]).wrong_type) return WrongType();
  Hash& hash = FindOrMake<Hash>(a[1]);
  std::int64_t added = 0;
  for (std::size_t i = 2; i < a.size(); i += 2) {
    const auto field = Field(hash, a[i]);
    if (field != hash.end()) {
      field->second = a[i + 1];
    } else {
      hash.emplace_back(a[i], a[i + 1]);
      ++added;
    }
  }
  return Reply::Integer(added);
}

Reply SimulatedStore::HSetNx(Args a) {
  if (Find<Hash>(a[1]).wrong_type) return WrongType();
  Hash& hash = FindOrMake<Hash>(a[1]);
  if (Field(hash, a[2]) != hash.end()) return Reply::Integer(0);
  hash.emplace_back(a[2], a[3]);
  return Reply::Integer(1);
}

Reply SimulatedStore::HGet(Args a) {
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply();
  const auto field = Field(*found.value, a[2]);
  return field == found.value->end() ? Reply() : Bulk(field->second);
}

Reply SimulatedStore::HMGet(Args a) {
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  std::vector<Reply> values(a.size() - 2);
  for (std::size_t i = 2; found.value != nullptr && i < a.size(); ++i) {
    const auto field = Field(*found.value, a[i]);
    if (field != found.value->end()) values[i - 2] = Bulk(field->second);
  }
  return Array(std::move(values));
}

Reply SimulatedStore::HDel(Args a) {
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  std::int64_t removed = 0;
  for (const std::string& name : a.subspan(2)) {
    const auto field = Field(*found.value, name);
    if (field == found.value->end()) continue;
    found.value->erase(field);
    ++removed;
  }
  EraseIfEmpty(a[1], *found.value);
  return Reply::Integer(removed);
}

Reply SimulatedStore::HLen(Args a) {
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : found.value->size());
}

Reply SimulatedStore::HExists(Args a) {
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  return Reply::Integer(
      found.value != nullptr && Field(*found.value, a[2]) != found.value->end() ? 1 : 0);
}

Reply SimulatedStore::HGetAll(Args a) {
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  std::vector<Reply> items;
  if (found.value != nullptr) {
    for (const auto& [name, value] : *found.value) {
      items.push_back(Bulk(name));
      items.push_back(Bulk(value));
    }
  }
  return Array(std::move(items));
}

Reply SimulatedStore::HIncrBy(Args a) {
  const std::optional<std::int64_t> amount = ParseInteger(a[3]);
  if (!amount) return NotAnInteger();
  const Found<Hash> found = Find<Hash>(a[1]);
  if (found.wrong_type) return WrongType();
  std::optional<std::int64_t> before = 0;
  if (found.value != nullptr) {
    const auto field = Field(*found.value, a[2]);
    if (field != found.value->end()) before = ParseInteger(field->second);
  }
  if (!before) return Error("ERR hash value is not an integer");
  std::int64_t sum = 0;
  if (__builtin_add_overflow(*before, *amount, &sum)) {
    return Error("ERR increment or decrement would overflow");
  }
  Hash& hash = FindOrMake<Hash>(a[1]);
  const auto field = Field(hash, a[2]);
  if (field != hash.end()) {
    field->second = std::to_string(sum);
  } else {
    hash.emplace_back(a[2], std::to_string(sum));
  }
  return Reply::Integer(sum);
}

// Sets.

Reply SimulatedStore::SAdd(Args a) {
  if (Find<Members>(a[1]).wrong_type) return WrongType();
  Members& set = FindOrMake<Members>(a[1]);
  std::int64_t added = 0;
  for (const std::string& member : a.subspan(2)) added += set.insert(member).second ? 1 : 0;
  return Reply::Integer(added);
}

Reply SimulatedStore::SRem(Args a) {
  const Found<Members> found = Find<Members>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  std::size_t removed = 0;
  for (const std::string& member : a.subspan(2)) removed += found.value->erase(member);
  EraseIfEmpty(a[1], *found.value);
  return Count(removed);
}

Reply SimulatedStore::SMembers(Args a) {
  const Found<Members> found = Find<Members>(a[1]);
  if (found.wrong_type) return WrongType();
  std::vector<Reply> items;
  if (found.value != nullptr) {
    for (const std::string& member : *found.value) items.push_back(Bulk(member));
  }
  return Array(std::move(items));
}

Reply SimulatedStore::SCard(Args a) {
  const Found<Members> found = Find<Members>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : found.value->size());
}

Reply SimulatedStore::SIsMember(Args a) {
  const Found<Members> found = Find<Members>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : found.value->count(a[2]));
}

// Sorted sets.

bool SimulatedStore::ParseScoreRange(const std::string& min, const std::string& max,
                                     ScoreRange& range) {
  range.min_open = min.starts_with('(');
  range.max_open = max.starts_with('(');
  const std::optional<double> low = ParseBound(min, range.min_open ? 1 : 0);
  const std::optional<double> high = ParseBound(max, range.max_open ? 1 : 0);
  if (!low || !high) return false;
  range.min = *low;
  range.max = *high;
  return true;
}

std::vector<SimulatedStore::Scored> SimulatedStore::InScoreRange(const SortedSet& set,
                                                                 const ScoreRange& range) {
  std::vector<Scored> scored;
  for (auto it = set.order.lower_bound({range.min, ""}); it != set.order.end(); ++it) {
    if (it->first > range.max) break;
    if (range.Contains(it->first)) scored.push_back(*it);
  }
  return scored;
}

std::vector<SimulatedStore::Scored> SimulatedStore::InRankRange(const SortedSet& set,
                                                                std::int64_t first,
                                                                std::int64_t last) {
  const Positions range = Clip(first, last, set.order.size());
  return std::vector<Scored>(std::next(set.order.begin(), range.begin),
                             std::next(set.order.begin(), range.end));
}

Reply SimulatedStore::RemoveScored(const std::string& key, SortedSet& set,
                                   const std::vector<Scored>& scored) {
  for (const Scored& item : scored) {
    set.scores.erase(item.second);
    set.order.erase(item);
  }
  EraseIfEmpty(key, set.scores);
  return Count(scored.size());
}

Reply SimulatedStore::ZAdd(Args a) {
  bool nx = false, xx = false, gt = false, lt = false, changes = false;
  std::size_t first = 2;
  for (; first < a.size(); ++first) {
    const std::string option = Lower(a[first]);
    if (option == "nx") {
      nx = true;
    } else if (option == "xx") {
      xx = true;
    } else if (option == "gt") {
      gt = true;
    } else if (option == "lt") {
      lt = true;
    } else if (option == "ch") {
      changes = true;
    } else if (option == "incr") {
      NotSimulated("ZADD INCR");
    } else {
      break;
    }
  }
  if (first == a.size() || (a.size() - first) % 2 != 0) return SyntaxError();
  if (nx && xx) return Error("ERR XX and NX options at the same time are not compatible");
  if ((gt && nx) || (lt && nx) || (gt && lt)) {
    return Error("ERR GT, LT, and/or NX options at the same time are not compatible");
  }
  std::vector<double> scores;
  for (std::size_t i = first; i < a.size(); i += 2) {
    const std::optional<double> score = ParseScore(a[i]);
    if (!score) return Error("ERR value is not a valid float");
    scores.push_back(*score == 0 ? 0 : *score);  // a small set keeps no -0
  }
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr && xx) return Reply::Integer(0);
  SortedSet& set = FindOrMake<SortedSet>(a[1]);
  std::int64_t added = 0, updated = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::string& member = a[first + 2 * i + 1];
    const auto at = set.scores.find(member);
    if (at == set.scores.end()) {
      if (xx) continue;
      set.scores.emplace(member, scores[i]);
      set.order.emplace(scores[i], member);
      ++added;
    } else if (scores[i] != at->second && !nx && !(gt && scores[i] < at->second) &&
               !(lt && scores[i] > at->second)) {
      set.order.erase({at->second, member});
      at->second = scores[i];
      set.order.emplace(scores[i], member);
      ++updated;
    }
  }
  return Reply::Integer(changes ? added + updated : added);
}

Reply SimulatedStore::ZRem(Args a) {
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  std::vector<Scored> scored;
  for (const std::string& member : a.subspan(2)) {
    const auto at = found.value->scores.find(member);
    if (at == found.value->scores.end()) continue;
    const Scored item(at->second, member);
    if (std::find(scored.begin(), scored.end(), item) == scored.end()) scored.push_back(item);
  }
  return RemoveScored(a[1], *found.value, scored);
}

Reply SimulatedStore::ZScore(Args a) {
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply();
  const auto at = found.value->scores.find(a[2]);
  return at == found.value->scores.end() ? Reply() : Bulk(ScoreText(at->second));
}

Reply SimulatedStore::ZCard(Args a) {
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : found.value->scores.size());
}

Reply SimulatedStore::ZCount(Args a) {
  ScoreRange range;
  if (!ParseScoreRange(a[2], a[3], range)) return NotARange();
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  return Count(found.value == nullptr ? 0 : InScoreRange(*found.value, range).size());
}

Reply SimulatedStore::Range(Args a, bool by_score, bool is_zrange) {
  bool reversed = false, with_scores = false;
  std::int64_t offset = 0, limit = -1;
  for (std::size_t i = 4; i < a.size(); ++i) {
    const std::string option = Lower(a[i]);
    if (option == "withscores") {
      with_scores = true;
    } else if (option == "limit" && a.size() - i > 2) {
      const std::optional<std::int64_t> first = ParseInteger(a[i + 1]);
      const std::optional<std::int64_t> count = ParseInteger(a[i + 2]);
      if (!first || !count) return NotAnInteger();
      offset = *first;
      limit = *count;
      i += 2;
    } else if (is_zrange && option == "rev" && !reversed) {
      reversed = true;
    } else if (is_zrange && option == "byscore" && !by_score) {
      by_score = true;
    } else if (is_zrange && option == "bylex" && !by_score) {
      NotSimulated("ZRANGE BYLEX");
    } else {
      return SyntaxError();
    }
  }
  if (limit != -1 && !by_score) {
    return Error(
        "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
  }
  ScoreRange range;
  std::optional<std::int64_t> first, last;
  if (by_score) {
    const bool swapped = reversed;
    if (!ParseScoreRange(a[swapped ? 3 : 2], a[swapped ? 2 : 3], range)) return NotARange();
  } else {
    first = ParseInteger(a[2]);
    last = ParseInteger(a[3]);
    if (!first || !last) return NotAnInteger();
  }
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Array();
  std::vector<Scored> scored;
  if (by_score) {
    scored = InScoreRange(*found.value, range);
    if (reversed) std::reverse(scored.begin(), scored.end());
    const auto size = static_cast<std::int64_t>(scored.size());
    // A negative offset is past the end, a negative limit none.
    if (offset < 0 || offset > size) offset = size;
    scored.erase(scored.begin(), scored.begin() + offset);
    if (limit >= 0 && limit < size - offset) scored.resize(static_cast<std::size_t>(limit));
  } else {
    const Positions clipped = Clip(*first, *last, found.value->order.size());
    const auto size = static_cast<std::int64_t>(found.value->order.size());
    if (clipped.begin != clipped.end) {
      scored = reversed ? InRankRange(*found.value, size - clipped.end, size - clipped.begin - 1)
                        : InRankRange(*found.value, clipped.begin, clipped.end - 1);
    }
    if (reversed) std::reverse(scored.begin(), scored.end());
  }
  std::vector<Reply> items;
  for (Scored& item : scored) {
    items.push_back(Bulk(std::move(item.second)));
    if (with_scores) items.push_back(Bulk(ScoreText(item.first)));
  }
  return Array(std::move(items));
}

Reply SimulatedStore::ZRemRangeByScore(Args a) {
  ScoreRange range;
  if (!ParseScoreRange(a[2], a[3], range)) return NotARange();
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  return RemoveScored(a[1], *found.value, InScoreRange(*found.value, range));
}

Reply SimulatedStore::ZRemRangeByRank(Args a) {
  const std::optional<std::int64_t> first = ParseInteger(a[2]);
  const std::optional<std::int64_t> last = ParseInteger(a[3]);
  if (!first || !last) return NotAnInteger();
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply::Integer(0);
  return RemoveScored(a[1], *found.value, InRankRange(*found.value, *first, *last));
}

Reply SimulatedStore::ZPopMin(Args a) {
  if (a.size() > 3) return SyntaxError();
  const std::optional<std::int64_t> count = a.size() == 3 ? ParseInteger(a[2]) : 1;
  if (!count || *count < 0) return Error("ERR value is out of range, must be positive");
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr || *count == 0) return Array();
  const std::vector<Scored> scored = InRankRange(*found.value, 0, *count - 1);
  RemoveScored(a[1], *found.value, scored);
  std::vector<Reply> items;
  for (const Scored& item : scored) {
    items.push_back(Bulk(item.second));
    items.push_back(Bulk(ScoreText(item.first)));
  }
  return Array(std::move(items));
}

Reply SimulatedStore::ZRank(Args a) {
  const Found<SortedSet> found = Find<SortedSet>(a[1]);
  if (found.wrong_type) return WrongType();
  if (found.value == nullptr) return Reply();
  const auto at = found.value->scores.find(a[2]);
  if (at == found.value->scores.end()) return Reply();
  return Count(
      std::distance(found.value->order.begin(), found.value->order.find({at->second, a[2]})));
}

}  // namespace coord::testing
