#include "coord/deployment/session.h"

#include <cstdlib>
#include <utility>

#include "coord/internal/fork.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kMaxName = 512;
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
  if (url_.tls) return NotYet("TLS (rediss://)");
  NodeOptions node;
  node.identity = {url_.user, url_.password, url_.db, options_.client_name};
  node.connect_timeout = options_.connect_timeout;
  node.spin = options_.spin;
  node.clock = options_.clock;
  if (role.greeting) node.greeting = role.greeting(options_);
  const CallLimits limits{DeadlineAfter(options_.connect_timeout), {}};
  switch (url_.scheme) {
    case Url::Scheme::kSentinel:
      return NotYet("Sentinel (redis+sentinel://)");
    case Url::Scheme::kCluster:
      return NotYet("Redis Cluster (redis+cluster://)");
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
  node_ = std::make_unique<Node>(std::move(node));
  worker_ = std::make_unique<Worker>();
  background_ = std::make_unique<Background>(*node_);
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
    return;
  }
  Close();
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

void Session::Post(std::function<void()> task) {
  if (!options_.executor) {
    worker_->Post(std::move(task));
    return;
  }
  RunGuarded([&] { options_.executor(std::move(task)); });
}

void Session::Close() {
  if (forked() || background_ == nullptr || closed_.exchange(true)) return;
  background_->Flush(kLastWords);
  node_->Close();
  background_->Close();
}

}  // namespace coord::internal
