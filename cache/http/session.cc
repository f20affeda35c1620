#include "cache/http/session.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "cache/http/internal/session_core.h"
#include "cache/redis_backend.h"
#include "cache/registry.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http {
namespace {

using coord::internal::InvalidArgument;
using coord::internal::StrCat;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      constexpr char kDigits[] = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

absl::StatusOr<std::string> UrlOf(const RedisAddress& redis) {
  if (redis.host.empty() || redis.port < 1 || redis.port > 65535 || redis.database < 0) {
    return InvalidArgument(
        "SessionOptions::redis needs a host, a port from 1 to 65535 and a database from 0");
  }
  const bool v6 = redis.host.find(':') != std::string::npos && redis.host.front() != '[';
  std::string who;
  if (!redis.user.empty() || !redis.password.empty()) {
    who = StrCat(Escaped(redis.user), ":", Escaped(redis.password), "@");
  }
  return StrCat(redis.tls ? "rediss://" : "redis://", who, v6 ? "[" : "", redis.host, v6 ? "]" : "",
                ":", redis.port, "/", redis.database);
}

// Where a person's caches go (XDG Base Directory Specification), made where it is not there.
absl::StatusOr<std::string> DiskUrl() {
  std::filesystem::path directory = Environment("XDG_CACHE_HOME");
  if (directory.empty() || directory.is_relative()) {
    const std::string home = Environment("HOME");
    if (home.empty()) {
      return InvalidArgument(
          "the backend \"disk\" needs $XDG_CACHE_HOME or $HOME; or give a URL, disk:///path");
    }
    directory = std::filesystem::path(home) / ".cache";
  }
  directory /= "coord";
  std::error_code error;
  if (std::filesystem::create_directories(directory, error); error) {
    return coord::internal::MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat("cannot make the directory ", directory.string(), ": ", error.message()));
  }
  // It holds what origins told this user.
  std::filesystem::permissions(directory, std::filesystem::perms::owner_all, error);
  return StrCat("disk://", directory.string(), "/http.db?max_bytes=1GiB");
}

absl::StatusOr<std::string> BackendUrl(const SessionOptions& options) {
  if (options.redis.has_value() && options.backend != "redis" && !options.backend.empty()) {
    return InvalidArgument("SessionOptions::redis goes with the backend \"redis\" alone");
  }
  if (options.redis.has_value()) return UrlOf(*options.redis);
  if (options.backend == "memory") return std::string("memory://?max_bytes=64MiB");
  if (options.backend == "embedded") return std::string("embedded://");
  if (options.backend == "disk") return DiskUrl();
  if (options.backend != "redis") return options.backend;
  std::string url = Environment("COORD_CACHE_URL");
  if (url.empty()) url = Environment("COORD_URL");
  return url.empty() ? std::string("redis://localhost:6379") : url;
}

}  // namespace

absl::StatusOr<Session> Session::Open(SessionOptions options) {
  // Before anything is connected.
  if (absl::Status valid = internal::CheckOptions(options); !valid.ok()) return valid;
  absl::StatusOr<std::string> url = BackendUrl(options);
  if (!url.ok()) return url.status();
  absl::StatusOr<std::shared_ptr<Backend>> backend = OpenBackend(*url, options.client);
  if (!backend.ok()) return backend.status();
  auto core = internal::SessionCore::Make(*std::move(backend), /*owned=*/true, std::move(options));
  if (!core.ok()) return core.status();
  return Session(*std::move(core));
}

absl::StatusOr<Session> Session::Over(std::shared_ptr<Backend> backend, SessionOptions options) {
  auto core = internal::SessionCore::Make(std::move(backend), /*owned=*/false, std::move(options));
  if (!core.ok()) return core.status();
  return Session(*std::move(core));
}

absl::StatusOr<Session> Session::Over(const Client& client, SessionOptions options) {
  return Over(std::make_shared<RedisBackend>(client), std::move(options));
}

absl::StatusOr<Response> Session::Send(std::string_view method, std::string_view url,
                                       const RequestOptions& options) const {
  return core_->Send(method, url, options, read_only_, disabled_);
}

absl::StatusOr<Response> Session::Get(std::string_view url, const RequestOptions& options) const {
  return Send("GET", url, options);
}

absl::StatusOr<Response> Session::Head(std::string_view url, const RequestOptions& options) const {
  return Send("HEAD", url, options);
}

absl::StatusOr<Response> Session::Options(std::string_view url,
                                          const RequestOptions& options) const {
  return Send("OPTIONS", url, options);
}

absl::StatusOr<Response> Session::Delete(std::string_view url,
                                         const RequestOptions& options) const {
  return Send("DELETE", url, options);
}

absl::StatusOr<Response> Session::Post(std::string_view url, std::string body,
                                       const RequestOptions& options) const {
  RequestOptions with_body = options;
  with_body.body = std::move(body);
  return Send("POST", url, with_body);
}

absl::StatusOr<Response> Session::Put(std::string_view url, std::string body,
                                      const RequestOptions& options) const {
  RequestOptions with_body = options;
  with_body.body = std::move(body);
  return Send("PUT", url, with_body);
}

absl::StatusOr<Response> Session::Patch(std::string_view url, std::string body,
                                        const RequestOptions& options) const {
  RequestOptions with_body = options;
  with_body.body = std::move(body);
  return Send("PATCH", url, with_body);
}

Session Session::ReadOnly() const {
  Session scope = *this;
  scope.read_only_ = true;
  return scope;
}

Session Session::Disabled() const {
  Session scope = *this;
  scope.disabled_ = true;
  return scope;
}

const ResponseCache& Session::cache() const { return core_->cache(); }

absl::StatusOr<std::string> Session::NormalizedUrl(std::string_view url) const {
  return core_->NormalizedUrl(url);
}

void Session::Close() const { core_->Close(); }

}  // namespace coord::http
