#include "coord/deployment/node.h"

#include <algorithm>
#include <utility>

#include "coord/deployment/background.h"
#include "coord/deployment/server_error.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/waiting.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// How long to leave a server alone that says it will be ready soon.
constexpr std::chrono::milliseconds kSoon{20};

constexpr std::string_view kUnknown =
    "; it is not known whether the operation has been or will be applied";

// Signing in changes nothing, so whatever became of it, the caller's own command was not sent.
absl::Status SignInFailure(const Connection::WaitResult result, const absl::Status& status,
                           const std::string& name) {
  if (result == Connection::WaitResult::kStopped) {
    return MakeStatus(absl::StatusCode::kCancelled, StrCat("stopped while signing in at ", name));
  }
  if (result == Connection::WaitResult::kDeadline) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("signing in at ", name, ": no answer in time"), kUnavailable);
  }
  return MakeStatus(status.code(), StrCat("signing in at ", name, ": ", FromAbsl(status.message())),
                    kUnavailable);
}

// A node that is silent for so long may have failed, and another may do its work by now.
constexpr absl::Duration kDoubt = absl::Milliseconds(300);

// Every so many calls one is timed.
constexpr std::uint32_t kTimed = 16;

}  // namespace

absl::Status EndExchange(Connection& connection, Exchange& exchange, Connection::WaitResult result,
                         std::string_view what, std::string_view peer) {
  if (result == Connection::WaitResult::kDone && exchange.status().ok()) return absl::OkStatus();
  const std::string context = StrCat(what, " at ", peer, ": ");
  if (result == Connection::WaitResult::kDone) {
    const absl::Status& status = exchange.status();
    return MakeStatus(status.code(),
                      StrCat(context, FromAbsl(status.message()),
                             IsOutcomeUnknown(status) ? kUnknown : std::string_view()),
                      Reasons(status));
  }
  const bool not_sent = connection.Abandon(exchange);
  if (result == Connection::WaitResult::kStopped) {
    return MakeStatus(absl::StatusCode::kCancelled,
                      StrCat(context, "stopped by the caller", not_sent ? "; not sent" : kUnknown),
                      not_sent ? 0u : static_cast<unsigned>(kOutcomeUnknown));
  }
  if (not_sent) {
    return MakeStatus(absl::StatusCode::kUnavailable, StrCat(context, "could not be sent in time"),
                      kUnavailable);
  }
  return MakeStatus(absl::StatusCode::kDeadlineExceeded,
                    StrCat(context, "no reply by the deadline", kUnknown), kOutcomeUnknown);
}

Connection::WaitResult WaitDoubting(Connection& connection, Exchange& exchange,
                                    const CallLimits& limits, Router& router, Node& node) {
  while (true) {
    CallLimits some = limits;
    some.deadline = std::min(limits.deadline, DeadlineAfter(kDoubt));
    const Connection::WaitResult result = connection.Wait(exchange, some);
    if (result != Connection::WaitResult::kDeadline) return result;
    router.Unreached(node);
    if (Passed(limits.deadline)) return result;
  }
}

absl::Status CallFailure(const absl::Status& status, const CallProgress& progress) {
  if (!progress.unknown || IsOutcomeUnknown(status)) return status;
  return MakeStatus(
      status.code(),
      StrCat(FromAbsl(status.message()), "; an attempt before that was sent", kUnknown),
      Reasons(status) | kOutcomeUnknown);
}

bool PauseForServer(const CallLimits& limits) {
  return SleepUntil(std::chrono::steady_clock::now() + kSoon, limits);
}

Node::Node(NodeOptions options)
    : options_(std::move(options)),
      record_(options_.title.empty() ? options_.endpoint.ToString() : options_.title,
              options_.ensure_server ? absl::InfiniteDuration() : options_.fail_fast_after,
              options_.on_event),
      approach_({options_.identity.user, options_.identity.password}, options_.credentials,
                options_.post),
      name_(options_.title.empty() ? options_.endpoint.ToString() : options_.title),
      shared_(name_, record_, true,
              [this](const CallLimits& limits) { return Dial(limits, false); }),
      background_(name_, record_, false,
                  [this](const CallLimits& limits) { return Dial(limits, true); }),
      replicated_(name_, record_, false,
                  [this](const CallLimits& limits) { return Dial(limits, false); }) {}

std::string Node::name() const {
  MutexLock lock(mutex_);
  return name_;
}

ServerFacts Node::facts() {
  MutexLock lock(mutex_);
  return facts_;
}

absl::StatusOr<Approach> Node::FindApproach(const CallLimits& limits, bool background) {
  Endpoint endpoint = options_.endpoint;
  if (options_.locate) {
    absl::StatusOr<Endpoint> located = options_.locate(limits, background);
    if (!located.ok()) return located.status();
    endpoint = *std::move(located);
    bool moved = false;
    {
      MutexLock lock(mutex_);
      moved = std::exchange(name_, endpoint.ToString()) != endpoint.ToString();
    }
    if (moved) record_.Rename(endpoint.ToString());
  }
  return background ? approach_.FindInBackground(endpoint) : approach_.Find(endpoint);
}

absl::StatusOr<std::shared_ptr<Connection>> Node::Dial(const CallLimits& limits, bool background) {
  CallLimits bounded = limits;
  bounded.deadline = std::min(limits.deadline, DeadlineAfter(options_.connect_timeout));
  if (options_.ensure_server && !background) {
    if (absl::Status status = options_.ensure_server(TimeUntil(bounded.deadline)); !status.ok()) {
      return status;
    }
  }
  absl::StatusOr<Approach> approach = FindApproach(bounded, background);
  if (!approach.ok()) return approach.status();
  const Endpoint& endpoint = approach->endpoint;
  const std::string peer = endpoint.ToString();
  Identity identity = options_.identity;
  identity.user = approach->credentials.user;
  identity.password = approach->credentials.password;
  if (background) identity.channel = options_.channel;
  identity.must_be_master = identity.must_be_master || options_.locate != nullptr;
  Handshake::Protocol protocol;
  {
    MutexLock lock(mutex_);
    protocol = protocol_;
  }
  while (true) {
    absl::StatusOr<std::unique_ptr<Socket>> socket =
        internal::Dial(endpoint, approach->addresses, bounded, options_.keepalive);
    if (!socket.ok()) return socket.status();
    if (options_.tls != nullptr) {
      socket = options_.tls->Secure(*std::move(socket), endpoint.host, peer, bounded);
      if (!socket.ok()) return socket.status();
    }
    const SpinJudge spin(background ? SpinMode::kNever : options_.spin,
                         endpoint.local() ? SpinJudge::kLocalBudget : SpinJudge::kBudget);
    auto connection =
        std::make_shared<Connection>(*std::move(socket), peer, spin, RespLimits{},
                                     background ? options_.on_push : Connection::PushHandler());
    const Handshake handshake(
        identity, options_.scripts ? AllScripts() : std::span<const ScriptText* const>(), protocol);
    const bool greets = !options_.greeting.bytes.empty();
    std::vector<Reply> replies(handshake.commands() + (greets ? 1 : 0));
    const std::string bytes =
        greets ? StrCat(handshake.bytes(), options_.greeting.bytes) : handshake.bytes();
    Exchange exchange(bytes, handshake.first_size(), replies);
    const Connection::WaitResult signed_in = connection->Run(exchange, bounded);
    if (signed_in != Connection::WaitResult::kDone) connection->Abandon(exchange);
    if (signed_in != Connection::WaitResult::kDone || !exchange.status().ok()) {
      return SignInFailure(signed_in, exchange.status(), peer);
    }
    const Handshake::Result result = handshake.Judge(replies, peer);
    if (!result.status.ok()) return result.status;
    if (!result.try_resp2) {
      if (background) subscribed_.store(result.subscribed, std::memory_order_relaxed);
      if (greets) {
        if (absl::Status greeted = options_.greeting.judge(replies.back()); !greeted.ok()) {
          return greeted;
        }
      }
      // Who waits for the other connection need not wait any longer.
      if (background) shared_.Hurry();
      MutexLock lock(mutex_);
      facts_ = result.facts;
      return connection;
    }
    protocol = Handshake::Protocol::kResp2;
    MutexLock lock(mutex_);
    protocol_ = protocol;
  }
}

absl::Status Node::Connect(const CallLimits& limits) {
  while (true) {
    const absl::Status status = shared_.Get(limits, Channel::Patience::kOnce).status();
    const bool starting = (Reasons(status) & kUnavailable) != 0 &&
                          status.message().find("LOADING") != absl::string_view::npos;
    if (!starting || !PauseForServer(limits)) return status;
  }
}

Attempt Node::Try(Request& request, const CallLimits& limits, CallProgress& progress,
                  const Replicas& replicas) {
  using Verdict = Attempt::Verdict;
  if (limits.stop.stop_requested()) {
    return {Verdict::kFinal,
            CallFailure(MakeStatus(absl::StatusCode::kCancelled,
                                   StrCat(request.what(), " not sent: stopped by the caller")),
                        progress)};
  }
  Channel& channel = replicas.count > 0 ? replicated_ : shared_;
  std::shared_ptr<Connection> connection = channel.Current();
  if (connection == nullptr) {
    CallLimits reach = limits;
    reach.deadline = std::min(reach.deadline, DeadlineAfter(progress.reach));
    const bool elsewhere = progress.reach != absl::InfiniteDuration() && !record_.refusing();
    absl::StatusOr<std::shared_ptr<Connection>> made =
        channel.Get(reach, elsewhere ? Channel::Patience::kIfDue : Channel::Patience::kWait);
    if (!made.ok()) {
      absl::Status why = Annotate(made.status(), StrCat(request.what(), " not sent"));
      const bool final = IsLasting(why) || why.code() == absl::StatusCode::kCancelled;
      return {final ? Verdict::kFinal : Verdict::kUnreached, CallFailure(why, progress)};
    }
    connection = *std::move(made);
  }
  Reply room[Request::kMostReplies + 1];
  std::string with_wait;
  CallLimits longer = limits;
  if (replicas.count > 0) {
    const std::string count = StrCat(replicas.count);
    const std::string ms = StrCat(CeilMilliseconds(replicas.timeout));  // never 0: for ever
    const std::string_view wait_words[] = {"WAIT", count, ms};
    with_wait = request.bytes() + Request::Command(wait_words).bytes();
    if (longer.deadline != SteadyTime::max()) {
      longer.deadline += absl::ToChronoNanoseconds(replicas.timeout);
    }
  }
  const std::string& bytes = replicas.count > 0 ? with_wait : request.bytes();
  const std::span<Reply> replies(room, request.replies() + (replicas.count > 0 ? 1 : 0));
  Exchange exchange(bytes, request.bytes().size(), replies);
  Reply& reply = room[request.replies() - 1];
  CallTrace* const trace = progress.trace;
  const bool timed = calls_.fetch_add(1, std::memory_order_relaxed) % kTimed == 0;
  const absl::Time began = timed || trace != nullptr ? clock().Now() : absl::InfinitePast();
  if (trace != nullptr) trace->sent = began;
  Connection::WaitResult result;
  if (progress.router == nullptr) {
    result = connection->Run(exchange, longer);
  } else {
    CallLimits some = longer;
    some.deadline = std::min(longer.deadline, DeadlineAfter(kDoubt));
    result = connection->Run(exchange, some);
    if (result == Connection::WaitResult::kDeadline) {
      progress.router->Unreached(*this);
      result = WaitDoubting(*connection, exchange, longer, *progress.router, *this);
    }
  }
  const absl::Status status =
      EndExchange(*connection, exchange, result, request.what(), connection->peer());
  if (timed && exchange.done() && status.ok()) record_.latency().Add(clock().Now() - began);
  if (!status.ok()) {
    const bool again =
        exchange.done() && !IsLasting(status) && status.code() != absl::StatusCode::kDataLoss;
    if (again && (exchange.not_sent() || request.retry_safe())) {
      if (!exchange.not_sent()) {
        progress.unknown = true;
        if (trace != nullptr) trace->replayed = true;
      }
      return {Verdict::kAgain, status};
    }
    return {Verdict::kFinal, CallFailure(status, progress)};
  }
  if (!reply.is_error()) {
    Attempt attempt{Verdict::kFinal, std::move(reply)};
    if (replicas.count == 0) return attempt;
    attempt.replicas = static_cast<int>(replies.back().integer());
    return attempt;
  }
  const std::string_view code = ErrorCode(reply.text());
  if (code == "NOSCRIPT" && request.UseEval()) return {Verdict::kAgain, absl::UnknownError("")};
  if (code == "MOVED" || code == "ASK") return {Verdict::kElsewhere, std::move(reply)};
  absl::Status refused =
      ServerError(reply.text(), StrCat(request.what(), " at ", connection->peer()));
  if (code == "READONLY" && options_.locate) {
    // A failover has made a replica of it.
    Disconnect(FromAbsl(refused.message()));
    return {Verdict::kPause, std::move(refused)};
  }
  Attempt attempt{PassesByItself(code) ? Verdict::kPause : Verdict::kFinal, std::move(refused)};
  attempt.refusal = std::move(reply.mutable_text());
  return attempt;
}

namespace {

// All attempts of a call at one server.
Attempt TryAll(Node& node, Request& request, const CallLimits& limits, CallProgress& progress,
               const Replicas& replicas) {
  absl::Status said;  // by a server that asked for a moment
  while (true) {
    Attempt attempt = node.Try(request, limits, progress, replicas);
    if (!said.ok() && !attempt.reply.ok() && attempt.refusal.empty() &&
        attempt.verdict != Attempt::Verdict::kAgain &&
        attempt.verdict != Attempt::Verdict::kPause) {
      const absl::Status& last = attempt.reply.status();
      attempt.reply =
          MakeStatus(last.code(),
                     StrCat(FromAbsl(last.message()), "; before that: ", FromAbsl(said.message())),
                     Reasons(last));
    }
    switch (attempt.verdict) {
      case Attempt::Verdict::kAgain:
        continue;
      case Attempt::Verdict::kPause:
        said = attempt.reply.status();
        if (PauseForServer(limits)) continue;
        attempt.reply = CallFailure(attempt.reply.status(), progress);
        return attempt;
      case Attempt::Verdict::kElsewhere:
        attempt.reply =
            ServerError(attempt.reply->text(), StrCat(request.what(), " at ", node.name()));
        return attempt;
      case Attempt::Verdict::kUnreached:
      case Attempt::Verdict::kFinal:
        return attempt;
    }
  }
}

}  // namespace

absl::StatusOr<Reply> Node::Execute(Request& request, const CallLimits& limits, CallTrace* trace) {
  CallProgress progress{trace};
  return TryAll(*this, request, limits, progress, {}).reply;
}

absl::StatusOr<Node::Acknowledged> Node::ExecuteReplicated(Request& request,
                                                           const Replicas& replicas,
                                                           const CallLimits& limits,
                                                           CallTrace* trace) {
  CallProgress progress{trace};
  Attempt attempt = TryAll(*this, request, limits, progress, replicas);
  if (!attempt.reply.ok()) return attempt.reply.status();
  return Acknowledged{*std::move(attempt.reply), attempt.replicas};
}

absl::StatusOr<std::vector<Reply>> Node::ExecuteBatch(std::span<Request> requests,
                                                      const CallLimits& limits) {
  std::vector<Reply> replies(requests.size());
  if (requests.empty()) return replies;
  // A script that the server has forgotten must not be healed behind the commands that follow it,
  // so each script's first use in a batch carries its text.
  std::vector<std::string_view> seen;
  std::string bytes;
  std::size_t first_size = 0;
  for (Request& request : requests) {
    if (request.is_script() && std::find(seen.begin(), seen.end(), request.what()) == seen.end()) {
      seen.push_back(request.what());
      request.UseEval();
    }
    bytes += request.bytes();
    if (first_size == 0) first_size = bytes.size();
  }
  const std::string what = StrCat("pipeline of ", requests.size(), " commands");
  while (true) {
    absl::StatusOr<std::shared_ptr<Connection>> connection = shared_.Get(limits);
    if (!connection.ok()) return Annotate(connection.status(), StrCat(what, " not sent"));
    Exchange exchange(bytes, first_size, replies);
    absl::Status status = EndExchange(**connection, exchange, (*connection)->Run(exchange, limits),
                                      what, (*connection)->peer());
    if (status.ok()) {
      for (const Reply& reply : replies) {
        if (!options_.locate || !reply.is_error() || ErrorCode(reply.text()) != "READONLY") {
          continue;
        }
        // As for a single command: a failover has made a replica of it. The others of the batch may
        // have been read there, so they are not sent again; who calls next finds the master.
        Disconnect(reply.text());
        break;
      }
      return replies;
    }
    if (exchange.done() && exchange.not_sent() && !IsLasting(status)) continue;
    return status;
  }
}

void Node::Disconnect(std::string_view why) {
  const absl::Status status = MakeStatus(
      absl::StatusCode::kUnavailable, StrCat("connections to ", name(), " were given up: ", why));
  record_.Reset();
  shared_.Disconnect(status);
  background_.Disconnect(status);
  replicated_.Disconnect(status);
}

void Node::Close() {
  shared_.Close();
  background_.Close();
  replicated_.Close();
}

void Node::CloseDescriptorsInChild() {
  shared_.CloseDescriptorInChild();
  background_.CloseDescriptorInChild();
  replicated_.CloseDescriptorInChild();
}

}  // namespace coord::internal
