#include "cache/http/internal/curl_handle.h"

#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <string_view>

#include "cache/http/internal/curl_head.h"
#include "cache/http/internal/storing.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::MakeStatus;
using coord::internal::SteadyTime;
using coord::internal::StrCat;

// Header lines of a request, as libcurl takes them.
class Lines {
 public:
  Lines() = default;
  ~Lines() { curl_slist_free_all(list_); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  bool Add(const std::string& line) {
    curl_slist* const longer = curl_slist_append(list_, line.c_str());
    if (longer != nullptr) list_ = longer;
    return longer != nullptr;
  }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

bool IsOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view one) { return SameFieldName(one, name); });
}

bool SaysExcess(std::string_view text) {
  constexpr std::string_view kWords = "excess found";
  return std::search(text.begin(), text.end(), kWords.begin(), kWords.end(), [](char a, char b) {
           return std::tolower(static_cast<unsigned char>(a)) == b;
         }) != text.end();
}

long Milliseconds(absl::Duration duration) {
  return static_cast<long>(std::max<std::int64_t>(
      1, absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1)))));
}

// Header lines of the request; those that the transfer writes by itself are left out.
bool Fill(Lines& lines, const Outgoing& request) {
  bool has_type = false;
  for (const auto& [name, value] : *request.headers) {
    if (IsOneOf(name, {"Content-Length", "Transfer-Encoding", "Expect"})) continue;
    has_type = has_type || SameFieldName(name, "Content-Type");
    const bool blank = value.find_first_not_of(" \t") == std::string::npos;
    if (!lines.Add(blank ? StrCat(name, ";") : StrCat(name, ": ", value))) return false;
  }
  // Neither the wait for "100 Continue" nor the claim that every body is a form.
  return lines.Add("Expect:") && (has_type || lines.Add("Content-Type:"));
}

}  // namespace

struct CurlHandle::Exchange {
  Exchange(const Outgoing& request_in, Receiver& receiver_in, std::size_t max_header_bytes)
      : request(request_in),
        receiver(receiver_in),
        url(request_in.url),
        method(request_in.method),
        head(max_header_bytes) {}

  Phase phase() const {
    return head_told ? Phase::kReceiving : attempts > 0 ? Phase::kWaiting : Phase::kConnecting;
  }

  const Outgoing& request;
  Receiver& receiver;
  const std::string url, method;
  Lines lines;
  CURL* easy = nullptr;
  CurlHead head;
  bool decodes = false;
  int attempts = 0;  // how often a request was about to be sent
  bool head_told = false;
  bool excess = false, lengths_conflict = false;
  absl::Status told;  // by the receiver, or by us, where it is not OK
  bool headers_too_large = false;
  char detail[CURL_ERROR_SIZE] = "";
};

// Called by libcurl, on the thread that is in Run.
struct CurlHandle::Callbacks {
  static std::size_t OnHeader(char* data, std::size_t one, std::size_t size, void* self) {
    Exchange& exchange = *static_cast<Exchange*>(self);
    const std::string_view line(data, one * size);
    if (exchange.head_told) return line.size();  // trailers
    if (!exchange.head.AddLine(line)) {
      exchange.headers_too_large = true;
      return 0;
    }
    if (!exchange.head.complete()) return line.size();
    long status = 0;
    curl_easy_getinfo(exchange.easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200) return line.size();
    exchange.head_told = true;
    exchange.lengths_conflict = exchange.head.lengths_conflict();
    const bool decoded = exchange.decodes && exchange.head.is_encoded();
    exchange.told =
        exchange.receiver.OnHead(static_cast<int>(status), decoded ? exchange.head.decoded_headers()
                                                                   : exchange.head.headers());
    return exchange.told.ok() ? line.size() : 0;
  }

  static std::size_t OnBody(char* data, std::size_t one, std::size_t size, void* self) {
    Exchange& exchange = *static_cast<Exchange*>(self);
    const std::string_view piece(data, one * size);
    if (!exchange.told.ok() || !exchange.head_told) return CURL_WRITEFUNC_ERROR;
    if (piece.empty()) return 0;
    exchange.told = exchange.receiver.OnBody(piece);
    return exchange.told.ok() ? piece.size() : CURL_WRITEFUNC_ERROR;
  }

  static int OnText(CURL*, curl_infotype type, char* data, std::size_t size, void* self) {
    if (type == CURLINFO_TEXT && SaysExcess({data, size})) {
      static_cast<Exchange*>(self)->excess = true;
    }
    return 0;
  }

  // Before each request on a connection that stands. libcurl repeats a request by itself when a
  // connection that was used before turns out to be closed.
  static int BeforeRequest(void* self, char*, char*, int, int) {
    Exchange& exchange = *static_cast<Exchange*>(self);
    ++exchange.attempts;
    return exchange.attempts > 1 && !IsIdempotent(exchange.method) ? CURL_PREREQFUNC_ABORT
                                                                   : CURL_PREREQFUNC_OK;
  }

  // Not for programs that this one starts.
  static curl_socket_t OpenSocket(void*, curlsocktype, curl_sockaddr* address) {
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }
};

std::unique_ptr<CurlHandle> CurlHandle::Make() {
  CURL* const easy = curl_easy_init();
  CURLM* const multi = curl_multi_init();
  std::unique_ptr<CurlHandle> handle(new CurlHandle(easy, multi));
  if (easy == nullptr || multi == nullptr) return nullptr;
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1L);
  return handle;
}

CurlHandle::~CurlHandle() {
  curl_easy_cleanup(easy_);
  curl_multi_cleanup(multi_);
}

bool CurlHandle::quiet() const {
  pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
  return socket_ < 0 || ::poll(&waiting, 1, 0) == 0;
}

void CurlHandle::Interrupt() {
  interrupted_.store(true);
  curl_multi_wakeup(multi_);
}

bool CurlHandle::SetUp(const TransportOptions& options, Exchange& exchange, absl::Duration left) {
  curl_easy_reset(easy_);
  exchange.easy = easy_;
  bool ok = Fill(exchange.lines, exchange.request);
  const auto set = [&](CURLoption option, auto value) {
    ok = curl_easy_setopt(easy_, option, value) == CURLE_OK && ok;
  };
  const auto set_text = [&](CURLoption option, const std::string& text) {
    if (!text.empty()) set(option, text.c_str());
  };
  set(CURLOPT_ERRORBUFFER, exchange.detail);
  set(CURLOPT_NOSIGNAL, 1L);
  // A look-up that is under way does not keep an exchange that was ended.
  set(CURLOPT_QUICK_EXIT, 1L);
  set(CURLOPT_OPENSOCKETFUNCTION, &Callbacks::OpenSocket);
  set(CURLOPT_URL, exchange.url.c_str());
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_TIMEOUT_MS, Milliseconds(left));
  set(CURLOPT_CONNECTTIMEOUT_MS, Milliseconds(std::min(left, options.connect_timeout)));

  const std::string_view body = exchange.request.body;
  if (exchange.method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  } else if (!body.empty() || exchange.method == "POST" || exchange.method == "PUT" ||
             exchange.method == "PATCH") {
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(CURLOPT_POSTFIELDS, body.empty() ? "" : body.data());
    set(CURLOPT_CUSTOMREQUEST, exchange.method.c_str());
  } else {
    set(CURLOPT_HTTPGET, 1L);
    set(CURLOPT_CUSTOMREQUEST, exchange.method.c_str());
  }
  set(CURLOPT_HTTPHEADER, exchange.lines.get());
  set_text(CURLOPT_USERAGENT,
           options.user_agent.empty() ? std::string("coord/" COORD_VERSION) : options.user_agent);
  exchange.decodes = options.decompress && !exchange.request.headers->Has("Accept-Encoding");
  if (exchange.decodes) set(CURLOPT_ACCEPT_ENCODING, "");

  set(CURLOPT_HEADERFUNCTION, &Callbacks::OnHeader);
  set(CURLOPT_HEADERDATA, &exchange);
  set(CURLOPT_WRITEFUNCTION, &Callbacks::OnBody);
  set(CURLOPT_WRITEDATA, &exchange);
  set(CURLOPT_PREREQFUNCTION, &Callbacks::BeforeRequest);
  set(CURLOPT_PREREQDATA, &exchange);
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  // There is no other way to learn of bytes beyond the length.
  set(CURLOPT_VERBOSE, 1L);
  set(CURLOPT_DEBUGFUNCTION, &Callbacks::OnText);
  set(CURLOPT_DEBUGDATA, &exchange);

  const long verify = options.insecure ? 0L : 1L;
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_PROXY_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_SSL_VERIFYPEER, verify);
  set(CURLOPT_SSL_VERIFYHOST, 2 * verify);
  set(CURLOPT_PROXY_SSL_VERIFYPEER, verify);
  set(CURLOPT_PROXY_SSL_VERIFYHOST, 2 * verify);
  if (!options.ca_file.empty()) {
    set_text(CURLOPT_CAINFO, options.ca_file);
    set_text(CURLOPT_PROXY_CAINFO, options.ca_file);
    // The system's directory would be asked, too.
    set(CURLOPT_CAPATH, static_cast<char*>(nullptr));
    set(CURLOPT_PROXY_CAPATH, static_cast<char*>(nullptr));
  }
  set_text(CURLOPT_SSLCERT, options.cert_file);
  set_text(CURLOPT_SSLKEY, options.key_file);
  if (options.proxy == "none" || !options.unix_socket.empty()) {
    set(CURLOPT_NOPROXY, "*");
  } else {
    set_text(CURLOPT_PROXY, options.proxy);
  }
  set_text(CURLOPT_UNIX_SOCKET_PATH, options.unix_socket);
  return ok;
}

// The transfer's CURLcode, or nothing: it was interrupted, or the deadline passed.
std::optional<int> CurlHandle::Drive(SteadyTime deadline) {
  while (true) {
    int running = 0;
    if (curl_multi_perform(multi_, &running) != CURLM_OK) return CURLE_OUT_OF_MEMORY;
    int more = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &more)) {
      if (message->msg == CURLMSG_DONE) return message->data.result;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (interrupted_.load() || left.count() <= 0) return std::nullopt;
    // Wakes earlier for timers of libcurl's own, and for an interrupt.
    curl_multi_poll(multi_, nullptr, 0, static_cast<int>(left.count()), nullptr);
  }
}

CurlHandle::Outcome CurlHandle::Run(const TransportOptions& options, const Outgoing& request,
                                    Receiver& receiver, const std::string& context,
                                    SteadyTime deadline) {
  const absl::Duration left = absl::FromChrono(deadline - std::chrono::steady_clock::now());
  if (left <= absl::ZeroDuration()) return {.status = TimedOut(Phase::kConnecting, context)};
  Exchange exchange(request, receiver, options.max_header_bytes);
  if (!SetUp(options, exchange, left)) {
    return {.status = MakeStatus(absl::StatusCode::kFailedPrecondition,
                                 StrCat(context, ": libcurl cannot do what the options say"))};
  }
  std::optional<int> code = CURLE_OUT_OF_MEMORY;
  if (curl_multi_add_handle(multi_, easy_) == CURLM_OK) {
    code = Drive(deadline);
    curl_socket_t socket = CURL_SOCKET_BAD;
    curl_easy_getinfo(easy_, CURLINFO_ACTIVESOCKET, &socket);
    socket_ = socket == CURL_SOCKET_BAD ? -1 : socket;
    // Of a transfer that has not ended, this closes the connection.
    curl_multi_remove_handle(multi_, easy_);
  }
  // What it points to ends with this call.
  curl_easy_reset(easy_);

  Outcome outcome{.status = exchange.told,
                  .sent = exchange.attempts > 0,
                  .length_is_wrong = exchange.excess || exchange.lengths_conflict};
  if (!exchange.told.ok()) return outcome;
  if (!code.has_value()) {
    outcome.status = interrupted_.load() ? MakeStatus(absl::StatusCode::kCancelled,
                                                      StrCat(context, ": was ended by its caller"))
                                         : TimedOut(exchange.phase(), context);
  } else if (exchange.headers_too_large) {
    outcome.status = MakeStatus(
        absl::StatusCode::kResourceExhausted,
        StrCat(context, ": the header fields take more than ", options.max_header_bytes, " bytes"));
  } else if (*code == CURLE_ABORTED_BY_CALLBACK) {
    outcome.status = CurlError(CURLE_RECV_ERROR, Phase::kWaiting,
                               "closed before an answer, which is not repeated", context);
  } else if (*code != CURLE_OK) {
    outcome.status = CurlError(*code, exchange.phase(), exchange.detail, context);
  } else if (!exchange.head_told) {
    outcome.status = CurlError(CURLE_WEIRD_SERVER_REPLY, Phase::kWaiting,
                               "there was no final response", context);
  }
  return outcome;
}

absl::Status CheckCurl(const TransportOptions& options) {
  const auto refused = [](std::string_view why) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition, StrCat("libcurl ", why));
  };
  static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialized != CURLE_OK) return refused("cannot be initialized");
  const curl_version_info_data& version = *curl_version_info(CURLVERSION_NOW);
  if (version.version_num < 0x075700) return refused("is older than 7.87");
  if ((version.features & CURL_VERSION_SSL) == 0) return refused("has no TLS");
  if (!options.unix_socket.empty() && (version.features & CURL_VERSION_UNIX_SOCKETS) == 0) {
    return refused("has no unix sockets");
  }
  if (options.proxy.empty() || options.proxy == "none") return absl::OkStatus();
  constexpr std::array<std::string_view, 6> kSchemes = {"http://",    "https://",  "socks4://",
                                                        "socks4a://", "socks5://", "socks5h://"};
  CURLU* const parsed = curl_url();
  const bool ok =
      std::any_of(kSchemes.begin(), kSchemes.end(),
                  [&](std::string_view scheme) { return options.proxy.starts_with(scheme); }) &&
      parsed != nullptr &&
      curl_url_set(parsed, CURLUPART_URL, options.proxy.c_str(), CURLU_NON_SUPPORT_SCHEME) ==
          CURLUE_OK;
  curl_url_cleanup(parsed);
  if (!ok) {
    return coord::internal::InvalidArgument(
        "transport.proxy must be \"none\" or a URL of http, https, socks4, socks4a, socks5 or "
        "socks5h");
  }
  return absl::OkStatus();
}

SigpipeBlock::SigpipeBlock() {
  sigset_t pipe, before, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  if (sigpending(&pending) == 0) was_pending_ = sigismember(&pending, SIGPIPE) == 1;
  if (pthread_sigmask(SIG_BLOCK, &pipe, &before) == 0) {
    was_blocked_ = sigismember(&before, SIGPIPE) == 1;
  }
}

SigpipeBlock::~SigpipeBlock() {
  sigset_t pipe, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  if (!was_pending_ && sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1) {
    const timespec none{};
    while (sigtimedwait(&pipe, nullptr, &none) < 0 && errno == EINTR) {
    }
  }
  if (!was_blocked_) pthread_sigmask(SIG_UNBLOCK, &pipe, nullptr);
}

}  // namespace coord::http::internal
