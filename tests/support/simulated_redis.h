// A Redis in memory, for tests: the project's real Lua scripts and the commands they use, on a
// clock that only the test moves, with no I/O, no thread and no randomness. The same calls always
// get the same answers, at a few microseconds a script, so a test can run many random schedules of
// clients, expiries, lost messages and restarts, print its seed and repeat one.
//
//   SimulatedRedis redis(1'700'000'000'000'000);
//   redis.Run(internal::kMutexAcquire, {"lease", "fence"}, {"owner", "10000"});
//   redis.Advance(10'001'000);
//   redis.Command({"EXISTS", "lease"});  // 0
//
// Replies and errors are those of Redis 7.0 to a RESP2 connection, to the byte;
// simulated_redis_differential_test.cc compares them with a real server. Where it differs:
//
// - A command, option or Lua function that is not simulated ends the test program and says so; but
//   cjson.decode raises an error, whatever it is given: where it finds something for a script
//   quickly, the slow way is what runs here.
// - SMEMBERS answers in sorted order, HGETALL in the order of insertion; a real server promises
//   neither.
// - Expired keys go when they are looked at, or with RemoveExpired(), never by themselves. So after
//   a step back of the clock those that nobody looked at are there again; a real server may do so.
// - One database, no limit of memory, no slots, no access control, no time limit for a script.
//   TIME stands still while a script runs.
#ifndef COORD_TESTS_SUPPORT_SIMULATED_REDIS_H_
#define COORD_TESTS_SUPPORT_SIMULATED_REDIS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coord/internal/script.h"
#include "coord/reply.h"
#include "tests/support/simulated_store.h"

namespace coord::testing {

// One thread at a time.
class SimulatedRedis {
 public:
  enum class Data { kKeep, kDrop };

  // The server's wall clock, in microseconds since 1970.
  explicit SimulatedRedis(std::uint64_t now_us);
  ~SimulatedRedis();
  SimulatedRedis(const SimulatedRedis&) = delete;
  SimulatedRedis& operator=(const SimulatedRedis&) = delete;

  // TIME and expiry follow this clock; it may be set back.
  void SetTime(std::uint64_t now_us);
  void Advance(std::uint64_t us) { SetTime(now_us() + us); }
  std::uint64_t now_us() const;

  // A plain command, as a client sends it; its errors are replies.
  Reply Command(const std::vector<std::string>& args);
  // The script, as EVALSHA runs it.
  Reply Run(const internal::ScriptText& script, const std::vector<std::string>& keys,
            const std::vector<std::string>& args);

  // What was published since the last call, in order. Nobody receives it and PUBLISH answers 0,
  // unless SetReceivers() has set something to say how many received a message; that may run while
  // a script does, and must not call the SimulatedRedis.
  std::vector<Published> TakePublished();
  void SetReceivers(std::function<std::int64_t(const Published&)> receivers);

  // As FLUSHALL.
  void FlushAll();
  // What a real server's background cycle may do at any time: forgets all keys whose time is up.
  void RemoveExpired();
  // Another process now answers: another run id, its data kept or not, expiry as if no time had
  // passed but what the clock says.
  void Restart(Data data);

  // How many commands the last script ran.
  std::size_t calls() const;
  // How often `command` (in small letters) ran, by itself and in scripts.
  std::size_t CommandCalls(std::string_view command) const;

 private:
  class Lua;

  SimulatedStore store_;
  std::uint64_t restarts_ = 0;
  const std::unique_ptr<Lua> lua_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_SIMULATED_REDIS_H_
