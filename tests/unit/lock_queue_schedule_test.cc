// Random schedules of clients that want one lock: the project's real Lua scripts on a simulated
// Redis, with simulated clients that do what coord/lock/waiter.cc and lease_state.cc do, on a
// network that loses, delays and repeats, and with clients that die, pause and give up. What the
// server holds is looked at after every script, what the clients believe at every change.
//
// Prints its seed. A failure names the seed of the one schedule that failed; COORD_TEST_SEED with
// that number runs it first. Schedules with FLUSHALL or an eviction say nothing of what was granted
// before it; those whose clock steps (back, as a step forward ends leases early) nothing of the
// order of tickets. All else is checked in them too.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "coord/script.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/simulated_redis.h"

namespace coord::testing {
namespace {

using internal::StrCat;
using Strings = std::vector<std::string>;
using Micros = std::int64_t;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kSchedules = 1'000;  // each is ten times as long
#else
constexpr int kSchedules = 10'000;
#endif
constexpr Micros kMs = 1'000;
constexpr Micros kNever = std::int64_t{1} << 60;
constexpr Micros kStart = 1'700'000'000'123'456;
constexpr Micros kLongestTtl = 4'000 * kMs;
constexpr Micros kLatest = 3'000 * kMs;    // of a question that its asker has given up
constexpr Micros kMemory = 5'000 * kMs;    // how long a withdrawal is remembered: longer than that
constexpr Micros kEvicted = 10'000 * kMs;  // and an eviction, by mutex_evict

const std::string kLease = "{l}lease", kFence = "{l}fence", kQueue = "{l}queue",
                  kReaders = "{l}readers";
const Strings kAllKeys = {kLease, kFence, kQueue, kReaders};

absl::Time ToTime(Micros us) { return absl::FromUnixMicros(us); }
Micros FromTime(absl::Time time) { return absl::ToUnixMicros(time); }
Micros ValidUntil(Micros sent, Micros ttl, Micros left) {
  return FromTime(
      internal::ValidUntil(ToTime(sent), absl::Microseconds(ttl), absl::Microseconds(left)));
}

std::uint64_t ToNumber(std::string_view text) {
  return std::strtoull(std::string(text).c_str(), nullptr, 10);
}
std::int64_t ToNumber(const Reply& reply) {
  return reply.is_integer() ? reply.integer() : std::strtoll(reply.text().c_str(), nullptr, 10);
}

enum class Verb {
  kAcquire,
  kRelease,
  kRenew,
  kWithdraw,
  kReserve,
  kEvict,
  kShare,
  kUnshare,
  kShareRenew,
  kDowngrade,
  kUpgrade
};
constexpr std::size_t kVerbs = 11;

const internal::ScriptText* OriginalOf(Verb verb) {
  switch (verb) {
    case Verb::kAcquire:
      return &internal::kMutexAcquire;
    case Verb::kRelease:
      return &internal::kMutexRelease;
    case Verb::kRenew:
      return &internal::kMutexRenew;
    case Verb::kWithdraw:
      return &internal::kMutexWithdraw;
    case Verb::kReserve:
      return &internal::kMutexReserve;
    case Verb::kEvict:
      return &internal::kMutexEvict;
    case Verb::kShare:
      return &internal::kRwMutexShare;
    case Verb::kUnshare:
      return &internal::kRwMutexUnshare;
    case Verb::kShareRenew:
      return &internal::kRwMutexRenew;
    case Verb::kDowngrade:
      return &internal::kRwMutexDowngrade;
    case Verb::kUpgrade:
      return &internal::kRwMutexUpgrade;
  }
  std::abort();
}

Strings KeysOf(Verb verb) {
  if (verb == Verb::kRenew || verb == Verb::kReserve) return {kLease, kFence};
  if (verb == Verb::kShareRenew || verb == Verb::kUpgrade) return {kLease, kFence, kReaders};
  return kAllKeys;
}

// The scripts as they are, or with one text in all of them replaced.
class Scripts {
 public:
  Scripts() : Scripts("", "") {}
  Scripts(std::string_view original, std::string_view planted) {
    for (std::size_t i = 0; i < kVerbs; ++i) {
      const internal::ScriptText& script = *OriginalOf(static_cast<Verb>(i));
      texts_[i] = script;
      const auto at = original.empty() ? std::string_view::npos : script.text.find(original);
      if (at == std::string_view::npos) continue;
      std::string text(script.text);
      text.replace(at, original.size(), planted);
      changed_.push_back(std::make_unique<const Script>(text));
      texts_[i] = {script.name, changed_.back()->text(), changed_.back()->sha1(),
                   script.retry_safe};
    }
  }
  bool changed() const { return !changed_.empty(); }
  const internal::ScriptText& of(Verb verb) const { return texts_[static_cast<std::size_t>(verb)]; }

 private:
  std::vector<std::unique_ptr<const Script>> changed_;
  internal::ScriptText texts_[kVerbs];
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // Both ends included.
  Micros Between(Micros low, Micros high) {
    return low + static_cast<Micros>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool Percent(int percent) { return Between(0, 99) < percent; }

 private:
  std::mt19937_64 engine_;
};

// What a schedule may meet, each in percent of the occasions.
struct Weather {
  bool orderly = false;  // writers only, all of whom behave: the order is that of the tickets
  bool steps = false;    // the server's clock steps back
  bool flush = false, evict = false;
  int readers = 0, barging = 0, tries = 0;
  int lost_messages = 0, late_messages = 0;
  int broken = 0;  // a question whose answer never comes; its bytes may arrive late
  int slow = 0;    // a question or an answer that takes up to half a claim
  int deaths = 0, pauses = 0, give_ups = 0, again = 0;
};

Weather RandomWeather(Random& random) {
  Weather w;
  w.lost_messages = random.Percent(50) ? static_cast<int>(random.Between(0, 60)) : 0;
  w.late_messages = random.Percent(50) ? static_cast<int>(random.Between(0, 40)) : 0;
  const Micros kind = random.Between(0, 9);
  if (kind < 2) {
    w.orderly = true;
    return w;
  }
  if (kind >= 4) w.readers = static_cast<int>(random.Between(20, 70));
  if (kind == 3 || kind == 7) w.barging = static_cast<int>(random.Between(20, 60));
  w.steps = kind == 8 && random.Percent(50);
  w.flush = kind == 9 && random.Percent(50);
  w.evict = kind == 9 && !w.flush;
  const auto sometimes = [&](int most) {
    return random.Percent(60) ? static_cast<int>(random.Between(1, most)) : 0;
  };
  w.tries = sometimes(20);
  w.broken = sometimes(20);
  w.slow = sometimes(15);
  w.deaths = sometimes(10);
  w.pauses = sometimes(10);
  w.give_ups = sometimes(40);
  w.again = sometimes(40);
  return w;
}

struct Entry {
  std::int64_t dead_ms = 0;
  std::uint64_t ticket = 0;
  char kind = '?';
  std::string owner;
};

// What the server has.
struct Snapshot {
  std::int64_t ms = 0;
  std::string lease, fence;
  std::string holder;  // the lease without marks; empty: free
  std::uint64_t token = 0;
  std::vector<Entry> queue;
  std::map<std::string, double> readers;
  bool HasPhase() const { return holder.starts_with('%'); }
  bool IsReader(const std::string& owner) const { return readers.contains(owner); }
  bool IsLiveReader(const std::string& owner) const {
    const auto found = readers.find(owner);
    return found != readers.end() && found->second > static_cast<double>(ms);
  }
  bool Has(const std::string& owner) const {
    return holder == owner || (HasPhase() && IsLiveReader(owner));
  }
  bool Alive(const Entry& entry) const { return entry.dead_ms >= ms; }
};

// A client, who is another owner each time he wants the lock.
struct Client {
  enum class Phase { kIdle, kWaiting, kHeld };
  int id = 0;
  int attempt = 0, attempts_left = 0;
  Phase phase = Phase::kIdle;
  Micros start_at = kNever, paused_until = 0;
  // As in waiter.h.
  std::string owner;
  char kind = 'w';
  Micros ttl = 0, claim = 0;
  std::string ticket, alive;
  bool asking = false, ask_again = false, doubtful = false;
  Micros ask_at = kNever, give_up_at = kNever, not_before = 0;
  std::uint64_t above = 0;
  // As in lease_state.h.
  std::uint64_t token = 0, last_reserved = 0;
  int epoch = 0;  // in which it was granted
  Micros valid_until = 0, renew_at = kNever, release_at = kNever;
  bool turning = false;  // an upgrade or downgrade is under way

  bool CanWait() const { return kind != 't' && kind != 'T'; }
  Micros Next() const {
    Micros next = kNever;
    if (phase == Phase::kIdle) next = start_at;
    if (phase == Phase::kWaiting) next = std::min(asking ? kNever : ask_at, give_up_at);
    if (phase == Phase::kHeld) {
      next = turning ? valid_until : std::min({renew_at, release_at, valid_until});
    }
    return std::max(next, paused_until);
  }
};

// A time during which somebody may rightly think that he has the lock.
struct Belief {
  std::string owner;
  bool writer = true;
  std::uint64_t token = 0;
  Micros until = 0;
  int epoch = 0;
};

class Schedule {
 public:
  Schedule(SimulatedRedis& redis, const Scripts& scripts, std::uint64_t seed, bool trace)
      : redis_(redis), scripts_(scripts), random_(seed), trace_(trace) {
    redis_.FlushAll();
    redis_.TakePublished();
    redis_.SetTime(static_cast<std::uint64_t>(kStart));
  }

  // What went wrong; empty: nothing.
  std::string Run();

 private:
  struct Event {
    Micros at = 0;
    int client = -1;  // whose it is: waits while he is paused
    int attempt = 0;
    std::function<void()> run;
  };
  using Then = std::function<void(const Reply&, int epoch)>;

  void Fail(std::string why) {
    if (failure_.empty()) failure_ = std::move(why);
  }
  template <typename... Parts>
  void Note(const Parts&... parts) {
    if (trace_) std::cout << StrCat("  ", now_ - kStart, " us: ", parts...) << "\n";
  }

  void Later(Micros after, std::function<void()> run, const Client* client = nullptr) {
    events_.push_back({now_ + after, client != nullptr ? client->id : -1,
                       client != nullptr ? client->attempt : 0, std::move(run)});
  }
  bool Chance(int percent) { return !behaving_ && percent > 0 && random_.Percent(percent); }
  Micros Latency(const Client& c) {
    return Chance(weather_.slow) ? random_.Between(0, c.claim / 2) : random_.Between(0, 2 * kMs);
  }

  // The server.
  Snapshot Look();
  Reply Serve(Verb verb, const std::string& caller, const Strings& args);
  void CheckState(const Snapshot& s);
  void CheckStep(Verb verb, const std::string& caller, const Reply& reply, const Snapshot& before,
                 const Snapshot& after);
  void CheckAnswer(Verb verb, const std::string& caller, const Reply& reply, const Snapshot& before,
                   const Snapshot& after);
  void CheckGrant(Verb verb, const std::string& caller, const std::string& owner,
                  const Snapshot& before);
  void CheckOrder(const Snapshot& before, const Snapshot& after);
  void Disaster();

  // The clients.
  void Call(Client& c, Verb verb, Strings args, Then then, bool may_break = false,
            std::function<void()> broken = {});
  void Act(Client& c);
  void Start(Client& c);
  void Ask(Client& c);
  void Answered(Client& c, Micros sent, const Reply& reply, int epoch);
  void Broke(Client& c);
  void Heard(Client& c, std::string_view rest, int epoch);
  void Grant(Client& c, std::uint64_t token, Micros valid_until, Micros renew_at, int epoch);
  void GiveUp(Client& c);
  void Withdraw(Client& c, const std::string& owner, bool late_duplicates);
  void Renew(Client& c);
  void Turn(Client& c);
  void Release(Client& c);
  void Idle(Client& c);
  void Believe(const Client& c, int epoch);
  void StopBelieving(const Client& c);
  void Finish();

  SimulatedRedis& redis_;
  const Scripts& scripts_;
  Random random_;
  const bool trace_;
  Weather weather_;
  std::string failure_;
  Micros now_ = kStart;
  Micros step_back_ = 0;  // of the server's clock, in all
  std::vector<Client> clients_;
  std::vector<Event> events_;
  std::vector<Belief> beliefs_;
  std::map<std::string, char> kinds_;                   // of owners
  std::map<std::string, std::int64_t> refused_until_;   // ms of the server
  std::map<std::string, std::uint64_t> granted_token_;  // the last, by owner
  std::vector<std::string> order_;                      // who entered the queue, and has not had it
  std::uint64_t last_token_ = 0;
  int epoch_ = 0;  // what was granted before the last disaster counts no more
  int served_ = 0;
  bool behaving_ = false;
};

Snapshot Schedule::Look() {
  Snapshot s;
  s.ms = static_cast<std::int64_t>(redis_.now_us() / 1000);
  s.lease = redis_.Command({"GET", kLease}).text();
  s.fence = redis_.Command({"GET", kFence}).text();
  if (const auto at = s.lease.find_first_not_of('~'); at != std::string::npos) {
    s.holder = s.lease.substr(at);
  }
  if (!s.fence.empty()) {
    s.token = ToNumber(std::string_view(s.fence).substr(s.fence[0] == '~' ? 1 : 0, 16));
  }
  const Reply queue = redis_.Command({"LRANGE", kQueue, "0", "-1"});
  for (const Reply& item : queue.items()) {
    std::string_view rest = item.text();
    std::string_view fields[5];
    for (std::string_view& field : fields) {
      const auto space = std::min(rest.find(' '), rest.size());
      field = rest.substr(0, space);
      rest.remove_prefix(std::min(space + 1, rest.size()));
    }
    s.queue.push_back({static_cast<std::int64_t>(ToNumber(fields[0])), ToNumber(fields[1]),
                       fields[3].empty() ? '?' : fields[3][0], std::string(fields[4])});
  }
  const Reply readers = redis_.Command({"ZRANGE", kReaders, "0", "-1", "WITHSCORES"});
  for (std::size_t i = 0; i + 1 < readers.items().size(); i += 2) {
    s.readers[readers.items()[i].text()] =
        std::strtod(readers.items()[i + 1].text().c_str(), nullptr);
  }
  return s;
}

Reply Schedule::Serve(Verb verb, const std::string& caller, const Strings& args) {
  ++served_;
  redis_.SetTime(static_cast<std::uint64_t>(now_ - step_back_));
  const Snapshot before = Look();
  if (verb == Verb::kEvict) ++epoch_;
  const Reply reply = redis_.Run(scripts_.of(verb), KeysOf(verb), args);
  const Snapshot after = Look();
  if (trace_) {
    std::string line = StrCat(scripts_.of(verb).name);
    for (const std::string& arg : args) line += StrCat(" ", arg);
    Note(line, " -> ", reply.ToDebugString(), "; lease ", after.lease, " fence ", after.fence);
    for (const Entry& entry : after.queue) {
      Note("    ", entry.owner, " ", std::string(1, entry.kind), " ticket ", entry.ticket,
           after.Alive(entry) ? "" : " dead");
    }
  }
  if (reply.is_error()) Fail(StrCat(scripts_.of(verb).name, " failed: ", reply.text()));
  CheckStep(verb, caller, reply, before, after);
  CheckState(after);
  if (verb == Verb::kWithdraw && args[1] != "0") {
    refused_until_[caller] = after.ms + static_cast<std::int64_t>(ToNumber(args[1]));
  }
  if (verb == Verb::kEvict && !reply.is_nil()) {
    for (const auto& [owner, kind] : kinds_) {
      if (before.Has(owner)) refused_until_[owner] = after.ms + kEvicted / kMs;
    }
  }
  for (const Published& message : redis_.TakePublished()) {
    const auto space = message.message.find(' ');
    const std::string owner = message.message.substr(0, space);
    const std::string rest = message.message.substr(space + 1);
    for (Client& c : clients_) {
      if (message.channel != StrCat("ch", c.id) || c.owner != owner) continue;
      if (Chance(weather_.lost_messages)) continue;
      const Micros late = Chance(weather_.late_messages) ? random_.Between(0, 2 * c.claim)
                                                         : random_.Between(0, 2 * kMs);
      Later(
          late, [this, &c, rest, epoch = epoch_] { Heard(c, rest, epoch); }, &c);
    }
  }
  return reply;
}

void Schedule::CheckState(const Snapshot& s) {
  if (!s.queue.empty() && !s.fence.starts_with('~')) Fail("somebody waits, the fence has no mark");
  if (!s.queue.empty() && !s.lease.empty() && !s.lease.starts_with('~')) {
    Fail("somebody waits, the lease has no mark");
  }
  for (const Entry& entry : s.queue) {
    if (entry.kind == 'r' && !s.lease.empty() && !s.lease.starts_with("~~") && !s.HasPhase()) {
      Fail("a reader waits, the writer's lease does not say so");
    }
  }
  if (!weather_.steps) {
    for (std::size_t i = 1; i < s.queue.size(); ++i) {
      if (s.queue[i].ticket < s.queue[i - 1].ticket) Fail("the queue is not in order of tickets");
    }
  }
  for (const std::string& key : kAllKeys) {
    if (redis_.Command({"PTTL", key}).integer() == -1) Fail(StrCat(key, " lives for ever"));
  }
  if (s.HasPhase() && ToNumber(std::string_view(s.holder).substr(1)) != s.token) {
    Fail("the phase's token is not the last one");
  }
  if (s.token < last_token_ && epoch_ == 0) Fail("the fence is below a token that was given");
}

void Schedule::CheckStep(Verb verb, const std::string& caller, const Reply& reply,
                         const Snapshot& before, const Snapshot& after) {
  const bool changed = after.holder != before.holder;
  if (changed && !before.holder.empty() && verb != Verb::kEvict) {
    if (!before.HasPhase()) {
      const bool may =
          verb == Verb::kRelease || verb == Verb::kWithdraw || verb == Verb::kDowngrade;
      if (before.holder != caller || !may) {
        Fail(StrCat(scripts_.of(verb).name, " by ", caller, " took the lease of ", before.holder));
      }
    } else {
      const bool may = verb == Verb::kUnshare || verb == Verb::kWithdraw || verb == Verb::kUpgrade;
      if (!may || !before.IsReader(caller)) {
        Fail(StrCat(scripts_.of(verb).name, " by ", caller, " ended a phase of readers"));
      }
      for (const auto& [owner, until] : before.readers) {
        if (owner != caller && before.IsLiveReader(owner)) {
          Fail(StrCat("the phase ended while ", owner, " reads"));
        }
      }
    }
  }
  if (after.HasPhase()) {
    for (const auto& [owner, until] : after.readers) {
      if (!changed && before.IsReader(owner)) continue;
      CheckGrant(verb, caller, owner, before);
      granted_token_[owner] = after.token;
      if (changed || owner != caller || verb != Verb::kShare) continue;
      for (const Entry& entry : before.queue) {
        if (entry.kind != 'r' && before.Alive(entry)) {
          Fail(StrCat(owner, " joined the readers although ", entry.owner, " waits to write"));
        }
      }
    }
  }
  if (changed && !after.holder.empty()) {
    if (after.token <= last_token_) {
      Fail(StrCat("token ", after.token, " of ", after.holder, " came after ", last_token_));
    }
    last_token_ = std::max(last_token_, after.token);
    if (!after.HasPhase()) {
      CheckGrant(verb, caller, after.holder, before);
      granted_token_[after.holder] = after.token;
    }
  }
  CheckAnswer(verb, caller, reply, before, after);
  if (weather_.orderly) CheckOrder(before, after);

  // Whoever finds the lock free or makes it so gives it to somebody who waits.
  const bool looks = verb == Verb::kWithdraw || verb == Verb::kEvict || verb == Verb::kAcquire ||
                     ((verb == Verb::kRelease || verb == Verb::kUnshare) && reply.integer() == 1) ||
                     (verb == Verb::kShare && ToNumber(reply.items()[0]) >= 0);
  if (looks && after.holder.empty() && !(verb == Verb::kEvict && before.holder.empty())) {
    for (const Entry& entry : after.queue) {
      if (!after.Alive(entry)) continue;
      if (entry.kind != 'b') Fail(StrCat("the lock is free while ", entry.owner, " waits"));
      break;
    }
  }
}

void Schedule::CheckGrant(Verb verb, const std::string& caller, const std::string& owner,
                          const Snapshot& before) {
  if (const auto found = refused_until_.find(owner);
      found != refused_until_.end() && found->second > before.ms) {
    Fail(StrCat(owner, " has withdrawn and was given the lock"));
  }
  const auto mine = std::find_if(before.queue.begin(), before.queue.end(), [&](const Entry& e) {
    return e.owner == owner && (owner == caller || before.Alive(e));
  });
  if (owner != caller && mine == before.queue.end()) {
    Fail(StrCat(owner, " was given the lock and was not there to take it"));
  }
  const char kind = kinds_[owner];
  if ((kind != 'w' && kind != 't') || verb == Verb::kUpgrade || verb == Verb::kDowngrade) return;
  for (const Entry& entry : before.queue) {
    if (entry.kind == 'b') return;
  }
  for (auto other = before.queue.begin(); other != mine; ++other) {
    // Who goes has left the queue by then.
    if (verb == Verb::kWithdraw && other->owner == caller) continue;
    if (verb == Verb::kEvict && before.Has(other->owner)) continue;
    if (other->owner != owner && before.Alive(*other)) {
      Fail(StrCat(owner, " was given the lock before ", other->owner));
    }
  }
}

void Schedule::CheckAnswer(Verb verb, const std::string& caller, const Reply& reply,
                           const Snapshot& before, const Snapshot& after) {
  const auto expect = [&](bool yes) {
    if ((reply.integer() == 1) != yes) {
      Fail(StrCat(scripts_.of(verb).name, " told ", caller, " ", reply.ToDebugString()));
    }
  };
  const bool wrote = !before.HasPhase() && before.holder == caller;
  const bool read = before.HasPhase() && before.IsReader(caller);
  switch (verb) {
    case Verb::kRelease:
    case Verb::kRenew:
      return expect(wrote);
    case Verb::kWithdraw:
      return expect(wrote || read);
    case Verb::kUnshare:
      return expect(read);
    case Verb::kShareRenew:
      return expect(read && before.IsLiveReader(caller));
    case Verb::kReserve:
      if ((ToNumber(reply) != 0) != wrote) Fail(StrCat(caller, " set tokens aside"));
      return;
    case Verb::kAcquire:
    case Verb::kShare: {
      if (reply.items().size() < 2) return Fail("an answer without items");
      const std::int64_t token = ToNumber(reply.items()[0]);
      const bool is_his = verb == Verb::kAcquire ? after.holder == caller
                                                 : after.HasPhase() && after.IsLiveReader(caller);
      if ((token > 0) != is_his) Fail(StrCat(caller, " was told that he has what he has not"));
      if (token > 0 && static_cast<std::uint64_t>(token) != after.token) {
        Fail(StrCat(caller, " was told another token than the fence's"));
      }
      if (token == 0 && after.holder.empty()) Fail(StrCat(caller, " shall wait for nobody"));
      if (token == 0 && reply.items().size() > 5 &&
          std::none_of(after.queue.begin(), after.queue.end(),
                       [&](const Entry& e) { return e.owner == caller && after.Alive(e); })) {
        Fail(StrCat(caller, " was told that he waits and does not"));
      }
      return;
    }
    case Verb::kEvict:
    case Verb::kDowngrade:
    case Verb::kUpgrade:
      return;
  }
}

// Where all behave, the lock goes to those who entered the queue in the order in which they did.
void Schedule::CheckOrder(const Snapshot& before, const Snapshot& after) {
  if (after.holder != before.holder && !after.holder.empty()) {
    if (!order_.empty() && order_.front() != after.holder) {
      Fail(StrCat(after.holder, " came before ", order_.front()));
    }
    if (!order_.empty()) order_.erase(order_.begin());
  }
  for (const Entry& entry : after.queue) {
    if (std::find(order_.begin(), order_.end(), entry.owner) == order_.end()) {
      order_.push_back(entry.owner);
    }
  }
}

void Schedule::Disaster() {
  if (behaving_) return;
  if (weather_.steps) {
    const Micros step = random_.Between(0, 2'000 * kMs);
    step_back_ += step;
    Note("the clock steps back by ", step);
  }
  if (weather_.flush) {
    Note("FLUSHALL");
    redis_.FlushAll();
    ++epoch_;
    refused_until_.clear();
    now_ += kMs;  // a token set aside may be ahead of the clock by microseconds
  }
  if (weather_.evict) Serve(Verb::kEvict, "", {""});
  Later(random_.Between(0, 3'000 * kMs), [this] { Disaster(); });
}

// Sends, serves and answers, each after a while. What breaks is heard of by `broken`.
void Schedule::Call(Client& c, Verb verb, Strings args, Then then, bool may_break,
                    std::function<void()> broken) {
  const std::string owner = c.owner;
  Micros out = Latency(c);
  bool answers = true;
  if (may_break && Chance(weather_.broken)) {
    answers = false;
    Later(random_.Between(1, c.claim / 4), std::move(broken), &c);
    const Micros how = random_.Between(0, 2);
    if (how == 0) return;
    if (how == 1) out = random_.Between(0, kLatest);
  }
  const int attempt = c.attempt;
  Later(out,
        [this, &c, attempt, verb, owner, answers, args = std::move(args), then = std::move(then)] {
          const Reply reply = Serve(verb, owner, args);
          if (!answers || c.attempt != attempt) return;
          Later(
              Latency(c), [then, reply, epoch = epoch_] { then(reply, epoch); }, &c);
        });
}

void Schedule::Idle(Client& c) {
  StopBelieving(c);
  c.phase = Client::Phase::kIdle;
  ++c.attempt;  // what is still under way for the last one finds nobody
  c.owner.clear();
  c.start_at = c.attempts_left > 0 && !behaving_ ? now_ + random_.Between(0, c.claim / 2) : kNever;
}

void Schedule::Start(Client& c) {
  if (behaving_ || c.attempts_left == 0) {
    c.start_at = kNever;
    return;
  }
  --c.attempts_left;
  const int id = c.id, attempt = c.attempt, left = c.attempts_left;
  c = Client();
  c.id = id;
  c.attempt = attempt;
  c.attempts_left = left;
  c.owner = StrCat("c", id, "n", attempt, "@host:", id);
  const bool barging = Chance(weather_.barging), tries = Chance(weather_.tries);
  if (Chance(weather_.readers)) {
    c.kind = 'r';
  } else {
    c.kind = barging ? (tries ? 'T' : 'b') : (tries ? 't' : 'w');
  }
  kinds_[c.owner] = c.kind;
  constexpr Micros kTtls[] = {200 * kMs, 500 * kMs, 1'500 * kMs, kLongestTtl};
  c.ttl = kTtls[random_.Between(0, 3)];
  c.claim = std::min(c.ttl, 3'000 * kMs);
  c.ticket = c.alive = "0";
  c.phase = Client::Phase::kWaiting;
  c.not_before = now_;
  if (Chance(weather_.give_ups)) c.give_up_at = now_ + random_.Between(0, 2 * c.claim);
  Ask(c);
}

void Schedule::Ask(Client& c) {
  c.asking = true;
  c.ask_at = kNever;
  Strings args = {c.owner, StrCat(c.ttl / kMs), std::string(1, c.kind)};
  if (c.CanWait()) {
    for (const std::string& arg : {StrCat(c.claim / kMs), StrCat("ch", c.id), c.ticket, c.alive}) {
      args.push_back(arg);
    }
  }
  Call(
      c, c.kind == 'r' ? Verb::kShare : Verb::kAcquire, std::move(args),
      [this, &c, sent = now_](const Reply& reply, int epoch) { Answered(c, sent, reply, epoch); },
      true, [this, &c] { Broke(c); });
}

void Schedule::Broke(Client& c) {
  c.asking = false;
  c.doubtful = true;
  if (c.phase != Client::Phase::kWaiting) return;
  if (c.ticket == "0") c.ticket = "1";
  c.ask_again = false;
  if (!c.CanWait()) return GiveUp(c);
  c.ask_at = now_ + 50 * kMs;
}

void Schedule::Answered(Client& c, Micros sent, const Reply& reply, int epoch) {
  c.asking = false;
  if (c.phase != Client::Phase::kWaiting) return;
  const bool ask_again = std::exchange(c.ask_again, false);
  const auto items = reply.items();
  if (items.size() < 2) return Fail("an answer without items");
  const std::int64_t token = ToNumber(items[0]);
  if (token < 0) {
    if (!weather_.evict) Fail(StrCat(c.owner, " has not withdrawn and was refused"));
    return Idle(c);
  }
  if (token > 0) {
    const Micros valid_until = ValidUntil(sent, c.ttl, ToNumber(items[1]) * kMs);
    const Micros renew_at = std::min(sent + c.ttl / 3, sent + (valid_until - sent) / 3);
    if (valid_until > now_) {
      return Grant(c, static_cast<std::uint64_t>(token), valid_until, renew_at, epoch);
    }
    c.doubtful = true;
    if (!c.CanWait()) return GiveUp(c);
    c.ask_at = now_ + std::min(50 * kMs, c.claim / 3);
    return;
  }
  if (!c.CanWait()) return GiveUp(c);
  const Micros period = std::min(c.claim / 3, 1'000 * kMs);
  c.ask_at = ask_again ? now_ : sent + period;
  if (items.size() < 6) return Fail("no place for one who waits");
  c.ticket = items[3].text();
  c.alive = items[4].text();
  c.not_before = std::max(c.not_before, sent);
  c.above = std::max(c.above, static_cast<std::uint64_t>(ToNumber(items[5])));
  const Micros left = ToNumber(items[1]) * kMs;
  if (left < period) c.ask_at = std::min(c.ask_at, sent + std::max(left + kMs, 50 * kMs));
}

void Schedule::Heard(Client& c, std::string_view rest, int epoch) {
  if (c.phase != Client::Phase::kWaiting) return;
  const std::uint64_t token = ToNumber(rest.substr(0, rest.find(' ')));
  const auto claim = static_cast<Micros>(ToNumber(rest.substr(rest.find(' ') + 1))) * kMs;
  const Micros valid_until = ValidUntil(c.not_before, claim, claim);
  if (token > c.above && valid_until > now_) {
    return Grant(c, token, valid_until, now_ + std::min(50 * kMs, (valid_until - now_) / 4), epoch);
  }
  if (c.asking) {
    c.ask_again = true;
  } else {
    c.ask_at = std::min(c.ask_at, now_);
  }
}

void Schedule::Grant(Client& c, std::uint64_t token, Micros valid_until, Micros renew_at,
                     int epoch) {
  c.epoch = epoch;
  Note(c.owner, " believes to have it until ", valid_until - kStart);
  c.phase = Client::Phase::kHeld;
  c.token = token;
  c.valid_until = valid_until;
  c.renew_at = renew_at;
  c.doubtful |= c.asking;
  const Micros longest = behaving_ || weather_.orderly ? c.claim / 4 : c.claim;
  c.release_at = now_ + random_.Between(0, longest);
  if (epoch_ == 0 && granted_token_[c.owner] != token) {
    Fail(StrCat(c.owner, " has a token that is not his"));
  }
  Believe(c, epoch);
  if (c.kind != 'r' && !c.doubtful && Chance(15)) {
    // Tokens for the threads of one process, of which some are used.
    const std::int64_t count = random_.Between(1, 8);
    Call(c, Verb::kReserve, {c.owner, StrCat(count)},
         [this, &c, count](const Reply& reply, int its_epoch) {
           if (c.phase != Client::Phase::kHeld || c.turning) return;
           const auto first = static_cast<std::uint64_t>(ToNumber(reply));
           if (first == 0) return;
           if (its_epoch == epoch_ && first <= last_token_)
             Fail("a token was set aside that had been given");
           c.last_reserved = first + static_cast<std::uint64_t>(count) - 1;
           c.token = first + static_cast<std::uint64_t>(random_.Between(0, count - 1));
           last_token_ = std::max(last_token_, c.token);
         });
  } else if ((c.kind == 'r' || weather_.readers > 0) && Chance(15)) {
    Turn(c);
  }
}

void Schedule::Believe(const Client& c, int epoch) {
  std::erase_if(beliefs_, [&](const Belief& b) { return b.until <= now_ || b.owner == c.owner; });
  const Belief mine = {c.owner, c.kind != 'r', c.token, c.valid_until, epoch};
  for (const Belief& other : beliefs_) {
    if (other.epoch != epoch_ || mine.epoch != epoch_) continue;
    if (mine.writer || other.writer || mine.token != other.token) {
      Fail(StrCat(mine.owner, " and ", other.owner, " both believe that they have the lock"));
    }
  }
  beliefs_.push_back(mine);
}

void Schedule::StopBelieving(const Client& c) {
  std::erase_if(beliefs_, [&](const Belief& b) { return b.owner == c.owner; });
}

void Schedule::Withdraw(Client& c, const std::string& owner, bool late_duplicates) {
  const Strings args = {owner, late_duplicates ? StrCat(kMemory / kMs) : "0"};
  const int copies = Chance(weather_.again) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    Later(Latency(c), [this, owner, args] { Serve(Verb::kWithdraw, owner, args); });
  }
}

void Schedule::GiveUp(Client& c) {
  Note(c.owner, " gives up");
  const bool late_duplicates = c.doubtful || c.asking;
  if (c.ticket != "0" || late_duplicates) Withdraw(c, c.owner, late_duplicates);
  Idle(c);
}

void Schedule::Renew(Client& c) {
  c.renew_at = kNever;
  const Verb verb = c.kind == 'r' ? Verb::kShareRenew : Verb::kRenew;
  Call(
      c, verb, {c.owner, StrCat(c.ttl / kMs)},
      [this, &c, sent = now_](const Reply& reply, int epoch) {
        if (c.phase != Client::Phase::kHeld || c.turning) return;
        if (reply.integer() != 1) {
          Note(c.owner, " has lost it");
          return Idle(c);
        }
        c.valid_until = std::max(c.valid_until, ValidUntil(sent, c.ttl, c.ttl));
        c.renew_at = sent + c.ttl / 3;
        // After FLUSHALL, a late duplicate can have made it good again; the eviction sees to that.
        Believe(c, weather_.flush ? c.epoch : epoch);
      },
      true,
      [this, &c] {
        if (c.phase != Client::Phase::kHeld) return;
        c.renew_at = FromTime(internal::RetryRenewalAt(ToTime(now_), absl::Microseconds(c.ttl)));
      });
}

// A reader becomes a writer, or the other way round. He is neither while that is under way.
void Schedule::Turn(Client& c) {
  c.turning = true;
  const bool up = c.kind == 'r';
  StopBelieving(c);
  const Verb verb = up ? Verb::kUpgrade : Verb::kDowngrade;
  Call(c, verb, {c.owner, StrCat(c.ttl / kMs)},
       [this, &c, up, sent = now_](const Reply& reply, int epoch) {
         if (c.phase != Client::Phase::kHeld) return;
         c.turning = false;
         const std::int64_t token = ToNumber(reply.items()[0]);
         if (token < 0 || (token == 0 && !up)) return Idle(c);
         if (token > 0) {
           c.kind = up ? 'w' : 'r';
           c.token = static_cast<std::uint64_t>(token);
           c.last_reserved = 0;
           c.valid_until = ValidUntil(sent, c.ttl, ToNumber(reply.items()[1]) * kMs);
           c.renew_at = now_;
           // A late answer is none.
           if (c.valid_until <= now_) return Idle(c);
         }
         Believe(c, epoch);
       });
}

void Schedule::Release(Client& c) {
  const std::string owner = c.owner;
  const Verb verb = c.kind == 'r' ? Verb::kUnshare : Verb::kRelease;
  if (c.doubtful) {
    Withdraw(c, owner, true);
    return Idle(c);
  }
  Strings args = {owner};
  if (c.last_reserved != 0) {
    args.push_back(StrCat(c.token));
    args.push_back(StrCat(c.last_reserved));
  }
  if (Chance(weather_.broken)) {
    // Its outcome is unknown, so it is repeated as a withdrawal; it may come after that.
    if (random_.Percent(60)) {
      Later(random_.Between(0, kLatest), [this, verb, owner, args] { Serve(verb, owner, args); });
    }
    Withdraw(c, owner, true);
    return Idle(c);
  }
  const bool again = Chance(weather_.again);
  Later(Latency(c), [this, verb, owner, args, again] {
    Serve(verb, owner, args);
    if (!again) return;
    Later(random_.Between(0, 500 * kMs), [this, verb, owner] { Serve(verb, owner, {owner}); });
  });
  Idle(c);
}

void Schedule::Act(Client& c) {
  if (c.phase == Client::Phase::kIdle) return Start(c);
  if (Chance(weather_.deaths)) {
    Note(c.owner, " dies");
    // What he believed stays, as if he were only silent; another takes his chair.
    const std::string owner = std::exchange(c.owner, "nobody");
    const Micros again = now_ + random_.Between(0, 2 * c.claim);
    Idle(c);
    if (c.start_at != kNever) c.start_at = again;
    return;
  }
  if (Chance(weather_.pauses)) {
    c.paused_until = now_ + random_.Between(c.claim / 2, 2 * c.claim);
    Note(c.owner, " pauses until ", c.paused_until - kStart);
    return;
  }
  if (c.phase == Client::Phase::kWaiting) {
    if (now_ >= c.give_up_at) return GiveUp(c);
    return Ask(c);
  }
  if (now_ >= c.valid_until) {
    Note(c.owner, " has let it lapse");
    // A client would not say more; one that does so all the same must do no harm.
    const Verb verb = c.kind == 'r' ? Verb::kUnshare : Verb::kRelease;
    if (Chance(weather_.again)) {
      Later(Latency(c), [this, verb, owner = c.owner] { Serve(verb, owner, {owner}); });
    }
    return Idle(c);
  }
  if (now_ >= c.release_at) return Release(c);
  Renew(c);
}

std::string Schedule::Run() {
  weather_ = RandomWeather(random_);
  clients_.resize(static_cast<std::size_t>(random_.Between(3, 6)));
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    Client& c = clients_[i];
    c.id = static_cast<int>(i);
    c.attempts_left = static_cast<int>(random_.Between(1, 3));
    c.claim = 500 * kMs;
    c.start_at = now_ + random_.Between(0, 300 * kMs);
  }
  if (weather_.steps || weather_.flush || weather_.evict) {
    Later(random_.Between(0, 1'500 * kMs), [this] { Disaster(); });
  }
  Micros deadline = kNever;
  while (failure_.empty()) {
    Micros at = kNever;
    Client* acts = nullptr;
    std::size_t event = events_.size();
    bool waiting = false;
    int chances = 0;
    for (Client& c : clients_) {
      waiting |= c.phase != Client::Phase::kIdle;
      chances += c.attempts_left;
      if (c.Next() < at) {
        at = c.Next();
        acts = &c;
      }
    }
    for (std::size_t i = 0; i < events_.size(); ++i) {
      Event& e = events_[i];
      if (e.client >= 0)
        e.at = std::max(e.at, clients_[static_cast<std::size_t>(e.client)].paused_until);
      if (e.at < at) {
        at = e.at;
        event = i;
      }
    }
    if (!behaving_ && (chances == 0 || served_ > 60)) {
      behaving_ = true;
      // Everyone may have to sit out a lease or a claim of one who is gone.
      const auto count = static_cast<Micros>(clients_.size());
      deadline = now_ + step_back_ + 2 * kLatest + 2 * count * (kLongestTtl + 1'000 * kMs);
      if (weather_.orderly) deadline = now_ + count * (3'000 * kMs / 4 + 1'000 * kMs + 20 * kMs);
      for (Client& c : clients_) {
        if (c.phase == Client::Phase::kIdle) c.start_at = kNever;
        c.give_up_at = kNever;
      }
      continue;
    }
    if (at == kNever) break;
    if (waiting && at > deadline) {
      Fail("somebody still waits although all behave");
      break;
    }
    now_ = std::max(now_, at);
    if (event < events_.size()) {
      const Event due = std::move(events_[event]);
      events_.erase(events_.begin() + static_cast<std::ptrdiff_t>(event));
      const bool gone =
          due.client >= 0 && clients_[static_cast<std::size_t>(due.client)].attempt != due.attempt;
      if (!gone) due.run();
    } else {
      Act(*acts);
    }
  }
  if (failure_.empty()) Finish();
  return failure_;
}

// Nobody wants it any more.
void Schedule::Finish() {
  now_ += step_back_ + 2 * kLongestTtl;
  redis_.SetTime(static_cast<std::uint64_t>(now_ - step_back_));
  const Snapshot s = Look();
  if (!s.lease.empty() || !s.readers.empty()) Fail("a lease is left");
  if (weather_.orderly && !s.queue.empty()) Fail("an entry is left");
  for (const Entry& entry : s.queue) {
    if (s.Alive(entry)) Fail("an entry is left that lives");
  }
  const std::string last = "last@host";
  kinds_[last] = 't';
  if (ToNumber(Serve(Verb::kAcquire, last, {last, "1000", "t"}).items()[0]) <= 0) {
    Fail("a free lock could not be had");
  }
  Serve(Verb::kRelease, last, {last});
  now_ += 61'000 * kMs;
  redis_.SetTime(static_cast<std::uint64_t>(now_ - step_back_));
  if (redis_.Command({"EXISTS", kLease, kQueue, kReaders}).integer() != 0) {
    Fail("more than the fence is left");
  }
}

std::uint64_t BaseSeed() {
  const char* const given = std::getenv("COORD_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20261121;
}

struct Failure {
  std::uint64_t seed = 0;
  int schedules = 0;
  std::string why;
};

std::optional<Failure> FirstFailure(const Scripts& scripts) {
  // One for all, since it compiles each script once.
  SimulatedRedis redis(static_cast<std::uint64_t>(kStart));
  const std::uint64_t base = BaseSeed();
  for (int i = 0; i < kSchedules; ++i) {
    const std::uint64_t seed = base + static_cast<std::uint64_t>(i);
    std::string why = Schedule(redis, scripts, seed, false).Run();
    if (!why.empty()) return Failure{seed, i + 1, std::move(why)};
  }
  return std::nullopt;
}

TEST(LockQueueScheduleTest, NoScheduleBreaksWhatIsPromised) {
  std::cout << "COORD_TEST_SEED=" << BaseSeed() << std::endl;
  const Scripts scripts;
  const std::optional<Failure> failure = FirstFailure(scripts);
  if (!failure) return;
  SimulatedRedis redis(static_cast<std::uint64_t>(kStart));
  Schedule(redis, scripts, failure->seed, true).Run();
  FAIL() << failure->why << "; again with COORD_TEST_SEED=" << failure->seed;
}

struct Planted {
  const char* name;
  const char* original;
  const char* instead;
};

class LockQueueScheduleTest : public ::testing::TestWithParam<Planted> {};

TEST_P(LockQueueScheduleTest, APlantedFaultIsFound) {
  const Scripts scripts(GetParam().original, GetParam().instead);
  ASSERT_TRUE(scripts.changed()) << "no script has the text that this fault replaces";
  const std::optional<Failure> failure = FirstFailure(scripts);
  ASSERT_TRUE(failure.has_value());
  std::cout << "found in schedule " << failure->schedules << ": " << failure->why << std::endl;
}

constexpr Planted kPlanted[] = {
    {"ReleaseOfAnothersLease",
     "if not readers_wait and value ~= '~' .. owner and value ~= owner then return 0 end",
     "if not value then return 0 end"},
    {"RenewalOfAnothersLease",
     "if value ~= owner and value ~= '~' .. owner and value ~= '~~' .. owner then return 0 end",
     "if not value then return 0 end"},
    {"GrantToTheDead", "if dead and tonumber(dead) >= ms then if kind == 'w'",
     "if dead then if kind == 'w'"},
    {"PhaseOfTheDead", "if dead and tonumber(dead) >= ms then admit(", "if dead then admit("},
    {"TokenThatDoesNotRise", "string.format('%016.0f', given + 1)",
     "string.format('%016.0f', given + 0)"},
    {"TokenOfTheClockAlone", "if given and given >= us then", "if false then"},
    {"TokenWithoutTheClock", "local token, given = us, string.match(record, '%d+')",
     "local token, given = us, string.match(record, '%d+') "
     "if not given then token = '0000000000000001' end"},
    {"WaitThatForgetsTheFence",
     "if string.byte(record) ~= 126 then call('SET', fence, '~' .. record, 'PX', keep) end", ""},
    {"WaitThatForgetsTheLease", "if string.sub(value, 1, #mark) ~= mark then", "if false then"},
    {"ReaderWhoWaitsUnseen", "local mark = kind == 'r' and '~~' or '~'", "local mark = '~'"},
    {"WaitAtTheEndAgain", "if not before and ticket ~= '1' and its_ticket > ticket then",
     "if false then"},
    {"WithdrawalForgotten", "if memory == '0' then return end", "if true then return end"},
    {"WithdrawalThatStaysInTheQueue",
     "if among[string.match(entry, '^%S+ %S+ %S+ %S+ (%S+) ')] then", "if false then"},
    {"EvictionForgotten", "dismiss(evicted, '10000')", ""},
    {"ReaderPastAWriter", "if not writer_waits then", "if true then"},
    {"PhaseThatEndsWithItsFirstReader", "if not longest then return false end",
     "if true then return false end"},
    {"UpgradeBesideReaders", "if others > 0 then", "if false then"},
    {"GrantForEver", "call('SET', lease, mark .. owner, 'PX', claim)",
     "call('SET', lease, mark .. owner)"},
    {"NobodyIsWoken", "if not grant(readers_first, mark) then", "if true then"},
    {"GrantToTheLast", "local entry = call('LPOP', queue) while",
     "local entry = call('RPOP', queue) while"},
    {"NewcomerPastTheQueue",
     "if barging or string.byte(last) ~= 126 or not grant(false, '~~') then", "if true then"},
    {"GrantLongerThanAClaim", "call('SET', lease, mark .. owner, 'PX', claim) tell(",
     "call('SET', lease, mark .. owner, 'PX', math.ceil(claim / 2)) tell("},
};

INSTANTIATE_TEST_SUITE_P(Planted, LockQueueScheduleTest, ::testing::ValuesIn(kPlanted),
                         [](const auto& planted) { return std::string(planted.param.name); });

}  // namespace
}  // namespace coord::testing
