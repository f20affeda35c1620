#include "coord/wire/tls.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord::internal {
namespace {

// One record's worth, and what surrounds it.
constexpr std::size_t kPlainChunk = 16 * 1024;
constexpr std::size_t kCipherChunk = 17 * 1024;

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};

// The oldest reason that OpenSSL gives, which is the cause; the others are forgotten.
unsigned long TakeError() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  return error;
}

std::string TextOf(unsigned long error) {
  const char* reason = ERR_reason_error_string(error);
  return error == 0 ? "no reason given" : reason != nullptr ? reason : StrCat("error ", error);
}

bool IsAddress(const std::string& name) {
  std::array<unsigned char, sizeof(in6_addr)> ignored;
  return inet_pton(AF_INET, name.c_str(), ignored.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), ignored.data()) == 1;
}

// The server refuses us for who we are, or what we have shown.
bool IsRefusal(unsigned long error) {
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return false;
  switch (ERR_GET_REASON(error)) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
      return true;
    default:
      return false;
  }
}

absl::Status Refused(std::string_view peer, unsigned long error) {
  return MakeStatus(absl::StatusCode::kUnauthenticated,
                    StrCat(peer, " refuses our TLS certificate, or wants one: ", TextOf(error),
                           "; see cert_file and key_file"),
                    kUnavailable);
}

}  // namespace

struct TlsContext::State {
  std::unique_ptr<SSL_CTX, Free> context;
  TlsOptions options;
  Mutex mutex;
  // Of the connection before to each peer; with TLS 1.3 the newest ticket.
  std::map<std::string, std::unique_ptr<SSL_SESSION, Free>, std::less<>> sessions
      ABSL_GUARDED_BY(mutex);
  int resumed ABSL_GUARDED_BY(mutex) = 0;
};

namespace {

// Where a context keeps its State, for OpenSSL's callback.
int StateIndex() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

int KeepSession(SSL* ssl, SSL_SESSION* session) {
  auto* state =
      static_cast<TlsContext::State*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), StateIndex()));
  const auto* peer = static_cast<const std::string*>(SSL_get_app_data(ssl));
  MutexLock lock(state->mutex);
  state->sessions[*peer].reset(session);
  return 1;  // it is ours now
}

// An SSL object over memory, and the stream that carries what it says. The object is not
// thread-safe, so a lock is held around it, never around the system's calls: one thread may
// receive while another sends.
class TlsSocket final : public Socket {
 public:
  TlsSocket(std::shared_ptr<TlsContext::State> context, std::unique_ptr<SSL, Free> ssl,
            std::unique_ptr<Socket> stream, std::string_view host, std::string_view peer)
      : context_(std::move(context)),
        stream_(std::move(stream)),
        host_(host),
        peer_(peer),
        ssl_(std::move(ssl)),
        incoming_(BIO_new(BIO_s_mem())),
        outgoing_(BIO_new(BIO_s_mem())) {
    BIO_set_mem_eof_return(incoming_, -1);
    BIO_set_mem_eof_return(outgoing_, -1);
    SSL_set_bio(ssl_.get(), incoming_, outgoing_);
    SSL_set_connect_state(ssl_.get());
    SSL_set_app_data(ssl_.get(), const_cast<std::string*>(&peer_));  // for KeepSession
  }

  ~TlsSocket() override {
    // Streams end here without a goodbye, for which OpenSSL would spoil the session.
    SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }

  absl::Status Handshake(const CallLimits& limits, const TlsOptions& options) {
    const StopEvent stop(limits.stop);
    while (true) {
      int result;
      absl::Status failure;
      {
        MutexLock lock(mutex_);
        ERR_clear_error();
        result = SSL_do_handshake(ssl_.get());
        if (result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) {
          failure = HandshakeFailure(options);
        }
        TakeOutgoing();
      }
      if (!failure.ok()) {
        stream_->Send(std::string_view(cipher_).substr(cipher_at_));  // the alert: why
        return failure;
      }
      if (absl::Status status = Pump(POLLOUT, limits, stop); !status.ok()) return status;
      if (result == 1) {
        MutexLock lock(mutex_);
        if (SSL_session_reused(ssl_.get()) == 1) {
          MutexLock context_lock(context_->mutex);
          ++context_->resumed;
        }
        return absl::OkStatus();
      }
      if (absl::Status status = Pump(POLLIN, limits, stop); !status.ok()) return status;
    }
  }

  ssize_t Recv(std::span<char> into) override {
    while (true) {
      {
        MutexLock lock(mutex_);
        const ssize_t n = Decrypt(into);
        if (n != -EAGAIN) return n;
      }
      std::array<char, kCipherChunk> received;
      const ssize_t n = stream_->Recv(received);
      if (n <= 0) return n;
      MutexLock lock(mutex_);
      BIO_write(incoming_, received.data(), static_cast<int>(n));
    }
  }

  // Plain bytes count as sent when the whole record that holds them is with the kernel: of less the
  // server can make nothing. Until then the same bytes are offered again, and not encrypted again.
  ssize_t Send(std::string_view data) override {
    while (true) {
      if (cipher_at_ == cipher_.size()) {
        if (const std::size_t sent = std::exchange(accepted_, 0); sent != 0) {
          return static_cast<ssize_t>(sent);
        }
        const std::size_t size = std::min(data.size(), kPlainChunk);
        MutexLock lock(mutex_);
        ERR_clear_error();
        const int n = SSL_write(ssl_.get(), data.data(), static_cast<int>(size));
        if (n <= 0) {
          TakeError();
          return -EPIPE;
        }
        accepted_ = static_cast<std::size_t>(n);
        TakeOutgoing();
      }
      const ssize_t n = stream_->Send(std::string_view(cipher_).substr(cipher_at_));
      if (n < 0) {
        if (n != -EAGAIN) HearWhy();
        return n;
      }
      cipher_at_ += static_cast<std::size_t>(n);
    }
  }

  bool Pending() override {
    MutexLock lock(mutex_);
    return pending_;
  }
  absl::Status Failure() override {
    MutexLock lock(mutex_);
    return failure_;
  }
  void Shutdown() override { stream_->Shutdown(); }
  int fd() const override { return stream_->fd(); }
  bool PeerClosed() override { return stream_->PeerClosed(); }

 private:
  // Bytes read; 0 at the end, -EAGAIN when more must come first, -EPROTO with failure_.
  ssize_t Decrypt(std::span<char> into) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ERR_clear_error();
    const int n = SSL_read(ssl_.get(), into.data(),
                           static_cast<int>(std::min<std::size_t>(into.size(), 1 << 30)));
    pending_ = n > 0 && (SSL_has_pending(ssl_.get()) == 1 || BIO_pending(incoming_) > 0);
    if (n > 0) return n;
    const int error = SSL_get_error(ssl_.get(), n);
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    if (error == SSL_ERROR_WANT_READ) return -EAGAIN;
    const unsigned long reason = TakeError();
    failure_ = IsRefusal(reason)
                   ? Refused(peer_, reason)
                   : MakeStatus(absl::StatusCode::kUnavailable,
                                StrCat("TLS to ", peer_, " broke: ", TextOf(reason)), kUnavailable);
    return -EPROTO;
  }

  // The server takes no more. With TLS 1.3 a certificate is refused after the handshake, so what it
  // last said may tell; nobody else will read it, since the connection is given up.
  void HearWhy() {
    std::array<char, kCipherChunk> received;
    const ssize_t n = stream_->Recv(received);
    MutexLock lock(mutex_);
    if (n > 0) BIO_write(incoming_, received.data(), static_cast<int>(n));
    std::array<char, 1024> ignored;
    while (Decrypt(ignored) > 0) {
    }
  }

  // To be sent: what the object has to say, behind what it said before.
  void TakeOutgoing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (cipher_at_ == cipher_.size()) {
      cipher_.clear();
      cipher_at_ = 0;
    }
    const std::size_t more = BIO_ctrl_pending(outgoing_);
    const std::size_t before = cipher_.size();
    cipher_.resize(before + more);
    if (more > 0) BIO_read(outgoing_, cipher_.data() + before, static_cast<int>(more));
  }

  // Sends all there is (POLLOUT), or receives something (POLLIN).
  absl::Status Pump(short direction, const CallLimits& limits, const StopEvent& stop) {
    while (direction == POLLIN || cipher_at_ < cipher_.size()) {
      ssize_t n;
      if (direction == POLLOUT) {
        n = stream_->Send(std::string_view(cipher_).substr(cipher_at_));
        if (n > 0) cipher_at_ += static_cast<std::size_t>(n);
      } else {
        std::array<char, kCipherChunk> received;
        n = stream_->Recv(received);
        if (n > 0) {
          MutexLock lock(mutex_);
          BIO_write(incoming_, received.data(), static_cast<int>(n));
          return absl::OkStatus();
        }
      }
      if (n > 0) continue;
      if (n != -EAGAIN) {
        return MakeStatus(
            absl::StatusCode::kUnavailable,
            StrCat("TLS to ", peer_, ": ",
                   n == 0 ? "closed by the server while shaking hands; is it a TLS port?"
                          : std::strerror(static_cast<int>(-n))),
            kUnavailable);
      }
      if (absl::Status status = Await(direction, limits, stop); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Await(short direction, const CallLimits& limits, const StopEvent& stop) {
    pollfd fds[2] = {{fd(), direction, 0}, {stop.fd(), POLLIN, 0}};
    while (true) {
      int timeout = -1;
      if (limits.deadline != SteadyTime::max()) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            limits.deadline - std::chrono::steady_clock::now());
        timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30));
      }
      const int n = poll(fds, 2, timeout);
      if (n < 0 && errno == EINTR) continue;
      if (fds[1].revents != 0) {
        return MakeStatus(absl::StatusCode::kCancelled,
                          StrCat("stopped while shaking TLS hands with ", peer_));
      }
      if (n > 0) return absl::OkStatus();
      if (std::chrono::steady_clock::now() < limits.deadline) continue;
      return MakeStatus(absl::StatusCode::kUnavailable,
                        StrCat("TLS to ", peer_, ": no answer in time; is it a TLS port?"),
                        kUnavailable);
    }
  }

  absl::Status HandshakeFailure(const TlsOptions& options) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const unsigned long error = TakeError();
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified != X509_V_OK && !options.insecure) {
      return MakeStatus(
          absl::StatusCode::kUnauthenticated,
          StrCat("the certificate of ", peer_,
                 " is not trusted: ", X509_verify_cert_error_string(verified),
                 "; it must be valid for ", Quoted(host_), " and signed by ",
                 options.ca_file.empty() ? "one of the system's authorities (ca_file names another)"
                                         : Quoted(options.ca_file)),
          kUnavailable);
    }
    if (IsRefusal(error)) return Refused(peer_, error);
    const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    const bool no_tls = reason == SSL_R_WRONG_VERSION_NUMBER ||
                        reason == SSL_R_PACKET_LENGTH_TOO_LONG || reason == SSL_R_HTTP_REQUEST;
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat("TLS to ", peer_, ": ", TextOf(error),
               no_tls ? "; it does not speak TLS there: redis:// is for plain ports" : ""),
        kUnavailable);
  }

  const std::shared_ptr<TlsContext::State> context_;  // outlives ssl_, which calls back
  const std::unique_ptr<Socket> stream_;
  const std::string host_;  // whom the certificate must be for
  const std::string peer_;

  Mutex mutex_;
  const std::unique_ptr<SSL, Free> ssl_ ABSL_PT_GUARDED_BY(mutex_);
  BIO* const incoming_;  // ssl_'s
  BIO* const outgoing_;
  bool pending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);

  // The sender's alone.
  std::string cipher_;
  std::size_t cipher_at_ = 0;
  std::size_t accepted_ = 0;  // how many plain bytes cipher_ holds
};

}  // namespace

TlsContext::TlsContext(std::shared_ptr<State> state) : state_(std::move(state)) {}
TlsContext::~TlsContext() = default;

int TlsContext::resumed() const {
  MutexLock lock(state_->mutex);
  return state_->resumed;
}

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::Make(const TlsOptions& options) {
  ERR_clear_error();
  auto state = std::make_shared<State>();
  state->options = options;
  state->context.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const context = state->context.get();
  if (context == nullptr) {
    return MakeStatus(absl::StatusCode::kInternal, StrCat("OpenSSL: ", TextOf(TakeError())));
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(context, options.insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  const auto bad_file = [](std::string_view option, const std::string& path,
                           std::string_view what) {
    return InvalidArgument(StrCat(option, " ", Quoted(path), " ", what, ": ", TextOf(TakeError())));
  };
  if (!options.ca_file.empty()) {
    if (SSL_CTX_load_verify_file(context, options.ca_file.c_str()) != 1) {
      return bad_file("ca_file", options.ca_file, "cannot be read as PEM certificates");
    }
  } else if (!options.insecure && SSL_CTX_set_default_verify_paths(context) != 1) {
    return bad_file("ca_file", "", "is not given and the system has none");
  }
  if (options.cert_file.empty() != options.key_file.empty()) {
    return InvalidArgument("cert_file and key_file are given together or not at all");
  }
  if (!options.cert_file.empty()) {
    if (SSL_CTX_use_certificate_chain_file(context, options.cert_file.c_str()) != 1) {
      return bad_file("cert_file", options.cert_file, "cannot be read as PEM certificates");
    }
    if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
      return bad_file("key_file", options.key_file, "cannot be read as a PEM key");
    }
    if (SSL_CTX_check_private_key(context) != 1) {
      return bad_file("key_file", options.key_file, "does not belong to cert_file");
    }
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
  SSL_CTX_set_ex_data(context, StateIndex(), state.get());
  SSL_CTX_sess_set_new_cb(context, KeepSession);
  return std::shared_ptr<TlsContext>(new TlsContext(std::move(state)));
}

absl::StatusOr<std::unique_ptr<Socket>> TlsContext::Secure(std::unique_ptr<Socket> plain,
                                                           std::string_view host,
                                                           std::string_view peer,
                                                           const CallLimits& limits) {
  ERR_clear_error();
  std::unique_ptr<SSL, Free> ssl(SSL_new(state_->context.get()));
  if (ssl == nullptr) {
    return MakeStatus(absl::StatusCode::kInternal, StrCat("OpenSSL: ", TextOf(TakeError())));
  }
  const std::string& fixed = state_->options.server_name;
  const std::string name = fixed.empty() ? std::string(host) : fixed;
  if (IsAddress(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), name.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl.get(), name.c_str());
    SSL_set_hostflags(ssl.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set1_host(ssl.get(), name.c_str());
  }
  {
    MutexLock lock(state_->mutex);
    const auto known = state_->sessions.find(peer);
    if (known != state_->sessions.end()) SSL_set_session(ssl.get(), known->second.get());
  }
  auto socket = std::make_unique<TlsSocket>(state_, std::move(ssl), std::move(plain), name, peer);
  if (absl::Status status = socket->Handshake(limits, state_->options); !status.ok()) {
    // It may have been the session's fault.
    MutexLock lock(state_->mutex);
    const auto known = state_->sessions.find(peer);
    if (known != state_->sessions.end()) state_->sessions.erase(known);
    return status;
  }
  return socket;
}

}  // namespace coord::internal
