#include "coord/deployment/url.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "coord/deployment/url_scheme.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kMaxPrefix = 256;
constexpr std::size_t kMaxHost = 253;  // of a DNS name
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr absl::Duration kMaxTimeout = absl::Hours(24);

constexpr std::string_view kSchemeList =
    "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster, embedded";
constexpr std::string_view kEscapeHint =
    "; in a user or password, write '/', '?', '#' and '%' as %2F, %3F, %23 and %25";

bool AllOf(std::string_view text, bool (*is)(unsigned char)) {
  return std::all_of(text.begin(), text.end(),
                     [is](char c) { return is(static_cast<unsigned char>(c)); });
}
bool IsDigit(unsigned char c) { return c >= '0' && c <= '9'; }
bool IsControl(unsigned char c) { return c < 0x20 || c == 0x7f; }
bool IsVisibleAscii(unsigned char c) { return c > 0x20 && c < 0x7f; }
bool IsHostCharacter(unsigned char c) {
  return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
}
bool IsIpv6Character(unsigned char c) { return absl::ascii_isxdigit(c) || c == ':' || c == '.'; }

// What stands before and after the first `mark`; nothing after it when there is none.
std::pair<std::string_view, std::optional<std::string_view>> Cut(std::string_view text, char mark) {
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) return {text, std::nullopt};
  return {text.substr(0, at), text.substr(at + 1)};
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// One URL on its way through. Every piece it handles is a view into `text_`, so that Shown() can
// see from a piece's place whether it may be part of a password.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  absl::StatusOr<Url> Parse() {
    if (absl::Status status = Divide(); !status.ok()) return status;
    if (absl::Status status = ReadAuthority(); !status.ok()) return status;
    if (absl::Status status = ReadPath(); !status.ok()) return status;
    if (absl::Status status = ReadQuery(); !status.ok()) return status;
    return std::move(url_);
  }

 private:
  // Finds scheme, authority, path and query.
  absl::Status Divide() {
    if (std::any_of(text_.begin(), text_.end(),
                    [](char c) { return IsControl(static_cast<unsigned char>(c)); })) {
      return InvalidArgument("the URL contains a control character (NUL, line end, ...)");
    }
    const std::size_t colon = text_.find("://");
    const std::string_view scheme = text_.substr(0, std::min(colon, text_.size()));
    const bool is_scheme = AllOf(scheme, [](unsigned char c) {
      return absl::ascii_isalnum(c) || c == '+' || c == '-' || c == '.';
    });
    if (colon == std::string_view::npos || colon == 0 || !is_scheme) {
      // What stands here may be "user:password@host": it is shown only when it cannot.
      const bool plain = text_.find_first_of(":@?=/") == std::string_view::npos;
      return InvalidArgument(StrCat("the URL", plain ? StrCat(" ", Quoted(text_)) : std::string(),
                                    " has no scheme before \"://\": one of ", kSchemeList));
    }
    const std::string lower = absl::AsciiStrToLower(ToAbsl(scheme));
    const auto* const known = std::find_if(kSchemes.begin(), kSchemes.end(),
                                           [&](const SchemeName& s) { return s.name == lower; });
    if (known == kSchemes.end()) {
      return InvalidArgument(
          StrCat("unknown scheme ", Quoted(scheme), " of the URL: one of ", kSchemeList));
    }
    url_.scheme = known->scheme;
    url_.tls = known->tls;
    scheme_ = known->name;

    const std::string_view rest = text_.substr(colon + 3);
    if (rest.find('#') != std::string_view::npos) {
      return InvalidArgument(
          "the URL has a '#', and a fragment means nothing here: write %23 for the character");
    }
    const std::size_t last_at = rest.rfind('@');
    if (last_at != std::string_view::npos) secrets_end_ = colon + 3 + last_at + 1;
    const auto [front, query] = Cut(rest, '?');
    query_ = query;
    const std::size_t slash = std::min(front.find('/'), front.size());
    authority_ = front.substr(0, slash);
    path_ = front.substr(slash);
    return absl::OkStatus();
  }

  absl::Status ReadAuthority() {
    std::string_view hosts = authority_;
    // The last '@', as browsers have it: what is left of an unescaped '@' in a password is not
    // taken for a host.
    const std::size_t at = authority_.rfind('@');
    if (at != std::string_view::npos) {
      hosts = authority_.substr(at + 1);
      if (absl::Status status = ReadUserInfo(authority_.substr(0, at)); !status.ok()) return status;
    }
    if (url_.scheme == Url::Scheme::kUnix || url_.scheme == Url::Scheme::kEmbedded) {
      if (hosts.empty()) return absl::OkStatus();
      return InvalidArgument(StrCat("the path", ShownInAuthority(hosts), " of the ", scheme_,
                                    " URL must be absolute, so three slashes: ", scheme_,
                                    ":///path"));
    }
    std::optional<std::string_view> left = hosts;
    while (left) {
      const auto [host, more] = Cut(*left, ',');
      if (more && url_.scheme == Url::Scheme::kTcp) {
        return InvalidArgument(StrCat("a ", scheme_, " URL has one host; several are for ", scheme_,
                                      "+sentinel and ", scheme_, "+cluster"));
      }
      if (absl::Status status = ReadHost(host); !status.ok()) return status;
      left = more;
    }
    return absl::OkStatus();
  }

  absl::Status ReadUserInfo(std::string_view info) {
    if (url_.scheme == Url::Scheme::kEmbedded) {
      return InvalidArgument(
          "an embedded URL has no user, password or host: only this user can reach the server");
    }
    const auto [user, password] = Cut(info, ':');
    if (!password) {
      if (url_.scheme == Url::Scheme::kSentinel && !user.empty()) {
        return Decode(user, "name of the master", url_.sentinel_master);
      }
      return InvalidArgument(
          "what stands before the '@' in the URL must be user:password or :password");
    }
    if (absl::Status status = Decode(user, "user", url_.user); !status.ok()) return status;
    return Decode(*password, "password", url_.password);
  }

  absl::Status ReadHost(std::string_view text) {
    HostPort result{.host = {}, .port = DefaultPort(url_.scheme)};
    std::optional<std::string_view> port;
    if (absl::Status status = text.starts_with('[') ? ReadIpv6(text, result.host, port)
                                                    : ReadHostName(text, result.host, port);
        !status.ok()) {
      return status;
    }
    if (port) {
      if (absl::Status status = ReadPort(*port, result.port); !status.ok()) return status;
    }
    url_.hosts.push_back(std::move(result));
    return absl::OkStatus();
  }

  // "[address]:port" or "[address%25zone]:port" (RFC 6874).
  absl::Status ReadIpv6(std::string_view text, std::string& host,
                        std::optional<std::string_view>& port) {
    const std::size_t end = text.find(']');
    const std::string_view inside = text.substr(1, std::min(end, text.size()) - 1);
    const auto [address, escaped_zone] = Cut(inside, '%');
    in6_addr ignored;
    if (end == std::string_view::npos || !AllOf(address, IsIpv6Character) ||
        inet_pton(AF_INET6, std::string(address).c_str(), &ignored) != 1) {
      const bool plain = AllOf(inside, IsIpv6Character);
      return InvalidArgument(StrCat("what stands in brackets in the URL",
                                    plain ? ShownInAuthority(inside) : "", " is no IPv6 address"));
    }
    host = address;
    if (escaped_zone) {
      const std::string_view zone = escaped_zone->starts_with("25") ? escaped_zone->substr(2) : "";
      if (zone.empty() || !AllOf(zone, IsHostCharacter)) {
        return InvalidArgument(
            "the zone of an IPv6 address in the URL must follow a %25 and be of letters, digits, "
            "'-', '.' and '_'");
      }
      host += StrCat("%", zone);
    }
    const std::string_view after = text.substr(end + 1);
    if (after.empty()) return absl::OkStatus();
    if (after.front() != ':') {
      return InvalidArgument("after the ']' of a host in the URL only :port may follow");
    }
    port = after.substr(1);
    return absl::OkStatus();
  }

  absl::Status ReadHostName(std::string_view text, std::string& host,
                            std::optional<std::string_view>& port) {
    const auto [name, tail] = Cut(text, ':');
    if (tail && tail->find(':') != std::string_view::npos) {
      return InvalidArgument(
          "a host in the URL has more than one ':': write an IPv6 address in brackets, and a "
          "password before the host, user:password@host");
    }
    if (name.empty()) return InvalidArgument("a host in the URL is empty");
    if (name.size() > kMaxHost || !AllOf(name, IsHostCharacter)) {
      return InvalidArgument(StrCat("the host", ShownInAuthority(name),
                                    " in the URL must be at most ", kMaxHost,
                                    " letters, digits, '-', '.' and '_'"));
    }
    host = name;
    port = tail;
    return absl::OkStatus();
  }

  absl::Status ReadPort(std::string_view text, std::uint16_t& port) {
    const bool digits = AllOf(text, IsDigit);
    const std::optional<std::int64_t> number = digits ? ParseInt64(text) : std::nullopt;
    if (!number || *number < 1 || *number > 65535) {
      // "redis://user:password", the host forgotten: shown only when it looks like a port.
      return InvalidArgument(StrCat("the port", digits && text.size() <= 5 ? Shown(text) : "",
                                    " in the URL must be a number from 1 to 65535", kEscapeHint));
    }
    port = static_cast<std::uint16_t>(*number);
    return absl::OkStatus();
  }

  absl::Status ReadPath() {
    switch (url_.scheme) {
      case Url::Scheme::kTcp:
        return ReadDbOfPath(path_);
      case Url::Scheme::kCluster: {
        if (absl::Status status = ReadDbOfPath(path_); !status.ok()) return status;
        if (url_.db == 0) return absl::OkStatus();
        return InvalidArgument(
            StrCat("the database", Shown(path_.substr(1)), " in the URL: a Cluster has 0 only"));
      }
      case Url::Scheme::kSentinel:
        return ReadSentinelPath();
      case Url::Scheme::kUnix: {
        if (absl::Status status = Decode(path_, "path", url_.path); !status.ok()) return status;
        if (url_.path.size() > 1 && url_.path.size() <= kMaxSocketPath) return absl::OkStatus();
        return InvalidArgument(StrCat("the path", Shown(path_),
                                      " in the URL must be that of a socket, at most ",
                                      kMaxSocketPath, " bytes: unix:///path"));
      }
      case Url::Scheme::kEmbedded:
        break;
    }
    if (absl::Status status = Decode(path_, "path", url_.path); !status.ok()) return status;
    if (url_.path != "/") return absl::OkStatus();
    return InvalidArgument("the path \"/\" in the URL must name a directory: embedded:///path/dir");
  }

  absl::Status ReadSentinelPath() {
    std::string_view db = path_;
    if (url_.sentinel_master.empty()) {
      const std::string_view path = path_.empty() ? path_ : path_.substr(1);
      const std::size_t slash = std::min(path.find('/'), path.size());
      const std::string_view master = path.substr(0, slash);
      // A raw '@' is the rest of a password with a '/' in it, more likely than a name.
      if (master.find('@') != std::string_view::npos) {
        return InvalidArgument(
            StrCat("the name of the master in the URL has an '@': write %40", kEscapeHint));
      }
      if (absl::Status status = Decode(master, "name of the master", url_.sentinel_master);
          !status.ok()) {
        return status;
      }
      db = path.substr(slash);
    }
    if (url_.sentinel_master.empty()) {
      return InvalidArgument(
          StrCat("the name of the master is missing in the URL: ", scheme_, "://host:port/master"));
    }
    return ReadDbOfPath(db);
  }

  absl::Status ReadDbOfPath(std::string_view path) {
    return path.size() <= 1 ? absl::OkStatus() : ReadDb(path.substr(1));
  }

  absl::Status ReadDb(std::string_view raw) {
    std::string text;
    if (absl::Status status = Decode(raw, "database", text); !status.ok()) return status;
    const std::optional<std::int64_t> number =
        AllOf(text, IsDigit) ? ParseInt64(text) : std::nullopt;
    if (!number || *number > std::numeric_limits<int>::max()) {
      return InvalidArgument(StrCat("the database", Shown(raw),
                                    " in the URL must be a number from 0 to ",
                                    std::numeric_limits<int>::max()));
    }
    url_.db = static_cast<int>(*number);
    return absl::OkStatus();
  }

  absl::Status ReadQuery() {
    if (!query_ || query_->empty()) return absl::OkStatus();
    std::set<std::string_view> seen;
    std::optional<std::string_view> left = query_;
    while (left) {
      const auto [option, more] = Cut(*left, '&');
      const auto [name, value] = Cut(option, '=');
      if (name.empty()) return InvalidArgument("an option in the URL has no name");
      if (absl::Status status = ReadOption(name, value); !status.ok()) return status;
      if (!seen.insert(name).second) {
        return InvalidArgument(StrCat("the option ", name, " is in the URL twice"));
      }
      // An '&' inside a password would make an option of its rest.
      after_password_ = after_password_ || name == "sentinel_password";
      left = more;
    }
    return absl::OkStatus();
  }

  absl::Status ReadOption(std::string_view name, std::optional<std::string_view> value) {
    if (name == "private") return ReadPrivate(value);
    struct Text {
      std::string_view name;
      std::string* target;
      bool fits;  // the scheme
      std::string_view wanted;
    };
    const bool sentinel = url_.scheme == Url::Scheme::kSentinel;
    const bool no_db_in_path =
        url_.scheme == Url::Scheme::kUnix || url_.scheme == Url::Scheme::kEmbedded;
    std::string decoded;
    const Text options[] = {
        {"timeout", &decoded, true, ""},
        {"connect_timeout", &decoded, true, ""},
        {"client_name", &decoded, true, ""},
        {"prefix", &decoded, true, ""},
        {"db", &decoded, no_db_in_path,
         "unix and embedded URLs; here the database follows the host, /db"},
        {"ca_file", &url_.ca_file, url_.tls, "TLS (rediss)"},
        {"cert_file", &url_.cert_file, url_.tls, "TLS (rediss)"},
        {"key_file", &url_.key_file, url_.tls, "TLS (rediss)"},
        {"server_name", &url_.server_name, url_.tls, "TLS (rediss)"},
        {"insecure", &decoded, url_.tls, "TLS (rediss)"},
        {"sentinel_user", &url_.sentinel_user, sentinel, "Sentinel URLs"},
        {"sentinel_password", &url_.sentinel_password, sentinel, "Sentinel URLs"},
    };
    const auto* const option =
        std::find_if(std::begin(options), std::end(options),
                     [name = name](const Text& known) { return known.name == name; });
    if (option == std::end(options)) {
      return InvalidArgument(
          StrCat("the URL has an unknown option", after_password_ ? "" : Shown(name)));
    }
    if (!option->fits) {
      return InvalidArgument(StrCat("the option ", name, " in the URL is for ", option->wanted,
                                    ", not for ", scheme_));
    }
    if (!value || (value->empty() && (name.ends_with("_file") || name == "server_name"))) {
      return InvalidArgument(StrCat("the option ", name, " in the URL needs a value"));
    }
    if (absl::Status status = Decode(*value, name, *option->target); !status.ok()) return status;
    if (name == "timeout") return ReadTimeout(name, *value, decoded, url_.timeout);
    if (name == "connect_timeout") return ReadTimeout(name, *value, decoded, url_.connect_timeout);
    if (name == "client_name") return ReadClientName(*value, std::move(decoded));
    if (name == "prefix") return ReadPrefix(*value, std::move(decoded));
    if (name == "db") return ReadDb(*value);
    if (name == "insecure") return ReadFlag(name, *value, url_.insecure);
    return absl::OkStatus();
  }

  absl::Status ReadPrivate(std::optional<std::string_view> value) {
    if (url_.scheme != Url::Scheme::kEmbedded) {
      return InvalidArgument(
          StrCat("the option private in the URL is for embedded, not for ", scheme_));
    }
    url_.embedded_private = true;
    if (value) {
      if (absl::Status status = ReadFlag("private", *value, url_.embedded_private); !status.ok())
        return status;
    }
    if (!url_.embedded_private || url_.path.empty()) return absl::OkStatus();
    return InvalidArgument(StrCat("the option private in the URL goes with no path", Shown(path_),
                                  ": a private server keeps nothing"));
  }

  absl::Status ReadTimeout(std::string_view name, std::string_view raw, const std::string& text,
                           std::optional<absl::Duration>& target) {
    absl::Duration duration;
    const std::optional<std::int64_t> seconds =
        AllOf(text, IsDigit) ? ParseInt64(text) : std::nullopt;
    if (seconds) duration = absl::Seconds(*seconds);
    if ((!seconds && !absl::ParseDuration(text, &duration)) || duration <= absl::ZeroDuration() ||
        duration > kMaxTimeout) {
      return InvalidArgument(StrCat("the option ", name, Shown(raw),
                                    " in the URL must be a time above 0 and at most 24h, "
                                    "as 5s, 250ms, or a number of seconds"));
    }
    target = duration;
    return absl::OkStatus();
  }

  absl::Status ReadClientName(std::string_view raw, std::string name) {
    if (!AllOf(name, IsVisibleAscii)) {
      return InvalidArgument(StrCat("the option client_name", Shown(raw),
                                    " in the URL must be of visible ASCII ",
                                    "characters without spaces: the server refuses others"));
    }
    url_.client_name = std::move(name);
    return absl::OkStatus();
  }

  absl::Status ReadPrefix(std::string_view raw, std::string prefix) {
    if (prefix.size() > kMaxPrefix || prefix.find_first_of("{}") != std::string::npos) {
      return InvalidArgument(StrCat("the option prefix", Shown(raw), " in the URL must be at most ",
                                    kMaxPrefix, " bytes and without braces"));
    }
    url_.prefix = std::move(prefix);
    return absl::OkStatus();
  }

  absl::Status ReadFlag(std::string_view name, std::string_view raw, bool& target) {
    std::string value;
    if (absl::Status status = Decode(raw, name, value); !status.ok()) return status;
    target = value == "true" || value == "1";
    if (target || value == "false" || value == "0") return absl::OkStatus();
    return InvalidArgument(
        StrCat("the option ", name, Shown(raw), " in the URL must be true, false, 1 or 0"));
  }

  absl::Status Decode(std::string_view text, std::string_view part, std::string& out) {
    out.clear();
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        out.push_back(text[i]);
        continue;
      }
      const int high = i + 2 < text.size() ? HexValue(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? HexValue(text[i + 2]) : -1;
      if (high < 0 || low < 0) {
        return InvalidArgument(
            StrCat("the ", part, " in the URL has a '%' without two hexadecimal digits after it; ",
                   "write %25 for the character"));
      }
      if (high == 0 && low == 0) {
        return InvalidArgument(StrCat("the ", part, " in the URL has a NUL byte, %00"));
      }
      out.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    }
    return absl::OkStatus();
  }

  // " \"piece\"" for a message, or nothing when the piece begins before the last '@': then it may
  // be a part of a password that was not escaped and so fell apart.
  std::string Shown(std::string_view piece) const {
    const auto begin = static_cast<std::size_t>(piece.data() - text_.data());
    return begin < secrets_end_ ? "" : StrCat(" ", Quoted(piece));
  }
  // The same for hosts: what follows a ':' may be the password of "user:password" where the host
  // was forgotten.
  std::string ShownInAuthority(std::string_view piece) const {
    const std::string_view before =
        authority_.substr(0, static_cast<std::size_t>(piece.data() - authority_.data()));
    const bool bracketed = piece.data() != authority_.data() && piece.data()[-1] == '[';
    if (before.find(':') != std::string_view::npos) return "";
    if (!bracketed && piece.find(':') != std::string_view::npos) return "";
    return Shown(piece);
  }

  const std::string_view text_;
  std::string_view scheme_;
  std::string_view authority_;
  std::string_view path_;
  std::optional<std::string_view> query_;
  std::size_t secrets_end_ = 0;
  bool after_password_ = false;
  Url url_;
};

}  // namespace

absl::StatusOr<Url> ParseUrl(std::string_view text) { return Parser(text).Parse(); }

}  // namespace coord::internal
