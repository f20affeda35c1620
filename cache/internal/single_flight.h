// One makes what many wait for. Knows nothing of caches: keys, and what a flight for a key brings.
#ifndef COORD_CACHE_INTERNAL_SINGLE_FLIGHT_H_
#define COORD_CACHE_INTERNAL_SINGLE_FLIGHT_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/internal/deadline.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// What a flight brings home.
struct Landing {
  bool null = false;
  bool made = false;  // just now; else it was found
  std::string payload;
};

// Thread-safe. What a flight does is its own: somebody begins it, on whatever thread, and lands it.
class SingleFlight {
 public:
  using Result = absl::StatusOr<Landing>;

  class Flight {
   public:
    const std::string& key() const { return key_; }
    // Requested when all who waited have given up, and at Close.
    std::stop_source& stop() { return stop_; }

   private:
    friend class SingleFlight;
    explicit Flight(std::string_view key) : key_(key) {}

    const std::string key_;
    std::stop_source stop_;
    // All of these are guarded by the mutex of the SingleFlight.
    int waiting_ = 0;
    bool wanted_ = false;  // though nobody may wait
    bool given_up_ = false;
    bool overtaken_ = false;
    std::function<void()> run_;
    bool begun_ = false;
    std::thread::id thread_;  // that has begun it
    std::optional<Result> result_;
    CondVar changed_;
  };
  using Handle = std::shared_ptr<Flight>;

  struct Ticket {
    Handle flight;
    // He has to begin it, or to see that it is begun; the others have to Await it.
    bool leads = false;
    // One for this key may have landed after `mark` was taken, so that who leads looks again.
    bool landed_since = false;
    // All had given up on it before he came: its error may be theirs.
    bool given_up = false;
  };

  // To be taken before one looks whether there is need of a flight.
  std::uint64_t Mark(std::string_view key) const;

  // The flight for `key`, or a new one. kFailedPrecondition when this thread is inside one for the
  // same key, which would wait for itself; and after Close.
  absl::StatusOr<Ticket> Join(std::string_view key, std::uint64_t mark);
  // A new one in any case; if there is one, it is overtaken.
  absl::StatusOr<Ticket> Supersede(std::string_view key);
  // A new one for which nobody waits. Null: there is one, one has landed since, or closed.
  Handle Background(std::string_view key, std::uint64_t mark);
  // Nobody joins the one under way any more. Costs next to nothing where there is none.
  void Overtake(std::string_view key);
  bool overtaken(const Handle& flight) const;

  // Begins a flight on this thread. False: another has, or it has landed.
  bool Begin(const Handle& flight);
  // The same for one that anybody may begin: SetRun leaves what is to be done, TakeRun takes it
  // (empty: another has).
  void SetRun(const Handle& flight, std::function<void()> run);
  std::function<void()> TakeRun(const Handle& flight);
  // Of one that has not begun: it will not. Nothing happens to one that has.
  void Cancel(const Handle& flight, const absl::Status& why);
  // Ends it without a result, unless somebody waits for one.
  bool Withdraw(const Handle& flight);
  // Whether somebody waits for it.
  bool Awaited(const Handle& flight) const;
  void Land(const Handle& flight, Result result);

  // What it brings; nullopt at the deadline, or when stopped. `content`: who leaves at the deadline
  // has something else, and would like it to go on.
  std::optional<Result> Await(const Handle& flight, SteadyTime deadline,
                              const std::stop_token& stop, bool content);
  // One of those who wait does not any more, though he will come back for the result: the leader,
  // who cannot be interrupted.
  void GiveUp(const Handle& flight);

  // Cancels those that have not begun, requests all others to stop, and waits for them; not for
  // those that this very thread is inside. Idempotent.
  void Close();

 private:
  absl::StatusOr<Ticket> New(std::string_view key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Leave(Flight& flight, bool content);
  void Remove(const Handle& flight) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Inside(std::string_view key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::size_t Bucket(std::string_view key) const;

  mutable Mutex mutex_;
  CondVar landed_;
  // Those that can be joined.
  absl::flat_hash_map<std::string, Handle> open_ ABSL_GUARDED_BY(mutex_);
  // All that have not landed.
  std::vector<Handle> all_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<std::size_t> open_count_{0};
  // How many have landed, by the hash of their keys.
  std::array<std::atomic<std::uint64_t>, 64> landings_ = {};
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SINGLE_FLIGHT_H_
