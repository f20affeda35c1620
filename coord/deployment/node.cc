#include "coord/deployment/node.h"

#include <algorithm>
#include <utility>

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

// Sends one exchange and says what became of it.
absl::Status RunOnce(Connection& connection, Exchange& exchange, const CallLimits& limits,
                     std::string_view what, const std::string& name) {
  const Connection::WaitResult result = connection.Run(exchange, limits);
  if (result == Connection::WaitResult::kDone && exchange.status().ok()) return absl::OkStatus();
  const std::string context = StrCat(what, " at ", name, ": ");
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

// Why a call failed. When an attempt before may have been applied (`unknown`), so may the call,
// whatever became of its repetition: unless the server has answered that for good.
absl::Status Failure(const absl::Status& status, bool unknown) {
  if (!unknown || IsOutcomeUnknown(status)) return status;
  return MakeStatus(
      status.code(),
      StrCat(FromAbsl(status.message()), "; an attempt before that was sent", kUnknown),
      Reasons(status) | kOutcomeUnknown);
}

bool Pause(const CallLimits& limits) {
  return SleepUntil(std::chrono::steady_clock::now() + kSoon, limits);
}

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

}  // namespace

Node::Node(NodeOptions options)
    : options_(std::move(options)),
      name_(options_.endpoint.ToString()),
      shared_(name_, [this](const CallLimits& limits) { return Dial(limits, false); }),
      background_(name_, [this](const CallLimits& limits) { return Dial(limits, true); }),
      replicated_(name_, [this](const CallLimits& limits) { return Dial(limits, false); }) {}

absl::StatusOr<std::vector<Address>> Node::Addresses(bool background) {
  if (!background) {
    absl::StatusOr<std::vector<Address>> found = Resolve(options_.endpoint);
    if (!found.ok()) return found.status();
    MutexLock lock(mutex_);
    addresses_ = *found;
    return found;
  }
  MutexLock lock(mutex_);
  return addresses_;
}

absl::StatusOr<std::shared_ptr<Connection>> Node::Dial(const CallLimits& limits, bool background) {
  CallLimits bounded = limits;
  bounded.deadline = std::min(limits.deadline, DeadlineAfter(options_.connect_timeout));
  if (options_.ensure_server && !background) {
    if (absl::Status status = options_.ensure_server(TimeUntil(bounded.deadline)); !status.ok()) {
      return status;
    }
  }
  absl::StatusOr<std::vector<Address>> addresses = Addresses(background);
  if (!addresses.ok()) return addresses.status();
  Handshake::Protocol protocol;
  {
    MutexLock lock(mutex_);
    protocol = protocol_;
  }
  while (true) {
    absl::StatusOr<std::unique_ptr<Socket>> socket =
        internal::Dial(options_.endpoint, *addresses, bounded);
    if (!socket.ok()) return socket.status();
    if (options_.tls != nullptr) {
      socket = options_.tls->Secure(*std::move(socket), name_, bounded);
      if (!socket.ok()) return socket.status();
    }
    const SpinJudge spin(background ? SpinMode::kNever : options_.spin,
                         options_.endpoint.local() ? SpinJudge::kLocalBudget : SpinJudge::kBudget);
    auto connection =
        std::make_shared<Connection>(*std::move(socket), name_, spin, RespLimits{},
                                     background ? options_.on_push : Connection::PushHandler());
    Identity identity = options_.identity;
    if (background) identity.channel = options_.channel;
    const Handshake handshake(identity, AllScripts(), protocol);
    const bool greets = !options_.greeting.bytes.empty();
    std::vector<Reply> replies(handshake.commands() + (greets ? 1 : 0));
    const std::string bytes =
        greets ? StrCat(handshake.bytes(), options_.greeting.bytes) : handshake.bytes();
    Exchange exchange(bytes, handshake.first_size(), replies);
    const Connection::WaitResult signed_in = connection->Run(exchange, bounded);
    if (signed_in != Connection::WaitResult::kDone) connection->Abandon(exchange);
    if (signed_in != Connection::WaitResult::kDone || !exchange.status().ok()) {
      return SignInFailure(signed_in, exchange.status(), name_);
    }
    const Handshake::Result result = handshake.Judge(replies, name_);
    if (!result.status.ok()) return result.status;
    if (!result.try_resp2) {
      if (background) subscribed_.store(result.subscribed, std::memory_order_relaxed);
      if (!greets) return connection;
      absl::Status greeted = options_.greeting.judge(replies.back());
      if (!greeted.ok()) return greeted;
      return connection;
    }
    protocol = Handshake::Protocol::kResp2;
    MutexLock lock(mutex_);
    protocol_ = protocol;
  }
}

absl::Status Node::Connect(const CallLimits& limits) {
  while (true) {
    const absl::Status status = shared_.Get(limits, /*once=*/true).status();
    const bool starting = (Reasons(status) & kUnavailable) != 0 &&
                          status.message().find("LOADING") != absl::string_view::npos;
    if (!starting || !Pause(limits)) return status;
  }
}

absl::StatusOr<Reply> Node::Execute(Request& request, const CallLimits& limits, CallTrace* trace) {
  bool unknown = false;
  while (true) {
    if (limits.stop.stop_requested()) {
      return Failure(MakeStatus(absl::StatusCode::kCancelled,
                                StrCat(request.what(), " not sent: stopped by the caller")),
                     unknown);
    }
    absl::StatusOr<std::shared_ptr<Connection>> connection = shared_.Get(limits);
    if (!connection.ok()) {
      return Failure(Annotate(connection.status(), StrCat(request.what(), " not sent")), unknown);
    }
    Reply replies[2];
    Exchange exchange(request.bytes(), request.bytes().size(),
                      std::span<Reply>(replies, request.replies()));
    Reply& reply = replies[request.replies() - 1];
    if (trace != nullptr) trace->sent = clock().Now();
    if (absl::Status status = RunOnce(**connection, exchange, limits, request.what(), name_);
        !status.ok()) {
      const bool broke = exchange.done();
      if (broke && exchange.not_sent() && !IsLasting(status)) continue;
      if (broke && request.retry_safe() && !IsLasting(status) &&
          status.code() != absl::StatusCode::kDataLoss) {
        unknown = true;
        if (trace != nullptr) trace->replayed = true;
        continue;
      }
      return Failure(status, unknown);
    }
    if (!reply.is_error()) return reply;
    const std::string_view code = ErrorCode(reply.text());
    if (code == "NOSCRIPT" && request.UseEval()) continue;
    const bool passes = PassesByItself(code);
    if (passes && Pause(limits)) continue;
    return Failure(ServerError(reply.text(), StrCat(request.what(), " at ", name_)),
                   unknown && passes);
  }
}

absl::StatusOr<Node::Acknowledged> Node::ExecuteReplicated(Request& request, int replicas,
                                                           absl::Duration timeout,
                                                           const CallLimits& limits,
                                                           CallTrace* trace) {
  const std::string count = StrCat(replicas);
  const std::string ms = StrCat(CeilMilliseconds(timeout));  // never 0, which is for ever
  const std::string_view wait_words[] = {"WAIT", count, ms};
  const Request wait = Request::Command(wait_words);
  bool unknown = false;
  while (true) {
    absl::StatusOr<std::shared_ptr<Connection>> connection = replicated_.Get(limits);
    if (!connection.ok()) {
      return Failure(Annotate(connection.status(), StrCat(request.what(), " not sent")), unknown);
    }
    CallLimits longer = limits;
    if (longer.deadline != SteadyTime::max()) {
      longer.deadline += absl::ToChronoNanoseconds(timeout);
    }
    const std::string bytes = request.bytes() + wait.bytes();
    Reply replies[2];
    Exchange exchange(bytes, request.bytes().size(), replies);
    if (trace != nullptr) trace->sent = clock().Now();
    if (absl::Status status = RunOnce(**connection, exchange, longer, request.what(), name_);
        !status.ok()) {
      if (exchange.done() && !IsLasting(status) && status.code() != absl::StatusCode::kDataLoss &&
          !limits.stop.stop_requested()) {
        if (exchange.not_sent()) continue;
        if (request.retry_safe()) {
          unknown = true;
          if (trace != nullptr) trace->replayed = true;
          continue;
        }
      }
      return Failure(status, unknown);
    }
    if (!replies[0].is_error()) {
      return Acknowledged{std::move(replies[0]), static_cast<int>(replies[1].integer())};
    }
    const std::string_view code = ErrorCode(replies[0].text());
    if (code == "NOSCRIPT" && request.UseEval()) continue;
    const bool passes = PassesByItself(code);
    if (passes && Pause(limits)) continue;
    return Failure(ServerError(replies[0].text(), StrCat(request.what(), " at ", name_)),
                   unknown && passes);
  }
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
    absl::Status status = RunOnce(**connection, exchange, limits, what, name_);
    if (status.ok()) return replies;
    if (exchange.done() && exchange.not_sent() && !IsLasting(status)) continue;
    return status;
  }
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
