#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "coord/deployment/url.h"
#include "coord/deployment/url_scheme.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

bool IsUnreserved(unsigned char c) {
  return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

std::string Encode(std::string_view text, std::string_view kept = "") {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (IsUnreserved(byte) || kept.find(c) != std::string_view::npos) {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kDigits[byte / 16]);
      out.push_back(kDigits[byte % 16]);
    }
  }
  return out;
}

std::string HostsText(const Url& url) {
  std::string out;
  for (const HostPort& host : url.hosts) {
    if (!out.empty()) out.push_back(',');
    const bool ipv6 = host.host.find(':') != std::string::npos;
    out += ipv6 ? StrCat("[", Encode(host.host, ":"), "]") : host.host;
    if (host.port != DefaultPort(url.scheme)) out += StrCat(":", host.port);
  }
  return out;
}

}  // namespace

std::string Url::Redacted() const {
  constexpr std::string_view kHidden = "***";
  const bool db_in_path = scheme != Scheme::kUnix && scheme != Scheme::kEmbedded;
  std::string out;
  for (const SchemeName& known : kSchemes) {
    if (known.scheme == scheme && known.tls == tls) out = StrCat(known.name, "://");
  }
  if (!user.empty() || !password.empty()) {
    out += StrCat(Encode(user), ":", password.empty() ? "" : kHidden, "@");
  }
  out += HostsText(*this);
  out += Encode(path, "/");
  if (scheme == Scheme::kSentinel) out += StrCat("/", Encode(sentinel_master));
  if (db_in_path && db != 0) out += StrCat("/", db);

  char separator = '?';
  const auto add = [&](std::string_view option) {
    out.push_back(std::exchange(separator, '&'));
    out += option;
  };
  const auto add_text = [&](std::string_view name, std::string_view value) {
    add(StrCat(name, "=", Encode(value, "/:")));
  };
  if (embedded_private) add("private");
  if (!db_in_path && db != 0) add(StrCat("db=", db));
  if (timeout) add_text("timeout", ToText(*timeout));
  if (connect_timeout) add_text("connect_timeout", ToText(*connect_timeout));
  if (client_name) add_text("client_name", *client_name);
  if (prefix) add_text("prefix", *prefix);
  if (!ca_file.empty()) add_text("ca_file", ca_file);
  if (!cert_file.empty()) add_text("cert_file", cert_file);
  if (!key_file.empty()) add_text("key_file", key_file);
  if (!server_name.empty()) add_text("server_name", server_name);
  if (insecure) add("insecure=true");
  if (!sentinel_user.empty()) add_text("sentinel_user", sentinel_user);
  if (!sentinel_password.empty()) add(StrCat("sentinel_password=", kHidden));
  return out;
}

}  // namespace coord::internal
