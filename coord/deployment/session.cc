#include "coord/deployment/session.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "coord/internal/fork.h"
#include "coord/internal/limits.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kMaxPrefix = 256;
constexpr absl::Duration kMaxTimeout = absl::Hours(24);
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

absl::Status NotYet(std::string_view what) {
  return MakeStatus(absl::StatusCode::kUnimplemented,
                    StrCat(what,
                           " is not supported by this version of coord; use redis://, unix:// "
                           "or embedded://"));
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
  node.connect_timeout = options_.connect_timeout;
  node.spin = options_.spin;
  node.clock = options_.clock;
  const std::string id = NewOwnerId({});
  if (id.empty()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for this client's channel", kUnavailable);
  }
  channel_ = StrCat(options_.prefix, "wake:", id.substr(0, id.size() - 1));
  wakes_ = std::make_unique<Wakes>();
  node.channel = channel_;
  node.on_push = [this](Reply push) {
    if (wakes_->Deliver(push)) background_->Delivered();
  };
  if (role.greeting) node.greeting = role.greeting(options_);
  const CallLimits limits{DeadlineAfter(options_.connect_timeout), {}};
  switch (url_.scheme) {
    case Url::Scheme::kSentinel:
      return NotYet("Sentinel (redis+sentinel://)");
    case Url::Scheme::kCluster:
      return NotYet("Redis Cluster (redis+cluster://)");
    case Url::Scheme::kTcp:
      node.endpoint = {{}, url_.hosts.at(0).host, url_.hosts.at(0).port};
      if (url_.tls) {
        absl::StatusOr<std::shared_ptr<TlsContext>> tls = TlsContext::Make(
            {url_.ca_file, url_.cert_file, url_.key_file, url_.insecure, node.endpoint.host});
        if (!tls.ok()) return tls.status();
        node.tls = *std::move(tls);
      }
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
  node_ = std::make_unique<Node>(std::move(node));
  worker_ = std::make_unique<Worker>();
  background_ = std::make_unique<Background>(*node_, *wakes_);
  return role.connect_later ? absl::OkStatus() : node_->Connect(limits);
}

Session::~Session() {
  if (forked()) {
    // The threads are the parent's, and so may be the locks inside: leave all of it, and only let
    // go of the connections.
    if (node_ != nullptr) node_->CloseDescriptorsInChild();
    if (private_server_ != nullptr) private_server_->AbandonAfterFork();
    (void)private_server_.release();
    (void)node_.release();
    (void)worker_.release();
    (void)background_.release();
    (void)wakes_.release();
    (void)shared_.release();
    return;
  }
  Close();
  if (background_ != nullptr) background_->Stop();
  background_.reset();
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
  return node_->Execute(request, limits, trace);
}

absl::StatusOr<Node::Acknowledged> Session::ExecuteReplicated(Request request, int replicas,
                                                              absl::Duration timeout,
                                                              const CallLimits& limits,
                                                              CallTrace* trace) {
  if (absl::Status status = Usable(); !status.ok()) return status;
  return node_->ExecuteReplicated(request, replicas, timeout, limits, trace);
}

absl::StatusOr<std::vector<Reply>> Session::ExecuteBatch(std::span<Request> requests,
                                                         const CallOptions& options) {
  if (absl::Status status = Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = Limits(options);
  if (!limits.ok()) return limits.status();
  return node_->ExecuteBatch(requests, *limits);
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

namespace {

// Asks the server for a sign of life over the background connection, and tells whoever made it.
class Knock final : public Beat {
 public:
  explicit Knock(absl::Duration patience) : patience_(patience) {}

  absl::Time NextTick() override {
    MutexLock lock(mutex_);
    return asked_ ? absl::InfiniteFuture() : absl::InfinitePast();
  }
  std::optional<Ask> Tick(absl::Time) override {
    MutexLock lock(mutex_);
    asked_ = true;
    const std::string_view ping[] = {"PING"};
    return Ask{Request::Command(ping), patience_};
  }
  void Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time) override { Done(reply.ok()); }
  void Closed() override { Done(false); }

  bool Wait(const CallLimits& limits) {
    const auto wake = [this] {
      MutexLock lock(mutex_);
      changed_.NotifyAll();
    };
    std::optional<std::stop_callback<decltype(wake)>> on_stop;
    if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
    MutexLock lock(mutex_);
    while (!done_ && !limits.stop.stop_requested() && !Passed(limits.deadline)) {
      changed_.WaitUntil(mutex_, limits.deadline);
    }
    return done_ && answered_;
  }

 private:
  void Done(bool answered) {
    MutexLock lock(mutex_);
    done_ = true;
    answered_ = answered;
    changed_.NotifyAll();
  }

  const absl::Duration patience_;
  Mutex mutex_;
  CondVar changed_;
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

bool Session::Listen(const CallLimits& limits) {
  if (listening()) return true;
  const auto knock = std::make_shared<Knock>(options_.timeout);
  if (!background_->Add(knock)) return false;
  const bool answered = knock->Wait(limits);
  background_->Remove(*knock);
  return answered;
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
  RunGuarded([&] { options_.executor(std::move(task)); });
}

void Session::Close() {
  if (forked() || background_ == nullptr || closed_.exchange(true)) return;
  background_->TellClosed();
  background_->Flush(kLastWords);
  background_->Close();
  node_->Close();
}

}  // namespace coord::internal
