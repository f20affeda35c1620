// What a quorum promises, under thousands of random schedules: the pure code that decides
// (quorum_vote.h, quorum_round.h) and the real scripts, on simulated servers and a simulated
// network, every one with its own clock. How a round is driven and how a lease is kept up is
// written here a second time, after quorum_acquire.cc and quorum_held.cc, whose threads and
// connections no schedule can hold still.
//
// A schedule has a time of faults and a time in which all behave. Throughout it is checked that
// promised validities of different holders do not overlap in true time, that tokens rise, that a
// majority had granted the ballot of every lease, and that nothing revives what was released; at
// the end, that somebody gets the lock in bounded time and that nothing is left behind.
//
// COORD_TEST_SEED repeats a run, the printed seed.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "coord/lock/quorum_round.h"
#include "coord/lock/quorum_vote.h"
#include "coord/script.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/simulated_redis.h"

namespace coord::testing {
namespace {

using internal::Ballot;
using internal::BallotText;
using internal::BirthAnswer;
using internal::Drift;
using internal::MajorityOf;
using internal::QuorumRound;
using internal::ScriptText;
using internal::StrCat;
using internal::ValidUntil;
using internal::Vote;
using internal::VoteAnswer;

using Us = std::int64_t;  // true time, microseconds since a schedule began
constexpr Us kMs = 1'000;
constexpr Us kSecond = 1'000 * kMs;
constexpr Us kEpoch = 1'700'000'000 * kSecond;
constexpr Us kLongestDelay = 2'500 * kMs;
constexpr Us kLongestPause = 1 * kSecond;
constexpr Us kMemoryMs = 5'000;  // of withdrawn owners, as in quorum_held.cc; above both together
constexpr Us kMaxTtlMs = 2'000;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kSchedules = 1'000;  // each is ten times as long
#else
constexpr int kSchedules = 10'000;
#endif
const std::string kLeaseKey = "{m}lease";
const std::string kFenceKey = "{m}fence";
const std::string kMarker = "{quorum}:birth";

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next() {  // splitmix64
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  Us Between(Us low, Us high) {
    return low + static_cast<Us>(Next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool Percent(int percent) { return Between(1, 100) <= percent; }

 private:
  std::uint64_t state_;
};

// A mistake to be noticed. Those of the scripts are planted in a copy of their text; those of C++
// in this file's copy of the decision.
enum class Bug {
  kNone,
  kNoQuarantine,     // script: an empty server votes at once
  kMixedBallots,     // here: votes for any ballots count together
  kLongValidity,     // here: without drift, and from the moment of receiving
  kBlindRelease,     // script: deletes whatever is there
  kBallotNotStored,  // script: the fence is not written
  kNoMemory,         // here: a release never remembers its owner
  kSilenceIsAGrant,  // here: a server that does not answer in time counts as a vote
  kRenewalByOne,     // here: what one server has renewed is valid
};

// A copy of a script with one passage replaced.
std::unique_ptr<Script> Changed(const ScriptText& script, std::string_view from,
                                std::string_view to) {
  std::string text(script.text);
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << script.name << " no longer has: " << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  Script::Options options;
  options.name = std::string(script.name);
  return std::make_unique<Script>(text, options);
}

struct Scripts {
  explicit Scripts(Bug bug) {
    if (bug == Bug::kNoQuarantine) {
      Plant(birth, "tonumber(now) + (max_ttl + tolerance) * 1000", "tonumber(now)");
    } else if (bug == Bug::kBlindRelease) {
      Plant(release, "if holder == owner or holder == '~' .. owner then", "if holder then");
    } else if (bug == Bug::kBallotNotStored) {
      Plant(acquire, "call('SET', KEYS[2], mark .. ballot .. lines, 'PX', '172800000')", "");
    }
  }
  void Plant(ScriptText& script, std::string_view from, std::string_view to) {
    changed = Changed(script, from, to);
    changed_text = changed->text();
    changed_sha1 = changed->sha1();
    script = ScriptText{script.name, changed_text, changed_sha1, script.retry_safe};
  }

  ScriptText acquire = internal::kQuorumAcquire;
  ScriptText renew = internal::kQuorumRenew;
  ScriptText release = internal::kQuorumRelease;
  ScriptText birth = internal::kQuorumBirth;
  std::unique_ptr<Script> changed;
  std::string changed_text, changed_sha1;
};

// What has happened in all schedules, so that the test can tell when nothing did.
struct Tally {
  std::size_t scripts = 0, leases = 0, lost_rounds = 0, raised = 0, renewed = 0, released = 0,
              late_copies = 0, restarts = 0, refused_ahead = 0, quarantined = 0, expired = 0;
};

// Which servers there are is for the schedule to say; these are made once, as that costs more than
// a schedule.
using Servers = std::vector<std::unique_ptr<SimulatedRedis>>;

class Schedule {
 public:
  Schedule(std::uint64_t seed, Bug bug, const Scripts& scripts, Servers& redises, Tally& tally);
  ~Schedule() {
    // Attempts have calls, and calls tell attempts.
    for (const std::weak_ptr<Call>& weak : calls_) {
      const CallPtr call = weak.lock();
      if (call == nullptr) continue;
      call->then = nullptr;
      call->link = nullptr;
    }
  }
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  // What went wrong; empty when nothing did.
  std::string Run();

 private:
  enum class Step { kNothing, kAcquire, kRenew, kBirth, kRelease };
  struct Call;
  using CallPtr = std::shared_ptr<Call>;

  // A connection: its messages keep their order, but for what is still on its way when it breaks.
  struct Link {
    bool broken = false;
    bool deaf = false;          // nothing that is sent from now on arrives
    int life = 0;               // of the client
    int incarnation = -1;       // of the server; -1 before the greeting
    Us arrival = 0, reply = 0;  // the latest ones
    std::vector<CallPtr> calls;
  };
  using LinkPtr = std::shared_ptr<Link>;
  struct Call {
    Step step = Step::kNothing;
    Ballot ballot = 0;
    absl::Time sent;
    std::string owner;
    LinkPtr link;
    std::vector<std::string> args;
    bool done = false, broke = false;
    Reply reply;
    std::function<void(Call&)> then;  // null: nobody listens any more
  };

  struct Server {
    SimulatedRedis* redis = nullptr;
    Us offset = 0, ppm = 0;
    int incarnation = 0;
    bool down = false;
    Us paused_until = 0;
    int request_loss = 0, reply_loss = 0;             // percent
    std::map<std::string, std::set<Ballot>> granted;  // by owner
    std::set<std::string> refused;                    // owners whose release was run last
  };

  struct Seat {
    bool redialed = false, late_copy = false, copy_before = false, unreachable = false;
    bool may_hold = false, asking = false, finished = false, silent = false;
    absl::Time sent;
    CallPtr acquire;  // the latest of the round, then the straggler, then the caller's release
    Step step = Step::kNothing, asked = Step::kNothing;
    absl::Time due = absl::InfiniteFuture();
  };
  enum class Phase { kVoting, kGrace, kHeld, kLost, kReleased };
  struct Attempt {
    Attempt(std::size_t client_of, std::string owner_id, std::size_t servers, absl::Duration ttl_of,
            Ballot first)
        : client(client_of),
          owner(std::move(owner_id)),
          ttl(ttl_of),
          round(servers, ttl_of, first),
          seats(servers) {}
    const std::size_t client;
    const std::string owner;
    const absl::Duration ttl;
    QuorumRound round;
    std::vector<Seat> seats;
    std::vector<Vote> votes;
    Phase phase = Phase::kVoting;
    Ballot asked = 0, ballot = 0;
    Us began = 0, deadline = 0, patience = 0;
    absl::Time give_up;
    int promise = -1;
  };
  using AttemptPtr = std::shared_ptr<Attempt>;

  struct Client {
    Us calendar = 0, ppm = 0;
    bool far_ahead = false;
    int life = 0, owners = 0, failures = 0;
    Us paused_until = 0;
    Ballot highest = 0;
    absl::Duration ttl;
    std::map<std::pair<std::size_t, int>, LinkPtr> links;  // by server and channel
    AttemptPtr attempt;
  };
  struct Event {
    Us at;
    std::uint64_t number;
    std::function<void()> run;
    bool operator<(const Event& other) const {
      return std::tie(at, number) > std::tie(other.at, other.number);
    }
  };
  struct Promise {
    std::string owner;
    Us until;  // true time
  };

  // ---- Time ----
  void At(Us at, std::function<void()> run) {
    events_.push({std::max(at, now_), ++numbers_, std::move(run)});
  }
  // What a client does by itself: not once it is dead, nor while it is stopped.
  void AtClient(std::size_t c, Us at, std::function<void()> run) {
    At(at, [this, c, life = clients_[c].life, run = std::move(run)]() mutable {
      if (clients_[c].life != life) return;
      if (now_ < clients_[c].paused_until) {
        AtClient(c, clients_[c].paused_until, std::move(run));
      } else {
        run();
      }
    });
  }
  void AtClientTime(std::size_t c, absl::Time at, std::function<void()> run) {
    if (at == absl::InfiniteFuture()) return;
    AtClient(c, TrueTime(c, at) + 1, std::move(run));
  }
  static Us Run(Us now, Us ppm) { return now + now * ppm / 1'000'000; }
  absl::Time Now(std::size_t c) const {
    return absl::UnixEpoch() + absl::Microseconds(Run(now_, clients_[c].ppm));
  }
  Us TrueTime(std::size_t c, absl::Time at) const {
    return absl::ToUnixMicros(at) * 1'000'000 / (1'000'000 + clients_[c].ppm);
  }
  absl::Time Calendar(std::size_t c) const {
    return absl::FromUnixMicros(kEpoch + Run(now_, clients_[c].ppm) + clients_[c].calendar);
  }
  SimulatedRedis& Redis(Server& server) {
    server.redis->SetTime(
        static_cast<std::uint64_t>(kEpoch + Run(now_, server.ppm) + server.offset));
    return *server.redis;
  }
  bool Faults() const { return now_ < healed_; }
  void Fail(std::string why) {
    if (failure_.empty()) failure_ = StrCat("at ", now_, " us: ", why);
  }

  // ---- The network ----
  Us Delay();
  CallPtr Send(std::size_t c, std::size_t s, int channel, Step step, const AttemptPtr& attempt,
               std::function<void(Call&)> then);
  void Arrive(std::size_t c, std::size_t s, const CallPtr& call);
  void BreakLater(std::size_t c, const LinkPtr& link, Us at);
  void Finish(std::size_t c, const CallPtr& call, Us at, bool broke);
  LinkPtr LinkTo(std::size_t c, std::size_t s, int channel) {
    const auto found = clients_[c].links.find({s, channel});
    return found == clients_[c].links.end() || found->second->broken ? nullptr : found->second;
  }
  void Observe(std::size_t s, const Call& call);

  // ---- What happens to servers and clients ----
  void Trouble();
  void Restart(std::size_t s, SimulatedRedis::Data data);
  void Heal();
  void Die(std::size_t c);

  // ---- A round, as in quorum_acquire.cc ----
  void Begin(std::size_t c);
  void SendWanted(const AttemptPtr& a);
  void Take(const AttemptPtr& a, std::size_t s, Call& call);
  void FailPending(Attempt& a);
  void SetDeadline(const AttemptPtr& a);
  void Go(const AttemptPtr& a);
  void Conclude(const AttemptPtr& a);
  bool Won(const Attempt& a) const;
  std::vector<Vote> VotesOf(const Attempt& a) const;

  // ---- A lease, as in quorum_held.cc ----
  void MakeLease(const AttemptPtr& a);
  absl::Time ValidUntilNow(const Attempt& a) const;
  bool MajorityLeft(const Attempt& a) const;
  void Promised(Attempt& a);
  void Lose(Attempt& a);
  void Reschedule(const AttemptPtr& a, std::size_t s);
  void Tick(const AttemptPtr& a, std::size_t s);
  void Answer(const AttemptPtr& a, std::size_t s, Call* call);
  void Acquired(Attempt& a, std::size_t s, const Call* call);
  void Renewed(Attempt& a, std::size_t s, const Call* call);
  void Release(const AttemptPtr& a);
  void Next(std::size_t c, Us pause) {
    clients_[c].attempt = nullptr;
    if (!ending_) AtClient(c, now_ + pause, [this, c] { Begin(c); });
  }

  Random random_;
  const Bug bug_;
  const Scripts& scripts_;
  Tally& tally_;
  std::priority_queue<Event> events_;
  std::uint64_t numbers_ = 0;
  Us now_ = 0;
  std::string failure_;
  std::string settings_;
  Us tolerance_ms_ = 0, healed_ = 0;
  bool ending_ = false, got_after_ = false;
  std::vector<Server> servers_;
  std::vector<Client> clients_;
  std::vector<Promise> promises_;
  std::vector<std::weak_ptr<Call>> calls_;  // all there were
  Ballot last_token_ = 0;
};

Schedule::Schedule(std::uint64_t seed, Bug bug, const Scripts& scripts, Servers& redises,
                   Tally& tally)
    : random_(seed), bug_(bug), scripts_(scripts), tally_(tally) {
  // The real tolerance in some schedules; in most a small one, so that quarantines end within.
  tolerance_ms_ = random_.Percent(15) ? 15'000 : 1'000;
  settings_ = StrCat(kMaxTtlMs, " ", tolerance_ms_);
  const Us third = tolerance_ms_ * kMs / 3;
  servers_.resize(random_.Percent(70) ? 3 : 5);
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    Server& server = servers_[s];
    server.redis = redises[s].get();
    server.redis->Restart(SimulatedRedis::Data::kDrop);
    server.offset = random_.Between(-third, third);
    server.ppm = random_.Between(-3'000, 3'000);
    if (random_.Percent(50)) server.request_loss = static_cast<int>(random_.Between(0, 15));
    if (random_.Percent(50)) server.reply_loss = static_cast<int>(random_.Between(0, 15));
    if (random_.Percent(3)) continue;  // never declared: its first greeting puts it in quarantine
    Redis(server).Run(internal::kQuorumDeclare, {kMarker},
                      {StrCat(kMaxTtlMs), StrCat(tolerance_ms_), "new"});
  }
  healed_ = random_.Between(2, 8) * kSecond;
  clients_.resize(random_.Percent(50) ? 2 : 3);
  for (std::size_t c = 0; c < clients_.size(); ++c) {
    Client& client = clients_[c];
    client.ppm = random_.Between(-3'000, 3'000);
    client.ttl = absl::Milliseconds(std::array{200, 500, 1'000, 2'000}[random_.Next() % 4]);
    client.calendar = random_.Between(-third / 10, third / 10);
    if (c > 0) {
      const Us kind = random_.Between(0, 9);
      if (kind < 3) client.calendar = -random_.Between(0, 15 * third);
      if (kind == 3 || kind == 4) client.calendar = 2 * third * 98 / 100;
      if (kind == 5) client.calendar = random_.Between(2 * third, 4 * third);
      if (kind == 6) client.calendar = 12 * third;
      client.far_ahead = kind == 6;
    }
    AtClient(c, random_.Between(0, 200 * kMs), [this, c] { Begin(c); });
  }
  for (Us n = random_.Between(0, 6); n > 0; --n) {
    At(random_.Between(0, healed_ - 1), [this] { Trouble(); });
  }
  At(healed_, [this] { Heal(); });
}

std::string Schedule::Run() {
  const auto run_until = [this](Us end, const bool* enough) {
    while (failure_.empty() && !events_.empty() && events_.top().at <= end &&
           (enough == nullptr || !*enough)) {
      // Nothing that an order depends on is moved from.
      Event event = std::move(const_cast<Event&>(events_.top()));
      events_.pop();
      now_ = event.at;
      event.run();
    }
  };
  // A quarantine, or ballots that were far ahead; leases of the dead and of what was under way; and
  // then the pauses of those who ask.
  const Us bound = healed_ + (kMaxTtlMs + tolerance_ms_) * kMs * 102 / 100 + 2 * kMaxTtlMs * kMs +
                   kLongestDelay + kLongestPause + 6 * kSecond;
  run_until(healed_, nullptr);
  got_after_ = false;
  run_until(bound, &got_after_);
  if (!failure_.empty()) return failure_;
  if (!got_after_) return "nobody got the lock though all behaved";
  ending_ = true;
  for (std::size_t c = 0; c < clients_.size(); ++c) {
    AtClient(c, now_, [this, c] {
      const AttemptPtr a = clients_[c].attempt;
      if (a != nullptr && (a->phase == Phase::kHeld || a->phase == Phase::kLost)) Release(a);
    });
  }
  const Us end = now_ + 2 * kMaxTtlMs * kMs * 102 / 100 + kLongestDelay + kLongestPause + kSecond;
  run_until(end, nullptr);
  if (!failure_.empty()) return failure_;
  now_ = end;
  for (Server& server : servers_) {
    if (Redis(server).Command({"EXISTS", kLeaseKey}) != Reply::Integer(0)) {
      return "something is left of a lease when all has been released or has run out";
    }
  }
  return {};
}

// ---- The network ----

Us Schedule::Delay() {
  if (!Faults()) return random_.Between(50, 2 * kMs);
  const Us kind = random_.Between(0, 99);
  if (kind < 80) return random_.Between(20, 3 * kMs);
  if (kind < 97) return random_.Between(3 * kMs, 120 * kMs);
  return random_.Between(120 * kMs, kLongestDelay);
}

Schedule::CallPtr Schedule::Send(std::size_t c, std::size_t s, int channel, Step step,
                                 const AttemptPtr& a, std::function<void(Call&)> then) {
  Server& server = servers_[s];
  LinkPtr link = LinkTo(c, s, channel);
  if (link == nullptr) {
    link = std::make_shared<Link>();
    link->life = clients_[c].life;
    link->arrival = now_ + Delay();  // to connect
    clients_[c].links[{s, channel}] = link;
  }
  auto call = std::make_shared<Call>();
  call->step = step;
  call->sent = Now(c);
  call->owner = a->owner;
  call->link = link;
  call->then = std::move(then);
  const std::string ttl = StrCat(absl::ToInt64Milliseconds(a->ttl));
  call->ballot =
      a->phase == Phase::kVoting || a->phase == Phase::kGrace ? a->round.ballot() : a->ballot;
  const std::string ballot = BallotText(call->ballot);
  const bool remember = a->seats[s].late_copy && bug_ != Bug::kNoMemory;
  if (step == Step::kAcquire) call->args = {a->owner, ttl, ballot, settings_};
  if (step == Step::kRenew) call->args = {a->owner, ttl, ballot};
  if (step == Step::kRelease) call->args = {a->owner, remember ? StrCat(kMemoryMs) : "0"};
  if (step == Step::kBirth) call->args = {StrCat(kMaxTtlMs), StrCat(tolerance_ms_)};
  link->calls.push_back(call);
  calls_.push_back(call);
  if (link->deaf) return call;
  const bool lost = Faults() && random_.Percent(server.request_loss);
  Us arrival = std::max(now_ + Delay(), link->arrival);
  if (lost) {
    // The connection breaks. What was sent is gone, or arrives after all, behind what is sent anew.
    link->deaf = true;
    BreakLater(c, link, now_ + Delay());
    if (random_.Percent(40)) return call;
    arrival = std::max(now_ + random_.Between(0, kLongestDelay), link->arrival);
  }
  link->arrival = std::min(arrival, now_ + kLongestDelay);
  At(link->arrival, [this, c, s, call] { Arrive(c, s, call); });
  return call;
}

void Schedule::Arrive(std::size_t c, std::size_t s, const CallPtr& call) {
  Server& server = servers_[s];
  const LinkPtr& link = call->link;
  if (server.down) return BreakLater(c, link, now_ + Delay());
  if (now_ < server.paused_until) {
    return At(server.paused_until, [this, c, s, call] { Arrive(c, s, call); });
  }
  if (link->incarnation == -1) {
    if (link->broken) return;
    Redis(server).Run(scripts_.birth, {kMarker}, {StrCat(kMaxTtlMs), StrCat(tolerance_ms_)});
    link->incarnation = server.incarnation;
  }
  if (link->incarnation != server.incarnation) return BreakLater(c, link, now_ + Delay());
  if (link->broken) ++tally_.late_copies;
  ++tally_.scripts;
  SimulatedRedis& redis = Redis(server);
  switch (call->step) {
    case Step::kAcquire:
      call->reply = redis.Run(scripts_.acquire, {kLeaseKey, kFenceKey, kMarker}, call->args);
      break;
    case Step::kRenew:
      call->reply = redis.Run(scripts_.renew, {kLeaseKey, kFenceKey, kMarker}, call->args);
      break;
    case Step::kRelease:
      call->reply = redis.Run(scripts_.release, {kLeaseKey, kFenceKey}, call->args);
      break;
    case Step::kBirth:
      call->reply = redis.Run(scripts_.birth, {kMarker}, call->args);
      break;
    case Step::kNothing:
      break;
  }
  if (call->reply.is_error()) return Fail(StrCat("a script failed: ", call->reply.text()));
  Observe(s, *call);
  if (link->broken) return;
  if (Faults() && random_.Percent(server.reply_loss)) {
    link->deaf = random_.Percent(50);
    return BreakLater(c, link, now_ + Delay());
  }
  link->reply = std::max(now_ + Delay(), link->reply);
  Finish(c, call, link->reply, false);
}

void Schedule::Finish(std::size_t c, const CallPtr& call, Us at, bool broke) {
  if (call->link->life != clients_[c].life) return;  // who asked is dead
  AtClient(c, at, [call, broke] {
    if (call->done) return;
    call->done = true;
    call->broke = broke;
    std::erase(call->link->calls, call);
    if (call->then) call->then(*call);
  });
}

void Schedule::BreakLater(std::size_t c, const LinkPtr& link, Us at) {
  if (link->life != clients_[c].life) {
    link->broken = true;
    return;
  }
  AtClient(c, at, [this, c, link] {
    if (link->broken) return;
    link->broken = true;
    for (const CallPtr& call : std::vector<CallPtr>(link->calls)) Finish(c, call, now_, true);
  });
}

// What the servers have granted, by their own word.
void Schedule::Observe(std::size_t s, const Call& call) {
  Server& server = servers_[s];
  if (call.step == Step::kRelease) server.refused.insert(call.owner);
  if (call.step != Step::kAcquire) return;
  const auto answer = internal::ReadAcquireAnswer(call.reply);
  if (!answer.ok()) return Fail(StrCat("an answer that cannot be read: ", call.reply.text()));
  if (answer->kind == VoteAnswer::Kind::kQuarantined) ++tally_.quarantined;
  if (answer->kind == VoteAnswer::Kind::kAhead) ++tally_.refused_ahead;
  if (answer->kind != VoteAnswer::Kind::kGranted) return;
  server.granted[call.owner].insert(answer->ballot);
  if (server.refused.contains(call.owner)) {
    Fail(StrCat("server ", s, " gave a lease to ", call.owner, " after its release"));
  }
}

// ---- What happens to servers and clients ----

void Schedule::Trouble() {
  const std::size_t s = random_.Next() % servers_.size();
  const std::size_t c = random_.Next() % clients_.size();
  Server& server = servers_[s];
  switch (random_.Between(0, 7)) {
    case 0:
      // Not longer while it is paused: what waits for its end keeps its order.
      if (now_ < server.paused_until) break;
      server.paused_until = now_ + random_.Between(10 * kMs, kLongestPause);
      break;
    case 1:
    case 2:
    case 3: {
      if (server.down) break;
      server.down = true;
      const auto data =
          random_.Percent(70) ? SimulatedRedis::Data::kDrop : SimulatedRedis::Data::kKeep;
      At(now_ + random_.Between(0, 500 * kMs), [this, s, data] { Restart(s, data); });
      break;
    }
    case 4:
      Redis(server).FlushAll();  // no connection breaks
      server.refused.clear();
      ++tally_.restarts;
      break;
    case 5:
    case 6:
      clients_[c].paused_until = now_ + random_.Between(10 * kMs, 3 * kSecond);
      break;
    default:
      Die(c);
      break;
  }
}

void Schedule::Restart(std::size_t s, SimulatedRedis::Data data) {
  Server& server = servers_[s];
  if (!server.down) return;
  server.down = false;
  ++server.incarnation;
  ++tally_.restarts;
  server.redis->Restart(data);
  // The owners it refused may be forgotten with the rest; the old connections end with it, and with
  // them what was on its way.
  for (std::size_t c = 0; c < clients_.size(); ++c) {
    for (int channel = 0; channel < 2; ++channel) {
      if (const LinkPtr link = LinkTo(c, s, channel)) BreakLater(c, link, now_ + Delay());
    }
  }
}

void Schedule::Heal() {
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    // A pause runs to its end: what waits for it keeps its order.
    Restart(s, SimulatedRedis::Data::kDrop);
  }
  for (Client& client : clients_) {
    client.paused_until = std::min(client.paused_until, now_);
    // Several whose clocks are ahead of some servers by more than the tolerance, and of others by
    // less, can keep the rest out between them for as long as they go on.
    client.calendar = std::min(client.calendar, tolerance_ms_ * kMs / 2);
    client.far_ahead = false;
  }
}

// Another process takes its place a little later, and knows nothing.
void Schedule::Die(std::size_t c) {
  Client& client = clients_[c];
  ++client.life;
  client.attempt = nullptr;
  client.links.clear();
  client.highest = 0;
  client.paused_until = 0;
  AtClient(c, now_ + random_.Between(0, kSecond), [this, c] { Begin(c); });
}

// ---- A round ----

void Schedule::Begin(std::size_t c) {
  if (ending_) return;
  Client& client = clients_[c];
  const Ballot ballot = internal::ProposeBallot(Calendar(c), client.highest);
  auto a = std::make_shared<Attempt>(c, StrCat("c", c, ".", ++client.owners), servers_.size(),
                                     client.ttl, ballot);
  client.attempt = a;
  a->asked = ballot;
  a->began = now_;
  a->patience = std::min(200 * kMs, absl::ToInt64Microseconds(a->ttl / 4));
  SendWanted(a);
  SetDeadline(a);
  Go(a);
}

void Schedule::SendWanted(const AttemptPtr& a) {
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    Seat& seat = a->seats[s];
    if (seat.unreachable) continue;
    const QuorumRound::Step step = a->round.Wants(s);
    if (step == QuorumRound::Step::kNothing) continue;
    if (LinkTo(a->client, s, 0) == nullptr && servers_[s].down) {
      if (random_.Percent(50)) {
        seat.unreachable = true;  // connecting, for too long
      } else {
        a->round.Failed(s, absl::UnavailableError("refused"), a->round.MayHold(s),
                        Calendar(a->client));
      }
      continue;
    }
    a->round.Sent(s);
    const bool birth = step == QuorumRound::Step::kBirth;
    const CallPtr call =
        Send(a->client, s, 0, birth ? Step::kBirth : Step::kAcquire, a, [this, a, s](Call& done) {
          if (a->phase != Phase::kVoting && a->phase != Phase::kGrace) return;
          Take(a, s, done);
          Go(a);
        });
    if (!birth) seat.acquire = call;
  }
}

void Schedule::Take(const AttemptPtr& a, std::size_t s, Call& call) {
  Seat& seat = a->seats[s];
  QuorumRound& round = a->round;
  const absl::Time calendar = Calendar(a->client);
  if (call.broke) {
    seat.late_copy = true;
    const bool may_hold = round.MayHold(s);
    if (!seat.redialed && a->phase == Phase::kVoting) {
      seat.redialed = true;
      round.AskAgain(s, may_hold);
    } else {
      round.Failed(s, absl::UnavailableError("it broke"), may_hold, calendar);
    }
    return;
  }
  if (call.step == Step::kBirth) {
    const auto born = internal::ReadBirthAnswer(call.reply, settings_);
    if (!born.ok()) return Fail(std::string(born.status().ToString()));
    return round.Born(s, *born);
  }
  const auto answer = internal::ReadAcquireAnswer(call.reply);
  if (!answer.ok()) return Fail(std::string(answer.status().ToString()));
  absl::Time sent = call.sent;
  if (bug_ == Bug::kLongValidity) sent = Now(a->client) + Drift(a->ttl);
  round.Answered(s, call.ballot, sent, *answer, calendar);
  if (answer->kind == VoteAnswer::Kind::kGranted) seat.sent = call.sent;
}

void Schedule::FailPending(Attempt& a) {
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    if (!a.round.Pending(s)) continue;
    a.seats[s].silent = true;
    a.round.Failed(s, absl::UnavailableError("no answer"), a.round.MayHold(s), Calendar(a.client));
  }
}

void Schedule::SetDeadline(const AttemptPtr& a) {
  a->deadline = now_ + a->patience;
  AtClient(a->client, a->deadline, [this, a] {
    if (a->phase == Phase::kGrace) return Conclude(a);
    if (a->phase != Phase::kVoting || now_ < a->deadline) return;
    FailPending(*a);
    if (!Won(*a) && a->round.verdict() == QuorumRound::Verdict::kOpen) return Conclude(a);
    Go(a);
  });
}

bool Schedule::Won(const Attempt& a) const {
  if (bug_ == Bug::kMixedBallots) {
    const auto votes = a.round.votes();
    const auto any = std::count_if(votes.begin(), votes.end(),
                                   [](const Vote& vote) { return vote.ballot != 0; });
    return static_cast<std::size_t>(any) >= MajorityOf(votes.size());
  }
  if (bug_ == Bug::kSilenceIsAGrant) {
    return internal::CountVotes(VotesOf(a), a.round.ballot()) >= MajorityOf(servers_.size());
  }
  return a.round.verdict() == QuorumRound::Verdict::kWon;
}

std::vector<Vote> Schedule::VotesOf(const Attempt& a) const {
  std::vector<Vote> votes(a.round.votes().begin(), a.round.votes().end());
  for (std::size_t s = 0; s < votes.size() && bug_ == Bug::kSilenceIsAGrant; ++s) {
    if (a.seats[s].silent) votes[s] = {a.round.ballot(), Now(a.client) + a.ttl};
  }
  return votes;
}

// After anything that may have changed the round.
void Schedule::Go(const AttemptPtr& a) {
  Client& client = clients_[a->client];
  if (a->phase == Phase::kVoting) {
    SendWanted(a);
    if (a->round.ballot() != a->asked) {
      a->asked = a->round.ballot();
      ++tally_.raised;
      SetDeadline(a);
    }
    if (Won(*a)) return Conclude(a);
    if (a->round.verdict() == QuorumRound::Verdict::kOpen) return;
    client.highest = a->round.Remembered(client.highest);
    a->phase = Phase::kGrace;
    a->deadline = std::min(a->deadline, now_ + 2 * (now_ - a->began) + kMs);
    AtClient(a->client, a->deadline, [this, a] {
      if (a->phase == Phase::kGrace) Conclude(a);
    });
  }
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    if (a->round.Pending(s) && a->round.MayHold(s) && !a->seats[s].unreachable) return;
  }
  Conclude(a);
}

void Schedule::Conclude(const AttemptPtr& a) {
  const std::size_t c = a->client;
  Client& client = clients_[c];
  client.highest = a->round.Remembered(client.highest);
  const bool won = a->phase == Phase::kVoting && Won(*a);
  a->ballot = a->round.ballot();
  a->votes = VotesOf(*a);
  if (won && ValidUntilNow(*a) > Now(c)) {
    client.failures = 0;
    a->phase = Phase::kHeld;
    std::size_t granted = 0;
    for (const Server& server : servers_) {
      const auto found = server.granted.find(a->owner);
      if (found != server.granted.end() && found->second.contains(a->ballot)) ++granted;
    }
    if (granted < MajorityOf(servers_.size())) {
      Fail(StrCat(a->owner, " believes in a lease that ", granted, " servers have granted"));
    }
    if (a->ballot <= last_token_) {
      Fail(StrCat(a->owner, "'s token ", a->ballot, " is not above ", last_token_));
    }
    if (client.far_ahead) Fail(StrCat(a->owner, ", whose clock is far ahead, got a lease"));
    last_token_ = a->ballot;
    ++tally_.leases;
    got_after_ = true;
    Promised(*a);
    MakeLease(a);
    const Us ttl = absl::ToInt64Microseconds(a->ttl);
    const Us hold = random_.Percent(60) ? random_.Between(0, ttl / 4) : random_.Between(0, 3 * ttl);
    AtClient(c, now_ + hold, [this, a] { Release(a); });
    return;
  }
  ++tally_.lost_rounds;
  a->phase = Phase::kLost;
  MakeLease(a);
  Release(a);
}

// ---- A lease ----

absl::Time Schedule::ValidUntilNow(const Attempt& a) const {
  if (bug_ == Bug::kMixedBallots) {
    std::vector<Vote> votes = a.votes;
    for (Vote& vote : votes) vote.ballot = vote.ballot == 0 ? 0 : a.ballot;
    return internal::MajorityValidUntil(votes, a.ballot);
  }
  if (bug_ == Bug::kRenewalByOne) {
    absl::Time latest = absl::InfinitePast();
    for (const Vote& vote : a.votes) {
      if (vote.ballot == a.ballot) latest = std::max(latest, vote.valid_until);
    }
    return latest;
  }
  return internal::MajorityValidUntil(a.votes, a.ballot);
}

bool Schedule::MajorityLeft(const Attempt& a) const {
  return ValidUntilNow(a) != absl::InfinitePast();
}

// The holder believes, from now on and until then, that nobody else has the lease.
void Schedule::Promised(Attempt& a) {
  const absl::Time until = ValidUntilNow(a);
  if (until == absl::InfinitePast()) return;
  if (a.promise < 0) {
    a.promise = static_cast<int>(promises_.size());
    promises_.push_back({a.owner, 0});
  }
  Promise& own = promises_[static_cast<std::size_t>(a.promise)];
  own.until = TrueTime(a.client, until);
  if (own.until <= now_) return;
  for (const Promise& other : promises_) {
    if (&other == &own || other.until <= now_) continue;
    Fail(StrCat(a.owner, " and ", other.owner, " both hold the lease"));
  }
}

void Schedule::Lose(Attempt& a) {
  a.phase = Phase::kLost;
  ++tally_.expired;
  Promise& own = promises_[static_cast<std::size_t>(a.promise)];
  own.until = std::min(own.until, now_);
}

void Schedule::MakeLease(const AttemptPtr& a) {
  const absl::Time now = Now(a->client);
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    Seat& seat = a->seats[s];
    seat.may_hold = a->round.MayHold(s);
    if (seat.acquire != nullptr && seat.acquire->done) seat.acquire = nullptr;
    const Vote& vote = a->votes[s];
    if (vote.ballot == a->ballot) {
      seat.step = Step::kRenew;
      seat.due = std::min(internal::RenewAt(seat.sent, a->ttl),
                          seat.sent + (vote.valid_until - seat.sent) / 3);
    } else {
      seat.step = Step::kAcquire;
      seat.due = now + std::min(a->ttl / 6, absl::Milliseconds(100));
    }
    if (a->phase == Phase::kHeld) Reschedule(a, s);
  }
}

void Schedule::Reschedule(const AttemptPtr& a, std::size_t s) {
  absl::Time at = a->seats[s].asking ? absl::InfiniteFuture() : a->seats[s].due;
  if (a->phase == Phase::kHeld) at = std::min(at, ValidUntilNow(*a));
  AtClientTime(a->client, at, [this, a, s] { Tick(a, s); });
}

void Schedule::Tick(const AttemptPtr& a, std::size_t s) {
  Seat& seat = a->seats[s];
  const absl::Time now = Now(a->client);
  if (a->phase == Phase::kHeld && now >= ValidUntilNow(*a)) Lose(*a);
  if (seat.asking || seat.finished || now < seat.due) return;
  absl::Duration patience = std::max(a->ttl / 6, absl::Milliseconds(10));
  if (a->phase == Phase::kHeld) {
    if (seat.acquire != nullptr) {
      if (seat.acquire->done && !seat.acquire->broke) {
        Acquired(*a, s, seat.acquire.get());
        Promised(*a);
      } else {
        seat.late_copy = true;
      }
      seat.acquire = nullptr;
    }
    if (now < seat.due || seat.step == Step::kNothing) return Reschedule(a, s);
    seat.asked = seat.step;
    if (seat.step == Step::kAcquire) {
      seat.may_hold = true;
      seat.copy_before = seat.late_copy;
      seat.late_copy = true;
    }
  } else if (a->phase == Phase::kReleased) {
    if (seat.acquire != nullptr) {
      if (seat.acquire->done && !seat.acquire->broke) {
        seat.finished = true;
      } else {
        seat.late_copy = true;
      }
      seat.acquire = nullptr;
    }
    seat.finished = seat.finished || now >= a->give_up || !seat.may_hold;
    if (seat.finished) return;
    seat.asked = Step::kRelease;
    patience = absl::Seconds(1);
  } else {
    return;
  }
  seat.asking = true;
  if (servers_[s].down && LinkTo(a->client, s, 1) == nullptr) {
    return AtClient(a->client, now_ + Delay(), [this, a, s] { Answer(a, s, nullptr); });
  }
  auto answered = std::make_shared<bool>(false);
  Send(a->client, s, 1, seat.asked, a, [this, a, s, answered](Call& call) {
    if (!std::exchange(*answered, true)) Answer(a, s, call.broke ? nullptr : &call);
  });
  AtClientTime(a->client, now + patience, [this, a, s, answered] {
    if (!std::exchange(*answered, true)) Answer(a, s, nullptr);
  });
}

// Null: no answer.
void Schedule::Answer(const AttemptPtr& a, std::size_t s, Call* call) {
  Seat& seat = a->seats[s];
  const absl::Time now = Now(a->client);
  seat.asking = false;
  if (a->phase == Phase::kReleased) {
    if (seat.asked != Step::kRelease) {
      seat.due = std::min(seat.due, now);
    } else if (call == nullptr && now < a->give_up) {
      seat.due = now + absl::Milliseconds(50);
    } else {
      seat.finished = true;
    }
  } else if (a->phase == Phase::kHeld) {
    if (seat.asked == Step::kAcquire) {
      if (call != nullptr) seat.late_copy = seat.copy_before;
      Acquired(*a, s, call);
    } else if (seat.asked == Step::kRenew) {
      Renewed(*a, s, call);
    } else {
      seat.step = Step::kAcquire;
      seat.due = now + a->ttl / 6;
    }
    if (now >= ValidUntilNow(*a) || !MajorityLeft(*a)) {
      Lose(*a);
    } else {
      Promised(*a);
    }
  }
  if (!seat.finished) Reschedule(a, s);
}

void Schedule::Acquired(Attempt& a, std::size_t s, const Call* call) {
  using Kind = VoteAnswer::Kind;
  Seat& seat = a.seats[s];
  const absl::Time now = Now(a.client);
  if (call == nullptr || call->broke) {
    seat.step = Step::kAcquire;
    seat.due = internal::RetryRenewalAt(now, a.ttl);
    return;
  }
  const auto answer = internal::ReadAcquireAnswer(call->reply);
  if (!answer.ok()) return Fail(std::string(answer.status().ToString()));
  switch (answer->kind) {
    case Kind::kGranted:
      if (answer->ballot != a.ballot) break;
      a.votes[s] = {a.ballot, ValidUntil(call->sent, a.ttl, answer->left)};
      seat.step = Step::kRenew;
      seat.due = std::min(internal::RenewAt(call->sent, a.ttl), call->sent + answer->left / 3);
      return;
    case Kind::kNoMarker:
      seat.step = Step::kBirth;
      seat.due = now;
      seat.may_hold = false;
      return;
    case Kind::kQuarantined:
    case Kind::kHeld:
      seat.step = Step::kAcquire;
      seat.due = now + a.ttl / 3;
      seat.may_hold = false;
      return;
    default:
      seat.may_hold = false;
      break;
  }
  seat.step = Step::kNothing;
  seat.due = absl::InfiniteFuture();
}

void Schedule::Renewed(Attempt& a, std::size_t s, const Call* call) {
  using Kind = VoteAnswer::Kind;
  Seat& seat = a.seats[s];
  const absl::Time now = Now(a.client);
  if (call == nullptr) {
    seat.due = internal::RetryRenewalAt(now, a.ttl);
    return;
  }
  const auto answer = internal::ReadRenewAnswer(call->reply);
  if (!answer.ok()) return Fail(std::string(answer.status().ToString()));
  if (answer->kind == Kind::kGranted) {
    ++tally_.renewed;
    absl::Time until = ValidUntil(call->sent, a.ttl, a.ttl);
    if (bug_ == Bug::kLongValidity) until = now + a.ttl;
    a.votes[s].valid_until = std::max(a.votes[s].valid_until, until);
    seat.due = internal::RenewAt(call->sent, a.ttl);
    return;
  }
  a.votes[s] = {};
  seat.may_hold = false;
  seat.step = answer->kind == Kind::kNoMarker ? Step::kBirth : Step::kAcquire;
  seat.due = answer->kind == Kind::kQuarantined ? now + a.ttl / 3 : now;
}

void Schedule::Release(const AttemptPtr& a) {
  if (a->phase == Phase::kReleased) return;
  const std::size_t c = a->client;
  Client& client = clients_[c];
  const absl::Time now = Now(c);
  if (a->phase == Phase::kHeld) Lose(*a);
  a->phase = Phase::kReleased;
  a->give_up = now + a->ttl;
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    Seat& seat = a->seats[s];
    if (!seat.may_hold) {
      seat.finished = true;
      continue;
    }
    const LinkPtr link = LinkTo(c, s, 0);
    if (link == nullptr) {
      seat.late_copy = seat.late_copy || seat.acquire != nullptr;
      seat.acquire = nullptr;
      seat.due = now;
      Reschedule(a, s);
      continue;
    }
    if (seat.acquire != nullptr && seat.acquire->link != link) seat.late_copy = true;
    seat.due = now + std::max(absl::Microseconds(a->patience), absl::Milliseconds(10));
    seat.acquire = Send(c, s, 0, Step::kRelease, a, [this, a, s](Call& call) {
      Seat& its = a->seats[s];
      if (its.acquire == nullptr || its.finished) return;  // the background sees to it
      if (call.broke) {
        its.late_copy = true;
        its.due = Now(a->client);
        Reschedule(a, s);
      } else {
        ++tally_.released;
        its.finished = true;
      }
    });
    Reschedule(a, s);
  }
  // As PollingPause: a random while, here longer from time to time, for the sake of the test's.
  const Us longest = std::min<Us>(100 * kMs << std::min(client.failures / 3, 4), 1'500 * kMs);
  if (a->promise < 0) ++client.failures;
  Next(c, random_.Between(kMs, longest));
}

// ---- The tests ----

std::uint64_t BaseSeed() {
  const char* const given = std::getenv("COORD_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20261121;
}

// What went wrong in the first schedule in which anything did.
std::string FirstFailure(Bug bug, Tally& tally) {
  const Scripts scripts(bug);
  Servers redises;
  for (int i = 0; i < 5; ++i) redises.push_back(std::make_unique<SimulatedRedis>(kEpoch));
  for (int i = 0; i < kSchedules; ++i) {
    // A run with the seed of one schedule begins with that schedule.
    const std::uint64_t seed = BaseSeed() + static_cast<std::uint64_t>(i);
    const std::string failure = Schedule(seed, bug, scripts, redises, tally).Run();
    if (!failure.empty()) return StrCat("COORD_TEST_SEED=", seed, ": ", failure);
  }
  return {};
}

TEST(QuorumScheduleTest, HoldersNeverOverlapAndTokensRiseWhateverFails) {
  std::cout << "COORD_TEST_SEED=" << BaseSeed() << std::endl;
  Tally tally;
  EXPECT_EQ(FirstFailure(Bug::kNone, tally), "");
  std::cout << tally.scripts << " scripts, " << tally.leases << " leases, " << tally.lost_rounds
            << " lost rounds, " << tally.raised << " raised ballots, " << tally.renewed
            << " renewals, " << tally.released << " releases, " << tally.late_copies
            << " late copies, " << tally.restarts << " restarts, " << tally.refused_ahead
            << " refused as ahead, " << tally.quarantined << " in quarantine" << std::endl;
  // Each of these must have been tried for the test to say anything.
  for (const std::size_t often :
       {tally.leases, tally.lost_rounds, tally.raised, tally.renewed, tally.released,
        tally.late_copies, tally.restarts, tally.refused_ahead, tally.quarantined}) {
    EXPECT_GT(often, std::size_t{kSchedules / 10});
  }
}

struct Planted {
  const char* name;
  Bug bug;
  const char* noticed;  // by one of these words
};

class QuorumScheduleBugTest : public ::testing::TestWithParam<Planted> {};

TEST_P(QuorumScheduleBugTest, IsNoticed) {
  Tally tally;
  const std::string failure = FirstFailure(GetParam().bug, tally);
  std::cout << GetParam().name << ": " << failure << std::endl;
  EXPECT_THAT(failure, ::testing::ContainsRegex(GetParam().noticed));
}

INSTANTIATE_TEST_SUITE_P(
    All, QuorumScheduleBugTest,
    ::testing::Values(Planted{"NoQuarantine", Bug::kNoQuarantine, "both hold|is not above"},
                      Planted{"MixedBallots", Bug::kMixedBallots, "believes in a lease|not above"},
                      Planted{"LongValidity", Bug::kLongValidity, "both hold|is not above"},
                      Planted{"BlindRelease", Bug::kBlindRelease, "both hold|is not above"},
                      Planted{"BallotNotStored", Bug::kBallotNotStored, "is not above"},
                      Planted{"NoMemory", Bug::kNoMemory, "after its release"},
                      Planted{"SilenceIsAGrant", Bug::kSilenceIsAGrant, "believes in a lease"},
                      Planted{"RenewalByOne", Bug::kRenewalByOne, "both hold|is not above"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace coord::testing
