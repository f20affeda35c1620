#include "cache/http/internal/transport.h"

#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>
#include <vector>

#include "cache/http/internal/curl_handle.h"
#include "cache/http/internal/url.h"
#include "coord/internal/fork.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord::http::internal {
namespace {

using coord::internal::InvalidArgument;
using coord::internal::MakeStatus;
using coord::internal::Mutex;
using coord::internal::MutexLock;
using coord::internal::StrCat;

constexpr absl::Duration kLongest = absl::Hours(24);

// Scheme, host and port: what a connection can be used again for.
std::string_view OriginOf(std::string_view url) {
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) return url;
  return url.substr(0, url.find_first_of("/?#", scheme + 3));
}

bool HasControls(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > 0x20 && c < 0x7f &&
           std::string_view("\"(),/:;<=>?@[\\]{}").find(c) == std::string_view::npos;
  });
}

absl::Status CheckOptions(const TransportOptions& options) {
  if (options.timeout <= absl::ZeroDuration() || options.timeout > kLongest) {
    return InvalidArgument("transport.timeout must be above zero and at most 24 h");
  }
  if (options.connect_timeout <= absl::ZeroDuration() || options.connect_timeout > kLongest) {
    return InvalidArgument("transport.connect_timeout must be above zero and at most 24 h");
  }
  if (options.max_header_bytes == 0) {
    return InvalidArgument("transport.max_header_bytes must be above zero");
  }
  if (options.max_idle_connections < 0 || options.max_idle_connections > 10'000) {
    return InvalidArgument("transport.max_idle_connections must be 0 to 10000");
  }
  if (options.cert_file.empty() != options.key_file.empty()) {
    return InvalidArgument("transport.cert_file and transport.key_file go together");
  }
  if (options.unix_socket.size() >= sizeof(sockaddr_un::sun_path)) {
    return InvalidArgument("transport.unix_socket is longer than a socket's path can be");
  }
  if (!options.unix_socket.empty() && !options.proxy.empty() && options.proxy != "none") {
    return InvalidArgument("transport.unix_socket and transport.proxy exclude each other");
  }
  for (const std::string* text : {&options.user_agent, &options.ca_file, &options.cert_file,
                                  &options.key_file, &options.proxy, &options.unix_socket}) {
    if (HasControls(*text)) {
      return InvalidArgument("a text among the options of transport has a control character");
    }
  }
  return absl::OkStatus();
}

absl::Status Check(const Outgoing& request) {
  if (!IsToken(request.method)) return InvalidArgument("the method is no token");
  if (HasControls(request.url) || request.url.find(' ') != std::string_view::npos) {
    return InvalidArgument("the URL has a blank or a control character");
  }
  if (request.method == "HEAD" && !request.body.empty()) {
    return InvalidArgument("a HEAD request has no body");
  }
  if (request.timeout <= absl::ZeroDuration() || request.timeout > kLongest) {
    return InvalidArgument("the timeout must be above zero and at most 24 h");
  }
  return request.headers->Check();
}

absl::Status Closed() {
  return MakeStatus(absl::StatusCode::kFailedPrecondition, "the session is closed");
}

}  // namespace

struct Transport::State {
  // Those with a connection that nobody uses, the last used at the end.
  struct Idle {
    std::string origin;
    std::unique_ptr<CurlHandle> handle;
  };

  explicit State(const TransportOptions& options_in) : options(options_in) {}

  bool forked() const { return coord::internal::ForkGeneration() != generation; }
  absl::StatusOr<std::unique_ptr<CurlHandle>> Take(std::string_view origin);
  void Give(std::string_view origin, std::unique_ptr<CurlHandle> handle, bool usable);

  const TransportOptions options;
  const std::uint64_t generation = coord::internal::ForkGeneration();
  Mutex mutex;
  bool closed ABSL_GUARDED_BY(mutex) = false;
  std::vector<Idle> idle ABSL_GUARDED_BY(mutex);
  std::set<CurlHandle*> active ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<std::unique_ptr<CurlHandle>> Transport::State::Take(std::string_view origin) {
  std::unique_ptr<CurlHandle> handle;
  std::vector<std::unique_ptr<CurlHandle>> superfluous;  // closed without the lock
  const MutexLock lock(mutex);
  if (closed) return Closed();
  while (handle == nullptr) {
    const auto found = std::find_if(idle.rbegin(), idle.rend(),
                                    [&](const Idle& one) { return one.origin == origin; });
    if (found == idle.rend()) break;
    (found->handle->quiet() ? handle : superfluous.emplace_back()) = std::move(found->handle);
    idle.erase(std::next(found).base());
  }
  if (handle == nullptr) {
    handle = CurlHandle::Make();
    if (handle == nullptr) {
      return MakeStatus(absl::StatusCode::kResourceExhausted, "libcurl has no handle");
    }
  }
  active.insert(handle.get());
  return handle;
}

void Transport::State::Give(std::string_view origin, std::unique_ptr<CurlHandle> handle,
                            bool usable) {
  // Closing a connection may take a while, so it happens without the lock.
  std::unique_ptr<CurlHandle> superfluous;
  const MutexLock lock(mutex);
  active.erase(handle.get());
  if (!usable || closed || handle->interrupted() || options.max_idle_connections == 0) {
    superfluous = std::move(handle);
    return;
  }
  if (idle.size() >= static_cast<std::size_t>(options.max_idle_connections)) {
    superfluous = std::move(idle.front().handle);
    idle.erase(idle.begin());
  }
  idle.push_back({std::string(origin), std::move(handle)});
}

Transport::Transport(std::unique_ptr<State> state) : state_(std::move(state)) {}

absl::StatusOr<std::unique_ptr<Transport>> Transport::Make(const TransportOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  if (absl::Status status = CheckCurl(options); !status.ok()) return status;
  return std::unique_ptr<Transport>(new Transport(std::make_unique<State>(options)));
}

Transport::~Transport() {
  if (!state_->forked()) {
    Close();
    return;
  }
  // Closing a TLS connection would speak on it, and it is the parent's. So they stay as they are.
  for (State::Idle& idle : state_->idle) (void)idle.handle.release();
}

absl::StatusOr<Ended> Transport::Exchange(const Outgoing& request, Receiver& receiver, bool* sent) {
  if (sent != nullptr) *sent = false;
  if (state_->forked()) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      "the session is a forked parent's: open one in the child");
  }
  if (absl::Status status = Check(request); !status.ok()) return status;
  const std::string context = StrCat(request.method, " ", UrlForMessages(request.url));
  if (request.stop.stop_requested()) {
    return MakeStatus(absl::StatusCode::kCancelled, StrCat(context, ": was ended by its caller"));
  }
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(request.timeout);
  const std::string_view origin = OriginOf(request.url);
  const SigpipeBlock block;
  absl::StatusOr<std::unique_ptr<CurlHandle>> handle = state_->Take(origin);
  if (!handle.ok()) return handle.status();
  CurlHandle::Outcome outcome;
  {
    const std::stop_callback on_stop(request.stop, [&] { (*handle)->Interrupt(); });
    outcome = (*handle)->Run(state_->options, request, receiver, context, deadline);
  }
  state_->Give(origin, *std::move(handle), outcome.status.ok() && !outcome.length_is_wrong);
  if (sent != nullptr) *sent = outcome.sent;
  if (!outcome.status.ok()) return outcome.status;
  return Ended{.length_is_wrong = outcome.length_is_wrong};
}

void Transport::Close() {
  if (state_->forked()) return;
  const SigpipeBlock block;
  std::vector<State::Idle> idle;
  const MutexLock lock(state_->mutex);
  state_->closed = true;
  idle.swap(state_->idle);
  for (CurlHandle* handle : state_->active) handle->Interrupt();
}

}  // namespace coord::http::internal
