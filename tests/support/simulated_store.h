// The data and the commands of a SimulatedRedis, without scripts: a key space in memory, on a clock
// that only its owner moves. Use it through tests/support/simulated_redis.h.
//
// Source: the semantics of Redis 7.0, which tests/integration/simulated_redis_differential_test.cc
// compares with a real one.
#ifndef COORD_TESTS_SUPPORT_SIMULATED_STORE_H_
#define COORD_TESTS_SUPPORT_SIMULATED_STORE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "coord/reply.h"

namespace coord::testing {

// A message, as PUBLISH or SPUBLISH sent it.
struct Published {
  std::string channel;
  std::string message;
  bool sharded = false;

  friend bool operator==(const Published&, const Published&) = default;
};

class SimulatedStore {
 public:
  using Args = std::span<const std::string>;

  explicit SimulatedStore(std::uint64_t now_us) : now_us_(now_us) {}

  // Runs args[0]. A command, or a spelling of one, that is not simulated ends the test program.
  // `from_script` says whose words the error about a wrong number of arguments has.
  Reply Run(Args args, bool from_script);

  std::uint64_t now_us() const { return now_us_; }
  void set_now_us(std::uint64_t now_us) { now_us_ = now_us; }
  void RemoveExpired();
  void Clear() { keys_.clear(); }
  void set_run_id(std::string run_id) { run_id_ = std::move(run_id); }

  std::vector<Published>& published() { return published_; }
  void set_receivers(std::function<std::int64_t(const Published&)> receivers) {
    receivers_ = std::move(receivers);
  }
  const std::map<std::string, std::size_t, std::less<>>& command_calls() const {
    return command_calls_;
  }

 private:
  using String = std::string;
  using List = std::deque<std::string>;
  using Hash = std::vector<std::pair<std::string, std::string>>;  // in the order of insertion
  using Members = std::set<std::string>;
  struct SortedSet {
    std::map<std::string, double> scores;
    std::set<std::pair<double, std::string>> order;
  };
  using Value = std::variant<String, List, Hash, Members, SortedSet>;
  struct Entry {
    Value value;
    std::optional<std::int64_t> expire_ms;  // on the server's clock
  };
  // What a command found under its key.
  template <typename T>
  struct Found {
    Entry* entry = nullptr;
    T* value = nullptr;
    bool wrong_type = false;
  };
  // The options that SET and GETEX share.
  struct StringOptions {
    bool nx = false, xx = false, get = false, keep_ttl = false, persist = false;
    bool relative = false, absolute = false, seconds = false;
    const std::string* expire = nullptr;
  };
  struct ScoreRange {
    double min = 0, max = 0;
    bool min_open = false, max_open = false;
    bool Contains(double score) const {
      return (min_open ? score > min : score >= min) && (max_open ? score < max : score <= max);
    }
  };
  using Scored = std::pair<double, std::string>;
  struct Handler {
    std::string_view name;
    int arity;  // with the command's name; -n: n or more
    Reply (SimulatedStore::*run)(Args);
  };
  static const std::unordered_map<std::string_view, Handler>& Handlers();

  std::int64_t now_ms() const { return static_cast<std::int64_t>(now_us_ / 1000); }
  Entry* Live(const std::string& key);  // null: none, or expired
  template <typename T>
  Found<T> Find(const std::string& key);
  template <typename T>
  T& FindOrMake(const std::string& key);
  template <typename T>
  void EraseIfEmpty(const std::string& key, const T& value);

  // Keys of any type.
  Reply Del(Args a);
  Reply Exists(Args a);
  Reply Type(Args a);
  Reply ExpireAt(Args a, std::int64_t base, bool seconds);
  Reply Expire(Args a) { return ExpireAt(a, now_ms(), true); }
  Reply PExpire(Args a) { return ExpireAt(a, now_ms(), false); }
  Reply ExpireAtSeconds(Args a) { return ExpireAt(a, 0, true); }
  Reply PExpireAt(Args a) { return ExpireAt(a, 0, false); }
  Reply TimeToLive(Args a, bool seconds, bool absolute);
  Reply Ttl(Args a) { return TimeToLive(a, true, false); }
  Reply PTtl(Args a) { return TimeToLive(a, false, false); }
  Reply ExpireTime(Args a) { return TimeToLive(a, true, true); }
  Reply PExpireTime(Args a) { return TimeToLive(a, false, true); }
  Reply Persist(Args a);
  Reply Rename(Args a);

  // The server itself.
  Reply Time(Args a);
  Reply Publish(Args a);
  Reply SPublish(Args a);
  Reply Ping(Args a);
  Reply Echo(Args a);
  Reply FlushAll(Args a);
  Reply Info(Args a);
  Reply DbSize(Args a);

  // Strings.
  std::optional<Reply> ParseStringOptions(Args a, std::size_t first, bool is_set,
                                          StringOptions& options) const;
  std::optional<Reply> ExpiryOf(const StringOptions& options, std::string_view command,
                                std::optional<std::int64_t>& at_ms) const;
  Reply Get(Args a);
  Reply MGet(Args a);
  Reply Set(Args a);
  Reply GetDel(Args a);
  Reply GetEx(Args a);
  Reply StrLen(Args a);
  Reply GetRange(Args a);
  Reply SetRange(Args a);
  Reply Append(Args a);
  Reply Add(const std::string& key, std::int64_t amount);
  Reply Incr(Args a) { return Add(a[1], 1); }
  Reply Decr(Args a) { return Add(a[1], -1); }
  Reply IncrBy(Args a);
  Reply DecrBy(Args a);

  // Lists.
  Reply Push(Args a, bool left);
  Reply LPush(Args a) { return Push(a, true); }
  Reply RPush(Args a) { return Push(a, false); }
  Reply Pop(Args a, bool left);
  Reply LPop(Args a) { return Pop(a, true); }
  Reply RPop(Args a) { return Pop(a, false); }
  Reply LLen(Args a);
  Reply LRange(Args a);
  Reply LTrim(Args a);
  Reply LIndex(Args a);
  Reply LSet(Args a);
  Reply LInsert(Args a);
  Reply LRem(Args a);
  Reply LPos(Args a);

  // Hashes.
  static Hash::iterator Field(Hash& hash, const std::string& name);
  Reply HSet(Args a);
  Reply HSetNx(Args a);
  Reply HGet(Args a);
  Reply HMGet(Args a);
  Reply HDel(Args a);
  Reply HLen(Args a);
  Reply HExists(Args a);
  Reply HGetAll(Args a);
  Reply HIncrBy(Args a);

  // Sets.
  Reply SAdd(Args a);
  Reply SRem(Args a);
  Reply SMembers(Args a);
  Reply SCard(Args a);
  Reply SIsMember(Args a);

  // Sorted sets.
  static bool ParseScoreRange(const std::string& min, const std::string& max, ScoreRange& range);
  static std::vector<Scored> InScoreRange(const SortedSet& set, const ScoreRange& range);
  static std::vector<Scored> InRankRange(const SortedSet& set, std::int64_t first,
                                         std::int64_t last);
  Reply RemoveScored(const std::string& key, SortedSet& set, const std::vector<Scored>& scored);
  Reply Range(Args a, bool by_score, bool is_zrange);
  Reply ZAdd(Args a);
  Reply ZRem(Args a);
  Reply ZScore(Args a);
  Reply ZCard(Args a);
  Reply ZCount(Args a);
  Reply ZRange(Args a) { return Range(a, false, true); }
  Reply ZRangeByScore(Args a) { return Range(a, true, false); }
  Reply ZRemRangeByScore(Args a);
  Reply ZRemRangeByRank(Args a);
  Reply ZPopMin(Args a);
  Reply ZRank(Args a);

  std::uint64_t now_us_;
  std::unordered_map<std::string, Entry> keys_;
  std::string run_id_;
  std::vector<Published> published_;
  std::function<std::int64_t(const Published&)> receivers_;
  std::map<std::string, std::size_t, std::less<>> command_calls_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_SIMULATED_STORE_H_
