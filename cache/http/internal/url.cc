#include "cache/http/internal/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cache/http/internal/escapes.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::InvalidArgument;
using coord::internal::StrCat;

constexpr std::size_t kMaxUrl = std::size_t{64} << 10;
constexpr std::string_view kRedacted = "REDACTED";

struct Parsed {
  std::string scheme;
  std::string user, password;  // percent-decoded
  bool has_credentials = false;
  std::string host;  // with the brackets of an IPv6 address, and its zone
  std::string port;  // empty: the scheme's
  std::string path;
  std::optional<std::string_view> query;  // of the text that was parsed
};

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

void LowerAll(std::string& text) { std::transform(text.begin(), text.end(), text.begin(), Lower); }

bool IsLetter(char c) { return Lower(c) >= 'a' && Lower(c) <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsUnreserved(char c) {
  return IsLetter(c) || IsDigit(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

// The byte that the escape at text[i] stands for, or -1: there is none.
int EscapeAt(std::string_view text, std::size_t i) {
  if (text[i] != '%' || i + 2 >= text.size()) return -1;
  const int high = HexDigit(text[i + 1]);
  const int low = HexDigit(text[i + 2]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Where one escape is broken all stay as they are: what decoding beside it makes could be read as
// another escape, and two URLs that differ would look alike.
bool HasBrokenEscape(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && EscapeAt(text, i) < 0) return true;
  }
  return false;
}

std::string NormalEscapes(std::string_view text) {
  if (text.find('%') == std::string_view::npos || HasBrokenEscape(text)) return std::string(text);
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int byte = EscapeAt(text, i);
    if (byte < 0) {
      out.push_back(text[i]);
      continue;
    }
    if (IsUnreserved(static_cast<char>(byte))) {
      out.push_back(static_cast<char>(byte));
    } else {
      out.append({'%', kHex[byte >> 4], kHex[byte & 15]});
    }
    i += 2;
  }
  return out;
}

// How many dots a segment of a path is, escaped or not; 0: it is something else. libcurl takes the
// escaped ones as dots in some versions and not in others, so none are left for it to judge.
int DotsOf(std::string_view segment) {
  int dots = 0;
  while (!segment.empty()) {
    if (segment.front() == '.') {
      segment.remove_prefix(1);
    } else if (EscapeAt(segment, 0) == '.') {
      segment.remove_prefix(3);
    } else {
      return 0;
    }
    if (++dots > 2) return 0;
  }
  return dots;
}

// RFC 3986 section 5.2.4, of a path that is empty or begins with '/'.
std::string WithoutDotSegments(std::string_view path) {
  std::string out;
  out.reserve(path.size() + 1);
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t end = std::min(path.find('/', at + 1), path.size());
    const std::string_view segment = path.substr(at, end - at);  // with its slash
    const int dots = DotsOf(segment.substr(1));
    if (dots == 2) out.resize(out.rfind('/') == std::string::npos ? 0 : out.rfind('/'));
    if (dots == 0) {
      out += segment;
    } else if (end == path.size()) {
      out += '/';
    }
    at = end;
  }
  if (out.empty()) out.push_back('/');
  return out;
}

struct FreeHandle {
  void operator()(CURLU* handle) const { curl_url_cleanup(handle); }
};
struct FreeText {
  void operator()(char* text) const { curl_free(text); }
};

// False: what is there cannot be given. Empty: there is none.
bool PartOf(CURLU* handle, CURLUPart part, unsigned flags, std::string& out) {
  char* text = nullptr;
  const CURLUcode code = curl_url_get(handle, part, &text, flags);
  const std::unique_ptr<char, FreeText> owned(text);
  out = text != nullptr ? text : "";
  switch (code) {
    case CURLUE_OK:
    case CURLUE_NO_USER:
    case CURLUE_NO_PASSWORD:
    case CURLUE_NO_PORT:
    case CURLUE_NO_ZONEID:
      return true;
    default:
      return false;
  }
}

bool CanBeHost(std::string_view host) {
  constexpr std::string_view kForbidden = "\"#%/:<>?@[\\]^`{|}";
  return !host.empty() && std::none_of(host.begin(), host.end(), [&](char c) {
    return static_cast<unsigned char>(c) <= ' ' || c == '\x7f' ||
           kForbidden.find(c) != std::string_view::npos;
  });
}

// One form for each address.
bool NormalizeAddress(std::string& host) {
  in6_addr address{};
  const std::string text = host.substr(1, host.size() - 2);
  char shown[INET6_ADDRSTRLEN];
  if (inet_pton(AF_INET6, text.c_str(), &address) != 1 ||
      inet_ntop(AF_INET6, &address, shown, sizeof(shown)) == nullptr) {
    return false;
  }
  host = StrCat("[", std::string_view(shown), "]");
  return true;
}

absl::Status AskCurl(const std::string& url, Parsed& parsed) {
  const std::unique_ptr<CURLU, FreeHandle> handle(curl_url());
  if (handle == nullptr) {
    return coord::internal::MakeStatus(absl::StatusCode::kResourceExhausted, "URL: no memory");
  }
  CURLU* const curl = handle.get();
  if (curl_url_set(curl, CURLUPART_URL, url.c_str(), CURLU_PATH_AS_IS) != CURLUE_OK) {
    return InvalidArgument("URL: its host, port or user cannot be read");
  }
  if (!PartOf(curl, CURLUPART_USER, CURLU_URLDECODE, parsed.user) ||
      !PartOf(curl, CURLUPART_PASSWORD, CURLU_URLDECODE, parsed.password)) {
    return InvalidArgument("URL: user or password cannot be decoded");
  }
  std::string zone;
  if (!PartOf(curl, CURLUPART_HOST, 0, parsed.host) || !PartOf(curl, CURLUPART_ZONEID, 0, zone) ||
      !PartOf(curl, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT, parsed.port)) {
    return InvalidArgument("URL: its host or port cannot be read");
  }
  LowerAll(parsed.host);
  if (parsed.host.starts_with('[')) {
    if (!NormalizeAddress(parsed.host)) {
      return InvalidArgument("URL: its host is no IPv6 address");
    }
    if (!std::all_of(zone.begin(), zone.end(), IsUnreserved)) {
      return InvalidArgument("URL: the zone of its address cannot be used");
    }
    if (!zone.empty()) {
      parsed.host.pop_back();
      parsed.host += StrCat("%25", zone, "]");
    }
  } else if (!CanBeHost(parsed.host)) {
    return InvalidArgument("URL: it has no host, or one with characters that no host has");
  }
  if (parsed.port == "0") return InvalidArgument("URL: its port is 0");
  return absl::OkStatus();
}

// A number of at most three digits, as an address has it, and no other base's.
bool IsByte(std::string_view label) {
  const bool digits = std::all_of(label.begin(), label.end(), IsDigit);
  if (!digits || label.empty() || label.size() > 3) return false;
  return label.size() == 1 || (label.front() != '0' && (label.size() == 2 || label <= "255"));
}

// A host that means the same to everybody: a name whose last label begins with a letter, or an IPv4
// address in full. Others (0x7f.1) may be addresses that libcurl knows how to read.
bool IsPlainHost(std::string_view host) {
  constexpr std::size_t kLongest = 253;
  if (host.empty() || host.size() > kLongest) return false;
  for (const char c : host) {
    if (!IsLetter(c) && !IsDigit(c) && c != '-' && c != '.') return false;
  }
  if (IsLetter(host[host.rfind('.') + 1])) return true;
  int labels = 0;
  for (std::size_t at = 0; at <= host.size(); ++labels) {
    const std::size_t end = std::min(host.find('.', at), host.size());
    if (!IsByte(host.substr(at, end - at))) return false;
    at = end + 1;
  }
  return labels == 4;
}

// Most authorities, which need no libcurl: a plain host, and perhaps a port.
bool ReadPlainAuthority(std::string_view authority, Parsed& parsed) {
  const std::size_t colon = std::min(authority.find(':'), authority.size());
  const std::string_view host = authority.substr(0, colon);
  if (!IsPlainHost(host)) return false;
  if (colon < authority.size()) {
    const std::string_view port = authority.substr(colon + 1);
    const bool number = std::all_of(port.begin(), port.end(), IsDigit) && !port.starts_with('0');
    const bool in_range = port.size() <= 4 || (port.size() == 5 && port <= "65535");
    if (port.empty() || !number || !in_range) return false;
    if (port != (parsed.scheme == "http" ? "80" : "443")) parsed.port = port;
  }
  parsed.host = host;
  LowerAll(parsed.host);
  return true;
}

absl::Status CheckText(std::string_view url) {
  if (url.size() > kMaxUrl) {
    return InvalidArgument(StrCat("URL: it has ", url.size(), " bytes; it may have ", kMaxUrl));
  }
  for (const char c : url) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      return InvalidArgument("URL: it has a control character");
    }
    if (c == ' ') return InvalidArgument("URL: it has a blank; write %20");
  }
  return absl::OkStatus();
}

// `url` must outlive what is parsed.
absl::StatusOr<Parsed> Parse(std::string_view url) {
  if (absl::Status status = CheckText(url); !status.ok()) return status;
  Parsed parsed;
  const std::size_t colon = url.find("://");
  if (colon == std::string_view::npos) {
    return InvalidArgument("URL: it does not begin with http:// or https://");
  }
  parsed.scheme = url.substr(0, colon);
  LowerAll(parsed.scheme);
  if (parsed.scheme != "http" && parsed.scheme != "https") {
    return InvalidArgument("URL: it does not begin with http:// or https://");
  }
  std::string_view rest = url.substr(colon + 3);
  rest = rest.substr(0, rest.find('#'));
  const std::size_t end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view authority = rest.substr(0, end);
  if (authority.empty()) return InvalidArgument("URL: it has no host");
  if (authority.find('\\') != std::string_view::npos) {
    return InvalidArgument("URL: it has a backslash before its path");
  }
  rest.remove_prefix(end);
  const std::size_t mark = rest.find('?');
  if (mark != std::string_view::npos) parsed.query = rest.substr(mark + 1);
  parsed.path = WithoutDotSegments(rest.substr(0, mark));
  if (ReadPlainAuthority(authority, parsed)) return parsed;
  // The rest cannot be wrong, and its characters are not libcurl's to change.
  if (absl::Status status = AskCurl(StrCat(parsed.scheme, "://", authority, "/"), parsed);
      !status.ok()) {
    return status;
  }
  parsed.has_credentials = !parsed.user.empty() || !parsed.password.empty();
  return parsed;
}

std::string Origin(const Parsed& parsed) {
  return parsed.port.empty() ? StrCat(parsed.scheme, "://", parsed.host)
                             : StrCat(parsed.scheme, "://", parsed.host, ":", parsed.port);
}

std::string Assemble(const Parsed& parsed) {
  std::string url = Origin(parsed) + parsed.path;
  if (parsed.query) {
    url += '?';
    url += *parsed.query;
  }
  return url;
}

// nullopt: nothing of it is left.
std::optional<std::string> NormalizeQuery(std::string_view query, const NormalForm& form) {
  // Whether escapes can be judged is a question about all of it.
  const bool broken = HasBrokenEscape(query);
  const auto normal = [broken](std::string_view text) {
    return broken ? std::string(text) : NormalEscapes(text);
  };
  struct Piece {
    std::string name;
    std::string rest;  // from '=' on
  };
  std::vector<Piece> pieces;
  bool dropped_any = false;
  for (std::size_t at = 0; at <= query.size();) {
    const std::size_t end = std::min(query.find('&', at), query.size());
    const std::string_view piece = query.substr(at, end - at);
    at = end + 1;
    const std::size_t equals = std::min(piece.find('='), piece.size());
    const std::string name = PercentDecoded(piece.substr(0, equals), /*plus_is_blank=*/true);
    if (!name.empty() && form.dropped(name)) {
      dropped_any = true;
      continue;
    }
    const bool redacted = equals < piece.size() && !name.empty() && form.redacted(name);
    pieces.push_back({normal(piece.substr(0, equals)),
                      redacted ? StrCat("=", kRedacted) : normal(piece.substr(equals))});
  }
  if (pieces.empty() && dropped_any) return std::nullopt;
  // Those of one name stay in their order, which says something.
  if (form.sort_query) {
    std::stable_sort(pieces.begin(), pieces.end(),
                     [](const Piece& a, const Piece& b) { return a.name < b.name; });
  }
  std::string out;
  for (const Piece& piece : pieces) {
    if (&piece != pieces.data()) out += '&';
    out += piece.name;
    out += piece.rest;
  }
  return out;
}

// The length of "scheme:" at the front; 0: there is none.
std::size_t SchemeLength(std::string_view reference) {
  if (reference.empty() || !IsLetter(reference.front())) return 0;
  for (std::size_t i = 1; i < reference.size(); ++i) {
    const char c = reference[i];
    if (c == ':') return i + 1;
    if (!IsLetter(c) && !IsDigit(c) && c != '+' && c != '-' && c != '.') return 0;
  }
  return 0;
}

// Blanks around it are nobody's, and those within, which many origins send, are escaped as all
// clients do.
std::string CleanReference(std::string_view reference) {
  while (reference.starts_with(' ') || reference.starts_with('\t')) reference.remove_prefix(1);
  while (reference.ends_with(' ') || reference.ends_with('\t')) reference.remove_suffix(1);
  std::string clean;
  clean.reserve(reference.size());
  for (const char c : reference.substr(0, reference.find('#'))) {
    if (c == ' ') {
      clean += "%20";
    } else {
      clean += c;
    }
  }
  return clean;
}

}  // namespace

absl::StatusOr<CheckedUrl> CheckUrl(std::string_view url) {
  absl::StatusOr<Parsed> parsed = Parse(url);
  if (!parsed.ok()) return parsed.status();
  CheckedUrl checked;
  checked.url = Assemble(*parsed);
  checked.user = std::move(parsed->user);
  checked.password = std::move(parsed->password);
  checked.has_credentials = parsed->has_credentials;
  return checked;
}

absl::StatusOr<std::string> NormalizeUrl(std::string_view url, const NormalForm& form) {
  absl::StatusOr<Parsed> parsed = Parse(url);
  if (!parsed.ok()) return parsed.status();
  parsed->path = NormalEscapes(parsed->path);
  std::optional<std::string> query;
  if (parsed->query) query = NormalizeQuery(*parsed->query, form);
  parsed->query = query;
  return Assemble(*parsed);
}

// By hand, since what libcurl makes of a reference differs among its versions.
absl::StatusOr<std::string> ResolveUrl(std::string_view base, std::string_view reference) {
  if (reference.size() > kMaxUrl) return CheckText(reference);
  const std::string clean = CleanReference(reference);
  const std::string_view rest(clean);
  std::string target = clean;
  if (SchemeLength(rest) == 0) {
    const absl::StatusOr<Parsed> parsed = Parse(base);
    if (!parsed.ok()) return parsed.status();
    const std::string_view path = rest.substr(0, rest.find('?'));
    if (rest.empty()) {
      target = Assemble(*parsed);
    } else if (rest.starts_with("//")) {
      target = StrCat(parsed->scheme, ":", rest);
    } else if (path.empty()) {
      target = StrCat(Origin(*parsed), parsed->path, rest);
    } else if (path.starts_with('/')) {
      target = StrCat(Origin(*parsed), rest);
    } else {
      const std::string folder = parsed->path.substr(0, parsed->path.rfind('/') + 1);
      target = StrCat(Origin(*parsed), folder, rest);
    }
  }
  absl::StatusOr<CheckedUrl> resolved = CheckUrl(target);
  if (!resolved.ok()) return resolved.status();
  return std::move(resolved->url);
}

bool SameOrigin(std::string_view one, std::string_view other) {
  const absl::StatusOr<Parsed> first = Parse(one);
  const absl::StatusOr<Parsed> second = Parse(other);
  return first.ok() && second.ok() && first->scheme == second->scheme &&
         first->host == second->host && first->port == second->port;
}

std::string UrlForMessages(std::string_view url) {
  const absl::StatusOr<Parsed> parsed = Parse(url);
  if (!parsed.ok()) return "an unreadable URL";
  return StrCat(Origin(*parsed), parsed->path, parsed->query ? "?..." : "");
}

}  // namespace coord::http::internal
