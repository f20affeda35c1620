// Waiting for whichever of several exchanges on several connections is done next, by one thread.
//
//   for each: connection->Submit(exchange);          // all of them before the first wait
//   WaitAny any;
//   for each: any.Add(*connection, exchange);
//   while (...) if (any.Next(limits, &which) == WaitAny::Result::kDone) ...
//
// The thread is the reader of every connection that has none, and polls them together; on the
// others it is served by whoever reads there, who wakes it through an eventfd (its bell). It never
// waits for one connection, so no two threads can wait for each other's roles.
#ifndef COORD_WIRE_WAIT_ANY_H_
#define COORD_WIRE_WAIT_ANY_H_

#include <poll.h>

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "coord/internal/deadline.h"
#include "coord/wire/connection.h"

namespace coord::internal {

// Ends another thread's poll. Thread-safe.
class Bell {
 public:
  Bell();
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;
  void Ring();
  // After it ended a poll; true when somebody has called Ring since, not only a connection woken
  // us.
  bool Clear();
  int fd() const { return fd_.get(); }  // -1 when the system gives none

 private:
  UniqueFd fd_;
  std::atomic<bool> rung_{false};
};

// Used by one thread. Between calls of Next it may hold readers' roles, so do nothing slow there.
class WaitAny {
 public:
  WaitAny() = default;
  // Passes the roles on. What is not done stays in flight: whoever owns it abandons it, or waits
  // for it in another way.
  ~WaitAny();
  WaitAny(const WaitAny&) = delete;
  WaitAny& operator=(const WaitAny&) = delete;

  // A submitted exchange. Both stay where they are as long as this does.
  void Add(Connection& connection, Exchange& exchange);

  // Reads what the connection says without being asked, too, unless somebody else does. It counts
  // as done once the connection is broken. It stays where it is as long as this does.
  void AddListener(Connection& connection);

  // Ringing it ends a Next that waits. The caller may keep it longer than this lives.
  const std::shared_ptr<Bell>& bell();

  enum class Result {
    kDone,      // `which` is: the place of an exchange in the order of Add, each returned once
    kRung,      // somebody else rang the bell
    kDeadline,  // of the limits
    kStopped,   // by the limits' stop token
  };
  // With nothing left to wait for it waits for the bell and the limits.
  Result Next(const CallLimits& limits, std::size_t* which);

 private:
  struct Slot {
    Connection* connection;
    Exchange* exchange;
    bool listens = false;
    bool joined = false;
    bool reading = false;
    bool belled = false;
    bool returned = false;
  };
  void JoinAll();
  bool FindDone(std::size_t* which);
  bool Spin(const CallLimits& limits);
  // Followers say that they sleep; false when one of them has been woken already.
  bool LieDown();
  void GetUp();
  // True when the bell rang.
  bool Poll(SteadyTime deadline);
  static bool Done(const Slot& slot);

  std::deque<Exchange> nothings_;  // of listeners, who wait for no reply
  std::vector<Slot> slots_;
  std::vector<pollfd> fds_;
  std::shared_ptr<Bell> bell_;
  bool unjoined_ = false;
};

}  // namespace coord::internal

#endif  // COORD_WIRE_WAIT_ANY_H_
