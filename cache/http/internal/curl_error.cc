#include "cache/http/internal/curl_error.h"

#include <curl/curl.h>

#include <string>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::MakeStatus;
using coord::internal::StrCat;

// CURLE_TOO_LARGE, which older headers do not have.
constexpr int kTooLarge = 100;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// libcurl quotes what an origin sent.
std::string Printable(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (c < 0x20 || c == 0x7f) c = '?';
  }
  return printable;
}

// Whether a handshake failed by what the peer is, and not by a connection that broke.
bool IsLasting(std::string_view detail) {
  return Contains(detail, "error:") && !Contains(detail, "unexpected eof");
}

struct Meaning {
  absl::StatusCode code;
  std::string_view text;
};

Meaning MeaningOf(int code, Phase phase, std::string_view detail) {
  using absl::StatusCode;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return {StatusCode::kUnavailable, "could not look up the host"};
    case CURLE_COULDNT_RESOLVE_PROXY:
      return {StatusCode::kUnavailable, "could not look up the proxy"};
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
      return {StatusCode::kUnavailable, "could not connect"};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return {StatusCode::kFailedPrecondition, "the peer's certificate was refused"};
    case CURLE_SSL_CACERT_BADFILE:
      return {StatusCode::kFailedPrecondition, "the authorities' file cannot be used"};
    case CURLE_SSL_CERTPROBLEM:
      return {StatusCode::kFailedPrecondition, "the client's certificate or key cannot be used"};
    case CURLE_SSL_CIPHER:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
      return {StatusCode::kFailedPrecondition, "TLS failed"};
    case CURLE_SSL_CONNECT_ERROR:
      return {IsLasting(detail) ? StatusCode::kFailedPrecondition : StatusCode::kUnavailable,
              "TLS could not be set up"};
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED:  // a URL with a user in it
      return {StatusCode::kInvalidArgument, "not a URL that can be asked"};
    case CURLE_UNSUPPORTED_PROTOCOL:
      if (phase == Phase::kConnecting) {
        return {StatusCode::kInvalidArgument, "not a URL that can be asked"};
      }
      return {StatusCode::kUnavailable, "the answer is not HTTP"};
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
      return {StatusCode::kUnavailable, "the answer is not HTTP"};
    case kTooLarge:
      return {StatusCode::kResourceExhausted, "the header fields are too large"};
    case CURLE_OUT_OF_MEMORY:
      // What older versions say of a header line above 100 KiB.
      if (phase == Phase::kWaiting) {
        return {StatusCode::kResourceExhausted, "the header fields are too large"};
      }
      return {StatusCode::kResourceExhausted, "out of memory"};
    case CURLE_PARTIAL_FILE:
      return {StatusCode::kUnavailable, "the body ended early"};
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WRITE_ERROR:  // the receiver's own errors do not come here
      return {StatusCode::kUnavailable, "the body could not be decoded"};
    case CURLE_GOT_NOTHING:
      return {StatusCode::kUnavailable, "the connection ended without an answer"};
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      if (Contains(detail, "Too large response headers")) {
        return {StatusCode::kResourceExhausted, "the header fields are too large"};
      }
      // With TLS 1.3 a peer says only now that it wants another certificate of the client.
      if (phase != Phase::kReceiving && Contains(detail, "alert") && IsLasting(detail)) {
        return {StatusCode::kFailedPrecondition, "TLS was refused"};
      }
      if (phase == Phase::kConnecting) return {StatusCode::kUnavailable, "could not connect"};
      return {StatusCode::kUnavailable, "the connection broke"};
    default:
      return {StatusCode::kUnavailable, "the exchange failed"};
  }
}

}  // namespace

absl::Status CurlError(int code, Phase phase, std::string_view detail, std::string_view context) {
  if (code == CURLE_OPERATION_TIMEDOUT) return TimedOut(phase, context);
  const Meaning meaning = MeaningOf(code, phase, detail);
  const std::string why = Printable(
      detail.empty() ? std::string_view(curl_easy_strerror(static_cast<CURLcode>(code))) : detail);
  return MakeStatus(
      meaning.code, StrCat(context, ": ", meaning.text, ": ", why),
      meaning.code == absl::StatusCode::kUnavailable ? coord::internal::kUnavailable : 0u);
}

absl::Status TimedOut(Phase phase, std::string_view context) {
  const std::string_view doing = phase == Phase::kConnecting ? "while connecting"
                                 : phase == Phase::kWaiting  ? "while waiting for the response"
                                                             : "while receiving the body";
  return MakeStatus(absl::StatusCode::kDeadlineExceeded, StrCat(context, ": out of time ", doing));
}

}  // namespace coord::http::internal
