// How a write is made up for, and why nothing newer is lost for something older:
//
// A deletion is repeated: it can only make misses, and a miss is always right. So does what has run
// out meanwhile: an older value may be there.
//
// A value is written only where there is none (SetIf::kAbsent, decided by the backend itself). If
// there was one beforehand it is ours (byte for byte, and not living longer than ours would): done;
// or it cannot be told whether it is older or newer, and is deleted. If one has come between our
// look and our write, it is newer than ours, and stays. What cannot be seen is that another process
// has deleted the key while this one could not reach the server: then the older value lives on for
// the rest of its time. Tags do not have that gap, as their generations are judged when read.
//
// A write or deletion of this process that succeeds (Overtaken) cancels what is queued. If our
// write was under way, or has landed a moment ago, a deletion may have been done just before it,
// and what landed would be a value that is gone: so it stays known for kGrace, which is longer than
// a call takes to tell of its success, and whoever is told of an overtaking then deletes what we
// wrote, if it is still that. (A newer value is not that, and stays; one that is equal may be lost:
// a miss.) A newer failure of the same key takes the place of all that.
#include "cache/internal/recovery_queue.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <stop_token>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord::internal {

namespace {

constexpr std::size_t kBatch = 256;                        // keys
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;  // or values of so much
// Calls take 5 s where nothing else is said.
constexpr absl::Duration kGrace = absl::Seconds(10);
// By which clocks may differ.
constexpr absl::Duration kDrift = absl::Seconds(1);

enum class Phase {
  kQueued,
  kLanded,  // done, and remembered in case it is overtaken
  kUndo,    // overtaken: goes, if it is still there
};

struct Entry {
  std::uint64_t generation = 0;
  Phase phase = Phase::kQueued;
  std::optional<std::string> stored;         // nullopt: a deletion
  absl::Time ends = absl::InfiniteFuture();  // of its time to live
  absl::Time landed = absl::InfinitePast();
};

struct Item {
  std::string key;
  Entry entry;
};

}  // namespace

struct RecoveryQueue::State : std::enable_shared_from_this<RecoveryQueue::State> {
  explicit State(RecoveryWiring wired) : wiring(std::move(wired)) {}

  const RecoveryWiring wiring;
  std::stop_source stop;
  // How many entries there are, so that who writes while there are none takes no lock.
  std::atomic<std::size_t> count{0};

  mutable Mutex mutex;
  CondVar ended;
  std::unordered_map<std::string, Entry> entries ABSL_GUARDED_BY(mutex);
  // In order of their coming; what has another generation meanwhile is skipped.
  std::deque<std::pair<std::string, std::uint64_t>> todo ABSL_GUARDED_BY(mutex);
  std::deque<std::pair<std::string, std::uint64_t>> landed ABSL_GUARDED_BY(mutex);
  std::uint64_t last_generation ABSL_GUARDED_BY(mutex) = 0;
  std::size_t queued ABSL_GUARDED_BY(mutex) = 0;  // entries in phase kQueued
  // Keys that are being replayed, and whether they were overtaken since.
  std::unordered_map<std::string, bool> in_flight ABSL_GUARDED_BY(mutex);
  bool scheduled ABSL_GUARDED_BY(mutex) = false;
  bool full ABSL_GUARDED_BY(mutex) = false;  // and that has been reported
  bool closed ABSL_GUARDED_BY(mutex) = false;
  std::optional<std::thread::id> replaying ABSL_GUARDED_BY(mutex);

  CallOptions Call() const { return {.stop = stop.get_token()}; }

  void Erase(std::unordered_map<std::string, Entry>::iterator at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (at->second.phase == Phase::kQueued && --queued == 0) full = false;
    entries.erase(at);
    count.store(entries.size() + in_flight.size());
  }

  void Put(const std::string& key, Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (const auto at = entries.find(key); at != entries.end()) Erase(at);
    if (entry.phase == Phase::kQueued) ++queued;
    (entry.phase == Phase::kLanded ? landed : todo).emplace_back(key, entry.generation);
    entries.emplace(key, std::move(entry));
    count.store(entries.size() + in_flight.size());
    Schedule();
  }

  void Schedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (scheduled || closed) return;
    scheduled =
        wiring.post_after(wiring.options.retry_every, [self = shared_from_this()] { self->Run(); });
  }

  // Makes room for one more key, if that can be.
  bool Room() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    while (entries.size() >= wiring.options.max_keys && !landed.empty()) {
      const auto [key, generation] = std::move(landed.front());
      landed.pop_front();
      const auto at = entries.find(key);
      if (at != entries.end() && at->second.generation == generation) Erase(at);
    }
    return entries.size() < wiring.options.max_keys;
  }

  // The next few that have something to be done, which are then in flight.
  std::vector<Item> Take(Phase phase) {
    std::vector<Item> items;
    std::size_t bytes = 0;
    MutexLock lock(mutex);
    const std::size_t all = todo.size();
    for (std::size_t i = 0; i < all && items.size() < kBatch && bytes < kBatchBytes && !closed;
         ++i) {
      auto [key, generation] = std::move(todo.front());
      todo.pop_front();
      const auto at = entries.find(key);
      if (at == entries.end() || at->second.generation != generation) continue;
      if (at->second.phase != phase) {
        todo.emplace_back(std::move(key), generation);
        continue;
      }
      in_flight[key] = false;
      items.push_back({std::move(key), at->second});
      bytes += items.back().entry.stored ? items.back().entry.stored->size() : 0;
    }
    return items;
  }

  enum class Outcome {
    kDone,
    kWritten,  // it is there now, as we have it
    kAgain,    // the server was away: it may be done or not
  };

  void Finish(const Item& item, Outcome outcome) {
    MutexLock lock(mutex);
    const auto flight = in_flight.find(item.key);
    const bool overtaken = flight != in_flight.end() && flight->second;
    if (flight != in_flight.end()) in_flight.erase(flight);
    const auto at = entries.find(item.key);
    const bool same = at != entries.end() && at->second.generation == item.entry.generation;
    // A newer failure: its replay finds what we have done.
    const bool newer = at != entries.end() && !same;
    count.store(entries.size() + in_flight.size());
    if (newer || closed) return;
    if (overtaken) {
      if (same) Erase(at);
      // See above. What was a deletion leaves nothing to be undone.
      if (outcome == Outcome::kDone || !item.entry.stored) return;
      Entry undo = item.entry;
      undo.phase = Phase::kUndo;
      undo.generation = ++last_generation;
      Put(item.key, std::move(undo));
      return;
    }
    if (!same) return;
    switch (outcome) {
      case Outcome::kDone:
        Erase(at);
        return;
      case Outcome::kAgain:
        todo.emplace_back(item.key, item.entry.generation);
        return;
      case Outcome::kWritten: {
        Entry done = std::move(at->second);
        Erase(at);
        done.phase = Phase::kLanded;
        done.landed = wiring.clock->Now();
        Put(item.key, std::move(done));
        return;
      }
    }
  }

  // Ours, for these keys, or away; anything else is an answer, and there is no use in asking again.
  bool GivenUp(const absl::Status& status, std::string_view key) {
    if (wiring.is_away(status) || absl::IsCancelled(status)) return false;
    wiring.report(absl::Status(
        status.code(), ToAbsl(StrCat("the write of ", Quoted(key),
                                     " cannot be made up for: ", FromAbsl(status.message())))));
    return true;
  }

  // A batch that is refused is tried key by key, so that one does not stand in the way of others.
  absl::Status DeleteAll(const std::vector<const Item*>& items) {
    if (items.empty()) return absl::OkStatus();
    std::vector<std::string> keys;
    for (const Item* item : items) keys.push_back(item->key);
    const absl::Status status = wiring.backend->DeleteMany(keys, Call()).status();
    if (!status.ok() && items.size() > 1 && !wiring.is_away(status) && !absl::IsCancelled(status)) {
      absl::Status last;
      for (const Item* item : items) {
        if (const absl::Status one = DeleteAll({item}); !one.ok()) last = one;
      }
      return last;
    }
    const bool over = status.ok() || GivenUp(status, items.front()->key);
    for (const Item* item : items) Finish(*item, over ? Outcome::kDone : Outcome::kAgain);
    return status;
  }

  absl::Status WriteIfAbsent(const Item& item) {
    const absl::Duration left =
        item.entry.ends == absl::InfiniteFuture()
            ? absl::InfiniteDuration()
            : absl::Floor(item.entry.ends - wiring.clock->Now(), absl::Milliseconds(1));
    if (left <= absl::ZeroDuration()) return DeleteAll({&item});
    {
      MutexLock lock(mutex);
      if (const auto at = in_flight.find(item.key); at == in_flight.end() || at->second || closed) {
        // Overtaken before anything was sent.
        if (at != in_flight.end()) in_flight.erase(at);
        count.store(entries.size() + in_flight.size());
        return absl::OkStatus();
      }
    }
    const absl::StatusOr<bool> written = wiring.backend->Set(
        {.key = item.key, .value = *item.entry.stored, .ttl = left}, SetIf::kAbsent, Call());
    if (!written.ok()) {
      Finish(item, GivenUp(written.status(), item.key) ? Outcome::kDone : Outcome::kAgain);
      return written.status();
    }
    Finish(item, *written ? Outcome::kWritten : Outcome::kDone);
    return absl::OkStatus();
  }

  absl::Status Replay(const std::vector<Item>& items) {
    const absl::Time now = wiring.clock->Now();
    std::vector<const Item*> values;
    std::vector<const Item*> gone;
    for (const Item& item : items) {
      const bool write = item.entry.stored.has_value() &&
                         (item.entry.phase == Phase::kUndo || item.entry.ends > now);
      (write ? values : gone).push_back(&item);
    }
    std::vector<const Item*> absent;
    if (!values.empty()) {
      std::vector<std::string> keys;
      for (const Item* item : values) keys.push_back(item->key);
      auto found = wiring.backend->GetMany(keys, Want::kValueAndTtl, Call());
      if (!found.ok()) {
        if (items.size() > 1 && !wiring.is_away(found.status()) &&
            !absl::IsCancelled(found.status())) {
          absl::Status last;
          for (const Item& item : items) {
            if (const absl::Status one = Replay({item}); !one.ok()) last = one;
          }
          return last;
        }
        const bool over = GivenUp(found.status(), items.front().key);
        for (const Item& item : items) Finish(item, over ? Outcome::kDone : Outcome::kAgain);
        return found.status();
      }
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::optional<Stored>& there = (*found)[i];
        const Item* const item = values[i];
        const bool ours = there && there->value == *item->entry.stored;
        if (item->entry.phase == Phase::kUndo) {
          if (ours) {
            gone.push_back(item);
          } else {
            Finish(*item, Outcome::kDone);
          }
        } else if (!there) {
          absent.push_back(item);
        } else if (ours && there->left.value_or(absl::InfiniteDuration()) <=
                               (item->entry.ends - now) + kDrift) {
          Finish(*item, Outcome::kWritten);
        } else {
          gone.push_back(item);
        }
      }
    }
    absl::Status result = DeleteAll(gone);
    for (const Item* item : absent) {
      if (!result.ok() && wiring.is_away(result)) {
        Finish(*item, Outcome::kAgain);
        continue;
      }
      if (const absl::Status one = WriteIfAbsent(*item); !one.ok()) result = one;
    }
    return result;
  }

  // Until nothing is left, or the server goes away.
  void Drain() {
    if (!wiring.backend->Ping(Call()).ok()) return;
    for (const Phase phase : {Phase::kUndo, Phase::kQueued}) {
      while (true) {
        const std::vector<Item> items = Take(phase);
        if (items.empty()) break;
        const absl::Status status = wiring.observe(items.size(), [&] { return Replay(items); });
        if (!status.ok() && (wiring.is_away(status) || absl::IsCancelled(status))) return;
      }
    }
  }

  void Run() {
    bool work = false;
    {
      MutexLock lock(mutex);
      if (closed) return;
      replaying = std::this_thread::get_id();
      while (!landed.empty()) {
        const auto& [key, generation] = landed.front();
        const auto at = entries.find(key);
        const bool known = at != entries.end() && at->second.generation == generation &&
                           at->second.phase == Phase::kLanded;
        if (known && wiring.clock->Now() - at->second.landed < kGrace) break;
        if (known) Erase(at);
        landed.pop_front();
      }
      work = !todo.empty();
    }
    if (work) Drain();
    MutexLock lock(mutex);
    replaying.reset();
    ended.NotifyAll();
    scheduled = false;
    if (entries.empty()) {
      todo.clear();
      landed.clear();
    } else {
      Schedule();
    }
  }
};

RecoveryQueue::RecoveryQueue(RecoveryWiring wiring)
    : state_(std::make_shared<State>(std::move(wiring))) {}

RecoveryQueue::~RecoveryQueue() { Close(); }

void RecoveryQueue::Failed(std::string_view full, std::optional<std::string> stored,
                           absl::Duration ttl) {
  State& state = *state_;
  const std::string key(full);
  {
    MutexLock lock(state.mutex);
    if (state.closed) return;
    if (state.entries.contains(key) || state.Room()) {
      state.Put(key, {.generation = ++state.last_generation,
                      .phase = Phase::kQueued,
                      .stored = std::move(stored),
                      .ends = state.wiring.clock->Now() + ttl});
      return;
    }
    if (std::exchange(state.full, true)) return;
  }
  state.wiring.report(absl::ResourceExhaustedError(
      ToAbsl(StrCat(state.wiring.options.max_keys,
                    " writes wait for the server to come back; further ones are forgotten"))));
}

void RecoveryQueue::Overtaken(std::string_view full) {
  State& state = *state_;
  if (state.count.load() == 0) return;
  const std::string key(full);
  MutexLock lock(state.mutex);
  if (const auto flight = state.in_flight.find(key); flight != state.in_flight.end()) {
    flight->second = true;
  }
  const auto at = state.entries.find(key);
  if (at == state.entries.end()) return;
  if (at->second.phase == Phase::kQueued) {
    state.Erase(at);
  } else if (at->second.phase == Phase::kLanded) {
    Entry undo = at->second;
    undo.phase = Phase::kUndo;
    undo.generation = ++state.last_generation;
    state.Put(key, std::move(undo));
  }
}

void RecoveryQueue::OvertakenWhere(absl::FunctionRef<bool(std::string_view full)> which) {
  State& state = *state_;
  if (state.count.load() == 0) return;
  std::vector<std::string> keys;
  {
    MutexLock lock(state.mutex);
    for (const auto& [key, entry] : state.entries) {
      if (which(key)) keys.push_back(key);
    }
    for (const auto& [key, overtaken] : state.in_flight) {
      if (which(key)) keys.push_back(key);
    }
  }
  for (const std::string& key : keys) Overtaken(key);
}

std::size_t RecoveryQueue::size() const {
  MutexLock lock(state_->mutex);
  return state_->queued;
}

void RecoveryQueue::Close() {
  State& state = *state_;
  std::size_t left = 0;
  {
    MutexLock lock(state.mutex);
    if (!state.closed) left = state.queued;
    state.closed = true;
    state.queued = 0;
    state.entries.clear();
    state.todo.clear();
    state.landed.clear();
    state.count.store(0);
  }
  state.stop.request_stop();
  if (left > 0) {
    state.wiring.report(absl::UnavailableError(
        ToAbsl(StrCat("closed while ", left, " writes waited for the server; they are given up"))));
  }
  MutexLock lock(state.mutex);
  while (state.replaying && *state.replaying != std::this_thread::get_id()) {
    state.ended.Wait(state.mutex);
  }
}

}  // namespace coord::internal
