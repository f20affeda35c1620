#include "coord/deployment/session.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "coord/deployment/cluster.h"
#include "coord/deployment/sentinel.h"
#include "coord/deployment/standalone.h"
#include "coord/internal/fork.h"
#include "coord/internal/limits.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kMaxPrefix = 256;
constexpr absl::Duration kMaxTimeout = absl::Hours(24);
// Health checks more often than this are work, and no news.
constexpr absl::Duration kLeastPeriod = absl::Milliseconds(10);
// How long a client that closes waits for withdrawals that nobody else will send.
constexpr absl::Duration kLastWords = absl::Milliseconds(300);

absl::Status CheckTimeout(std::string_view what, absl::Duration timeout) {
  if (timeout > absl::ZeroDuration() && timeout <= kMaxTimeout) return absl::OkStatus();
  return InvalidArgument(StrCat(what, " is ", ToText(timeout), "; it must be above 0 and at most ",
                                ToText(kMaxTimeout)));
}

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.prefix.size() > kMaxPrefix ||
      options.prefix.find_first_of("{}") != std::string::npos) {
    return InvalidArgument(StrCat("prefix is ", Quoted(options.prefix), " (", options.prefix.size(),
                                  " bytes); it may have at most ", kMaxPrefix,
                                  " bytes and no braces"));
  }
  if (absl::Status status = CheckTimeout("timeout", options.timeout); !status.ok()) return status;
  if (absl::Status status = CheckTimeout("connect_timeout", options.connect_timeout);
      !status.ok()) {
    return status;
  }
  if (options.fail_fast_after <= absl::ZeroDuration()) {
    return InvalidArgument(StrCat("fail_fast_after is ", ToText(options.fail_fast_after),
                                  "; it must be above 0, or InfiniteDuration for never"));
  }
  if (const absl::Duration period = options.health_check_period;
      period != absl::ZeroDuration() && (period < kLeastPeriod || period > kMaxTimeout)) {
    return InvalidArgument(StrCat("health_check_period is ", ToText(period), "; it must be 0, or ",
                                  ToText(kLeastPeriod), " to ", ToText(kMaxTimeout)));
  }
  if (absl::Status status = CheckTimeout("health_check_timeout", options.health_check_timeout);
      !status.ok()) {
    return status;
  }
  if (options.keepalive != absl::InfiniteDuration() &&
      (options.keepalive < absl::Seconds(1) || options.keepalive > kMaxTimeout)) {
    return InvalidArgument(StrCat("keepalive is ", ToText(options.keepalive), "; it must be 1s to ",
                                  ToText(kMaxTimeout),
                                  ", or InfiniteDuration to leave it to the system"));
  }
  if (options.operation_window < absl::Seconds(1) || options.operation_window > absl::Hours(24)) {
    return InvalidArgument(
        StrCat("operation_window is ", ToText(options.operation_window), "; it must be 1s to 24h"));
  }
  for (const char c : options.client_name) {
    if (c <= ' ' || c > '~') {
      return InvalidArgument(StrCat("client_name is ", Quoted(options.client_name),
                                    "; it may hold printable ASCII without spaces only"));
    }
  }
  if (options.clock == nullptr) return InvalidArgument("clock is null; it must be a Clock");
  return absl::OkStatus();
}

}  // namespace

Session::Session(Url url, ClientOptions options)
    : url_(std::move(url)), options_(std::move(options)), fork_generation_(ForkGeneration()) {}

absl::StatusOr<std::shared_ptr<Session>> Session::Open(std::string_view url, ClientOptions options,
                                                       const SessionRole& role) {
  const char* from_environment = std::getenv("COORD_URL");
  if (url.empty()) {
    url =
        from_environment != nullptr && *from_environment != '\0' ? from_environment : "embedded://";
  }
  absl::StatusOr<Url> parsed = ParseUrl(url);
  if (!parsed.ok()) return parsed.status();
  if (parsed->timeout) options.timeout = *parsed->timeout;
  if (parsed->connect_timeout) options.connect_timeout = *parsed->connect_timeout;
  if (parsed->client_name) options.client_name = *parsed->client_name;
  if (parsed->prefix) options.prefix = *parsed->prefix;
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  if (options.client_name.empty()) options.client_name = DefaultLabel();
  if (options.spin == SpinMode::kAdaptive && !SpinningAffordable()) options.spin = SpinMode::kNever;
  std::shared_ptr<Session> session(new Session(*std::move(parsed), std::move(options)));
  if (absl::Status status = session->Start(role); !status.ok()) return status;
  return session;
}

absl::Status Session::Start(const SessionRole& role) {
  NodeOptions node;
  node.identity = {url_.user, url_.password, url_.db, options_.client_name};
  node.credentials = options_.credentials;
  // In a thread apart: a name server or a provider that takes long must not keep holders from being
  // told of a loss, which happens on the worker.
  node.post = [this](std::function<void()> task) {
    if (options_.executor && options_.credentials) return Post(std::move(task));
    errands_->Post(std::move(task));
  };
  node.connect_timeout = options_.connect_timeout;
  node.fail_fast_after = options_.fail_fast_after;
  node.keepalive = options_.keepalive;
  node.spin = options_.spin;
  node.clock = options_.clock;
  const std::string id = NewOwnerId({});
  if (id.empty()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for this client's channel", kUnavailable);
  }
  node.channel = StrCat(options_.prefix, "wake:", id.substr(0, id.size() - 1));
  wakes_ = std::make_unique<Wakes>();
  node.on_push = [this](Reply push) {
    if (wakes_->Deliver(push)) return background_->Delivered();
    if (key_watch_->Deliver(push)) return;
    deployment_->OnPush(push);
  };
  node.on_event = [this](const NodeEvent& event) { Happened(event); };
  if (role.greeting) node.greeting = role.greeting(options_);
  const CallLimits limits{DeadlineAfter(options_.connect_timeout), {}};
  worker_ = std::make_unique<Worker>();
  errands_ = std::make_unique<Worker>();
  absl::StatusOr<std::unique_ptr<Deployment>> made = MakeDeployment(std::move(node));
  if (!made.ok()) return made.status();
  deployment_ = *std::move(made);
  background_ = std::make_unique<Background>(*options_.clock, *deployment_, *wakes_);
  // Before anything can happen to a node, which is where it is needed.
  pulse_ = std::make_shared<Pulse>(*deployment_, *background_, options_.health_check_period,
                                   options_.health_check_timeout);
  key_watch_ = std::make_unique<KeyWatch>(*deployment_, *background_, *wakes_, *options_.clock);
  deployment_->OnServingChanged([this] { key_watch_->ServersChanged(); });
  deployment_->Start(*background_, options_.timeout);
  if (options_.health_check_period > absl::ZeroDuration()) background_->Add(pulse_);
  if (!role.connect_later) {
    if (absl::Status status = deployment_->Connect(limits); !status.ok()) return status;
  }
  open_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Deployment>> Session::MakeDeployment(NodeOptions node) {
  if (url_.tls) {
    absl::StatusOr<std::shared_ptr<TlsContext>> tls = TlsContext::Make(
        {url_.ca_file, url_.cert_file, url_.key_file, url_.insecure, url_.server_name});
    if (!tls.ok()) return tls.status();
    node.tls = *std::move(tls);
  }
  switch (url_.scheme) {
    case Url::Scheme::kSentinel:
      return SentinelGroup::Make(url_, std::move(node));
    case Url::Scheme::kCluster:
      return Cluster::Make(url_, options_.prefix, std::move(node));
    case Url::Scheme::kTcp:
      node.endpoint = {{}, url_.hosts.at(0).host, url_.hosts.at(0).port};
      break;
    case Url::Scheme::kUnix:
      node.endpoint.path = url_.path;
      break;
    case Url::Scheme::kEmbedded: {
      if (url_.embedded_private) {
        auto server = PrivateServer::Start(options_.connect_timeout);
        if (!server.ok()) return server.status();
        private_server_ = *std::move(server);
        node.endpoint.path = private_server_->socket_path();
        break;
      }
      absl::StatusOr<EmbeddedPlace> place = FindEmbeddedPlace(url_.path);
      if (!place.ok()) return place.status();
      node.endpoint.path = place->socket_path;
      node.ensure_server = [place = *place](absl::Duration timeout) {
        return EnsureEmbedded(place, timeout);
      };
      break;
    }
  }
  return std::make_unique<Standalone>(std::move(node));
}

void Session::Happened(const NodeEvent& event) {
  // Whoever is given up is tried again by the background thread, since no caller does. (A session
  // that cannot even be opened is not.)
  if (event.state == NodeState::kDown && open_) {
    pulse_->Hurry();
    if (background_->Add(pulse_)) {
      background_->Reschedule(*pulse_);
    } else {
      deployment_->Forgive();
    }
  }
  if (!options_.on_node_event) return;
  Post([tell = options_.on_node_event, event] { tell(event); });
}

absl::Status Session::Reconnect(const CallLimits& limits) {
  if (absl::Status status = Usable(); !status.ok()) return status;
  for (Node* node : deployment_->AllNodes()) node->Disconnect("the program asked for new ones");
  return deployment_->Connect(limits);
}

Session::~Session() {
  if (forked()) {
    // The threads are the parent's, and so may be the locks inside: leave all of it, and only let
    // go of the connections.
    if (deployment_ != nullptr) deployment_->CloseDescriptorsInChild();
    if (private_server_ != nullptr) private_server_->AbandonAfterFork();
    (void)private_server_.release();
    (void)deployment_.release();
    (void)worker_.release();
    (void)errands_.release();
    (void)background_.release();
    (void)key_watch_.release();
    (void)wakes_.release();
    (void)new std::shared_ptr<Pulse>(std::move(pulse_));
    (void)shared_.release();
    return;
  }
  Close();
  if (background_ != nullptr) background_->Stop();
  background_.reset();
  errands_.reset();
  worker_.reset();
}

bool Session::forked() const { return ForkGeneration() != fork_generation_; }

absl::Status Session::Usable() const {
  if (forked()) {
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        "this client was made before fork() and belongs to the parent process; connect "
        "anew in the child");
  }
  if (closed_.load(std::memory_order_relaxed)) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition, "the client is closed");
  }
  return absl::OkStatus();
}

absl::StatusOr<CallLimits> Session::Limits(const CallOptions& options) const {
  if (options.timeout) {
    if (absl::Status status = CheckTimeout("timeout", *options.timeout); !status.ok())
      return status;
  }
  return CallLimits{DeadlineAfter(options.timeout.value_or(options_.timeout)), options.stop};
}

absl::StatusOr<Reply> Session::Execute(Request request, const CallOptions& options,
                                       CallTrace* trace) {
  absl::StatusOr<CallLimits> limits = Limits(options);
  if (!limits.ok()) return limits.status();
  return Execute(std::move(request), *limits, trace);
}

absl::StatusOr<Reply> Session::Execute(Request request, const CallLimits& limits,
                                       CallTrace* trace) {
  if (absl::Status status = Usable(); !status.ok()) return status;
  return deployment_->Execute(request, limits, trace);
}

absl::StatusOr<Node::Acknowledged> Session::ExecuteReplicated(Request request,
                                                              const Replicas& replicas,
                                                              const CallLimits& limits,
                                                              CallTrace* trace) {
  if (absl::Status status = Usable(); !status.ok()) return status;
  return deployment_->ExecuteReplicated(request, replicas, limits, trace);
}

absl::StatusOr<std::vector<Reply>> Session::ExecuteBatch(std::span<Request> requests,
                                                         const CallOptions& options) {
  if (absl::Status status = Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = Limits(options);
  if (!limits.ok()) return limits.status();
  return deployment_->ExecuteBatch(requests, *limits);
}

absl::StatusOr<std::string> Session::Key(std::string_view what, std::string_view name,
                                         std::string_view part) const {
  if (name.empty() || name.size() > kMaxName) {
    return InvalidArgument(
        StrCat(what, " name has ", name.size(), " bytes; it must have 1 to ", kMaxName));
  }
  if (name.front() == '}') {
    return InvalidArgument(StrCat(what, " name ", Quoted(name),
                                  " starts with '}', which would end the hash tag of its keys"));
  }
  return StrCat(options_.prefix, "{", name, "}:", part);
}

std::shared_ptr<void> Session::Shared(const std::string& key,
                                      const std::function<std::shared_ptr<void>()>& make) {
  MutexLock lock(shared_->mutex);
  auto& by_key = shared_->by_key;
  std::weak_ptr<void>& place = by_key[key];
  if (std::shared_ptr<void> present = place.lock()) return present;
  std::shared_ptr<void> made = make();
  place = made;
  if (by_key.size() >= shared_->sweep_at) {
    absl::erase_if(by_key, [](const auto& entry) { return entry.second.expired(); });
    shared_->sweep_at = std::max<std::size_t>(64, 2 * by_key.size());
  }
  return made;
}

void Session::Post(std::function<void()> task) {
  if (!options_.executor) {
    worker_->Post(std::move(task));
    return;
  }
  // Neither may what the user's callbacks throw end in the executor's thread.
  RunGuarded([&] { options_.executor([task = std::move(task)] { RunGuarded(task); }); });
}

void Session::Close() {
  if (forked() || background_ == nullptr || closed_.exchange(true)) return;
  background_->TellClosed();
  background_->Flush(kLastWords);
  background_->Close();
  deployment_->Close();
}

}  // namespace coord::internal
