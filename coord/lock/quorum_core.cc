#include "coord/lock/quorum_core.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {
namespace {

constexpr std::size_t kFewestServers = 3;
constexpr std::size_t kMostServers = 31;
constexpr absl::Duration kMostTime = absl::Hours(1);
constexpr BackoffLimits kRedial{absl::Milliseconds(20), absl::Seconds(1)};

std::string SettingsText(const QuorumOptions& options) {
  return StrCat(CeilMilliseconds(options.max_ttl), " ", CeilMilliseconds(options.clock_tolerance));
}

absl::Status CheckTime(std::string_view what, absl::Duration value, absl::Duration least) {
  if (value >= least && value <= kMostTime && value == absl::Ceil(value, absl::Milliseconds(1))) {
    return absl::OkStatus();
  }
  return InvalidArgument(StrCat(what, " is ", ToText(value), "; it must be whole milliseconds, ",
                                ToText(least), " to ", ToText(kMostTime)));
}

}  // namespace

absl::Status CheckQuorumOptions(std::size_t servers, const QuorumOptions& options) {
  if (servers < kFewestServers || servers > kMostServers) {
    return InvalidArgument(StrCat("a quorum has ", kFewestServers, " to ", kMostServers,
                                  " servers, not ", servers,
                                  "; for a single server make the Mutex from a Client"));
  }
  if (absl::Status status = CheckTime("max_ttl", options.max_ttl, kMinLeaseTtl); !status.ok()) {
    return status;
  }
  if (absl::Status status =
          CheckTime("clock_tolerance", options.clock_tolerance, absl::Milliseconds(1));
      !status.ok()) {
    return status;
  }
  if (options.server_timeout <= absl::ZeroDuration() || options.server_timeout > kMostTime) {
    return InvalidArgument(StrCat("server_timeout is ", ToText(options.server_timeout),
                                  "; it must be above 0 and at most ", ToText(kMostTime)));
  }
  if (!options.calendar) return InvalidArgument("calendar is empty; it must tell the time");
  return absl::OkStatus();
}

// ---- One server ----

QuorumMember::~QuorumMember() {
  if (session_ != nullptr && session_->forked()) {
    // The thread is the parent's, and so is what it may hold locked.
    (void)dialer_.release();
    return;
  }
  closing_.request_stop();
  dialer_.reset();
}

absl::Status QuorumMember::Open(std::string_view url, ClientOptions options) {
  SessionRole role;
  role.connect_later = true;
  role.greeting = [this](const ClientOptions& chosen) {
    marker_ = StrCat(chosen.prefix, "{quorum}:birth");
    // As EVAL: it must not depend on what else the handshake could load.
    Request birth = BirthRequest();
    birth.UseEval();
    return Greeting{birth.bytes(), [roll = core_.roll_, index = index_](const Reply& reply) {
                      return roll->Judge(index, reply);
                    }};
  };
  absl::StatusOr<std::shared_ptr<Session>> session = Session::Open(url, std::move(options), role);
  if (!session.ok()) return session.status();
  session_ = *std::move(session);
  name_ = session_->node().name();
  return absl::OkStatus();
}

Request QuorumMember::BirthRequest() const {
  const std::string max_ttl = StrCat(CeilMilliseconds(core_.options().max_ttl));
  const std::string tolerance = StrCat(CeilMilliseconds(core_.options().clock_tolerance));
  return Bind(kQuorumBirth, {marker_}, {max_ttl, tolerance});
}

absl::Status QuorumRoll::Judge(std::size_t index, const Reply& reply) {
  if (reply.is_error()) {
    const std::string_view code = ErrorCode(reply.text());
    if (code == "MOVED" || code == "ASK" || code == "CLUSTERDOWN") {
      return MakeStatus(
          absl::StatusCode::kFailedPrecondition,
          StrCat(names[index], ": it is part of a Cluster; a quorum is made of single servers"));
    }
    return ServerError(reply.text(), StrCat("quorum_birth at ", names[index]));
  }
  absl::StatusOr<BirthAnswer> answer = ReadBirthAnswer(reply, settings);
  if (!answer.ok()) return Annotate(answer.status(), names[index]);
  MutexLock lock(mutex);
  for (std::size_t i = 0; i < run_ids.size(); ++i) {
    if (i == index || run_ids[i] != answer->run_id) continue;
    return InvalidArgument(
        StrCat(names[index], " and ", names[i], " are the same server; each must vote once"));
  }
  run_ids[index] = answer->run_id;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Connection>> QuorumMember::Reach(const std::shared_ptr<Bell>& bell) {
  if (std::shared_ptr<Connection> connection = session_->node().shared().Current()) {
    return connection;
  }
  const SteadyTime now = std::chrono::steady_clock::now();
  {
    MutexLock lock(mutex_);
    if (dialing_) {
      const absl::Duration taken = absl::FromChrono(now - since_);
      if (taken > core_.options().server_timeout) {
        return MakeStatus(
            absl::StatusCode::kUnavailable,
            StrCat("connecting for ", ToText(absl::Trunc(taken, absl::Milliseconds(1))),
                   " by now, without success"),
            kUnavailable);
      }
      bells_.push_back(bell);
      return nullptr;
    }
    if (now < next_dial_) return last_error_;
    dialing_ = true;
    since_ = now;
    bells_.push_back(bell);
  }
  dialer_->Post([this] { Dial(); });
  return nullptr;
}

void QuorumMember::Dial() {
  const CallLimits limits{DeadlineAfter(session_->options().connect_timeout), closing_.get_token()};
  const absl::Status status =
      session_->node().shared().Get(limits, Channel::Patience::kOnce).status();
  std::vector<std::shared_ptr<Bell>> bells;
  {
    MutexLock lock(mutex_);
    dialing_ = false;
    if (status.ok()) {
      failures_ = 0;
    } else {
      last_error_ = status;
      next_dial_ = std::chrono::steady_clock::now() +
                   absl::ToChronoNanoseconds((0.25 + 0.75 * jitter_.Next()) *
                                             BackoffBound(kRedial, ++failures_));
    }
    bells.swap(bells_);
  }
  for (const auto& bell : bells) bell->Ring();
}

// ---- All of them ----

QuorumCore::QuorumCore(QuorumOptions options) : options_(std::move(options)) {
  roll_->settings = SettingsText(options_);
}

QuorumCore::~QuorumCore() = default;

absl::StatusOr<std::shared_ptr<QuorumCore>> QuorumCore::Open(std::span<const std::string> urls,
                                                             const ClientOptions& client_options,
                                                             QuorumOptions options) {
  if (absl::Status status = CheckQuorumOptions(urls.size(), options); !status.ok()) return status;
  std::shared_ptr<QuorumCore> core(new QuorumCore(std::move(options)));
  for (const std::string& url : urls) {
    core->members_.push_back(std::make_unique<QuorumMember>(*core, core->members_.size()));
    QuorumMember& member = *core->members_.back();
    if (absl::Status status = member.Open(url, client_options); !status.ok()) return status;
    if (member.marker() != core->member(0).marker()) {
      return InvalidArgument(
          "the URLs of a quorum differ in their prefix; all servers must use the same keys");
    }
    core->roll_->names.push_back(member.name());
  }
  {
    MutexLock lock(core->roll_->mutex);
    core->roll_->run_ids.resize(urls.size());
  }
  if (absl::Status status = core->Connect(client_options.connect_timeout); !status.ok()) {
    return status;
  }
  return core;
}

absl::Status QuorumCore::Connect(absl::Duration timeout) {
  WaitAny any;
  const SteadyTime deadline = DeadlineAfter(timeout);
  const SteadyTime enough = DeadlineAfter(std::min(timeout, options_.server_timeout));
  enum class State { kOpen, kConnected, kFailed };
  std::vector<State> states(size(), State::kOpen);
  std::vector<std::string> why(size(), "no answer in time");
  while (true) {
    for (std::size_t i = 0; i < size(); ++i) {
      if (states[i] != State::kOpen) continue;
      absl::StatusOr<std::shared_ptr<Connection>> connection = member(i).Reach(any.bell());
      if (!connection.ok()) {
        // What will be the same next time is no loss of a server but a mistake.
        if (IsLasting(connection.status())) return connection.status();
        states[i] = State::kFailed;
        why[i] = FromAbsl(connection.status().message());
      } else if (*connection != nullptr) {
        states[i] = State::kConnected;
      }
    }
    const auto count = [&](State state) {
      return static_cast<std::size_t>(std::count(states.begin(), states.end(), state));
    };
    const bool majority = count(State::kConnected) >= MajorityOf(size());
    if (majority && (count(State::kOpen) == 0 || Passed(enough))) return absl::OkStatus();
    if (count(State::kConnected) + count(State::kOpen) < MajorityOf(size()) || Passed(deadline)) {
      std::string details;
      for (std::size_t i = 0; i < size(); ++i) {
        details += StrCat(i == 0 ? "" : "; ", names()[i], ": ",
                          states[i] == State::kConnected ? "connected" : std::string_view(why[i]));
      }
      return MakeStatus(
          absl::StatusCode::kUnavailable,
          StrCat("no majority of the quorum's ", size(), " servers can be reached (", details, ")"),
          kUnavailable);
    }
    std::size_t ignored;
    any.Next({majority ? enough : deadline, {}}, &ignored);
  }
}

void QuorumCore::Close() {
  for (const auto& member : members_) member->session()->Close();
}

void QuorumCore::Learn(const QuorumRound& round) {
  Ballot before = highest_.load(std::memory_order_relaxed);
  while (!highest_.compare_exchange_weak(before, round.Remembered(before))) {
  }
}

absl::Status QuorumCore::CheckTtl(absl::Duration ttl) const {
  if (absl::Status status = internal::CheckTtl(ttl); !status.ok()) return status;
  if (ttl <= options_.max_ttl) return absl::OkStatus();
  return InvalidArgument(StrCat("ttl is ", ToText(ttl), "; this quorum's leases last at most ",
                                ToText(options_.max_ttl), " (QuorumOptions::max_ttl)"));
}

}  // namespace coord::internal
