#include "cache/http/internal/key_maker.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "cache/http/internal/body_fields.h"
#include "cache/http/internal/lower_case.h"
#include "cache/http/internal/secrets.h"
#include "cache/http/internal/url.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "nlohmann/json.hpp"

namespace coord::http::internal {
namespace {

using coord::internal::StrCat;

constexpr std::string_view kRedacted = "REDACTED";
constexpr std::size_t kHashBytes = 32;
constexpr std::size_t kKeyBytes = 16;
std::string Hex(const unsigned char* bytes, std::size_t count) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * count);
  for (std::size_t i = 0; i < count; ++i) {
    hex.push_back(kHex[bytes[i] >> 4]);
    hex.push_back(kHex[bytes[i] & 15]);
  }
  return hex;
}

// --- What is hashed: pieces after their lengths, so that no two lists of them look alike ---

void AppendFrame(std::string& out, std::string_view piece) {
  std::uint64_t size = piece.size();
  for (int i = 0; i < 8; ++i, size >>= 8) out.push_back(static_cast<char>(size & 0xff));
  out += piece;
}

// Looked up once: to find an algorithm takes OpenSSL 3 longer than to use it. Never freed. Null
// where there is none.
const EVP_MD* Sha256() {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return sha256;
}

// Empty, which no backend takes as a key, where OpenSSL has no SHA-256.
std::string Hash(std::string_view frames, std::size_t bytes) {
  unsigned char hash[EVP_MAX_MD_SIZE];
  if (Sha256() == nullptr ||
      EVP_Digest(frames.data(), frames.size(), hash, nullptr, Sha256(), nullptr) != 1) {
    return {};
  }
  return Hex(hash, bytes);
}

std::string KeyedHash(std::string_view key, std::string_view frames) {
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  // A key without bytes still has to have an address.
  const char* const bytes = key.empty() ? "" : key.data();
  if (Sha256() == nullptr ||
      HMAC(Sha256(), bytes, static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(frames.data()), frames.size(), hash,
           &size) == nullptr ||
      size != kHashBytes) {
    return {};
  }
  return Hex(hash, kHashBytes);
}

// Of a field's value: no blanks around commas that are not in quotes.
std::string WithoutBlanksAtCommas(std::string_view value) {
  std::string out;
  out.reserve(value.size());
  bool quoted = false;
  std::size_t blanks = 0;  // since the last that was no blank
  for (std::size_t i = 0; i < value.size(); ++i) {
    const char c = value[i];
    if (!quoted && (c == ' ' || c == '\t')) {
      ++blanks;
      continue;
    }
    const bool at_comma = !quoted && (c == ',' || out.empty() || out.back() == ',');
    if (!at_comma) out.append(value.substr(i - blanks, blanks));
    blanks = 0;
    out.push_back(c);
    if (quoted && c == '\\' && i + 1 < value.size()) {
      out.push_back(value[++i]);
    } else if (c == '"') {
      quoted = !quoted;
    }
  }
  return out;
}

absl::flat_hash_set<std::string> LowerSet(const std::vector<std::string>& names) {
  absl::flat_hash_set<std::string> set;
  for (const std::string& name : names) set.insert(LowerCase(name));
  return set;
}

// One secret: where it stands, its name, its value.
struct Part {
  char where;
  std::string name;
  std::string_view value;
};

}  // namespace

KeyMaker::KeyMaker(KeyRules rules)
    : rules_(std::move(rules)),
      secret_(LowerSet(rules_.secret_parameters)),
      ignored_(LowerSet(rules_.ignored_parameters)) {}

bool KeyMaker::IsSecret(std::string_view name) const {
  const std::string lower = LowerCase(name);
  return secret_.contains(lower) && !ignored_.contains(lower);
}

bool KeyMaker::NamesSecret(std::string_view name) const {
  return secret_.contains(LowerCase(name));
}

bool KeyMaker::IsIgnored(std::string_view name) const { return ignored_.contains(LowerCase(name)); }

absl::StatusOr<KeyMaker::Identified> KeyMaker::Identify(std::string_view, std::string_view url,
                                                        const Headers& headers,
                                                        std::string_view body) const {
  absl::StatusOr<std::string> normal =
      NormalizeUrl(url, {.dropped = [this](std::string_view name) { return IsIgnored(name); },
                         .redacted = [this](std::string_view name) { return IsSecret(name); },
                         .sort_query = rules_.sort_query});
  if (!normal.ok()) return normal.status();
  Identified who;
  who.url = *std::move(normal);
  // Another one than the URL's is another site.
  if (!IsIgnored("Host")) who.host = LowerCase(headers.Get("Host").value_or(""));

  std::vector<Part> parts;
  Secrets secrets;
  for (Field& field : FormFields(QueryOf(url))) {
    if (!field.value || !NamesSecret(field.name)) continue;
    secrets.AddEncoded(*field.value);
    if (!IsIgnored(field.name)) parts.push_back({'q', LowerCase(field.name), *field.value});
  }
  for (const auto& [name, value] : headers) {
    if (!NamesSecret(name)) continue;
    secrets.AddHeader(name, value);
    if (!IsIgnored(name)) parts.push_back({'h', LowerCase(name), value});
  }
  const std::string content_type = body.empty() ? "" : headers.Get("Content-Type").value_or("");
  if (std::optional<std::vector<Field>> fields = BodyFields(body, content_type)) {
    const bool json = KindOf(content_type) == BodyKind::kJson;
    if (json) {
      // Deeper ones tell nobody apart by themselves, the whole body does; but they are secrets.
      secrets.AddJsonNamed(nlohmann::json::parse(body, nullptr, false),
                           [this](std::string_view name) { return NamesSecret(name); });
    }
    for (Field& field : *fields) {
      if (!field.value || !NamesSecret(field.name)) continue;
      if (!json) secrets.AddEncoded(*field.value);
      if (!IsIgnored(field.name)) parts.push_back({'b', LowerCase(field.name), *field.value});
    }
  }
  who.secrets = secrets.Take();
  if (parts.empty()) return who;

  // The order of those that have one name says something, that of others nothing.
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return std::pair(a.where, std::string_view(a.name)) <
           std::pair(b.where, std::string_view(b.name));
  });
  std::string frames;
  AppendFrame(frames, "identity");
  for (const Part& part : parts) {
    AppendFrame(frames, std::string_view(&part.where, 1));
    AppendFrame(frames, part.name);
    AppendFrame(frames, part.value);
  }
  who.identity = KeyedHash(rules_.identity_secret, frames);
  if (who.identity.empty()) {
    return coord::internal::MakeStatus(absl::StatusCode::kInternal,
                                       "identity: OpenSSL has no HMAC-SHA-256");
  }
  return who;
}

std::string KeyMaker::Primary(std::string_view method, const Identified& who, std::string_view body,
                              std::string_view content_type) const {
  std::string frames;
  AppendFrame(frames, "primary");
  AppendFrame(frames, method);
  AppendFrame(frames, who.url);
  AppendFrame(frames, who.identity);
  if (!who.host.empty()) {
    AppendFrame(frames, "host");
    AppendFrame(frames, who.host);
  }
  // One that comes with a GET says something, too, to some origins.
  if (!body.empty()) {
    std::string said;
    AppendFrame(said, content_type);
    if (const std::optional<std::vector<Field>> fields = BodyFields(body, content_type)) {
      AppendFrame(said, "fields");
      for (const Field& field : *fields) {
        if (IsIgnored(field.name)) continue;
        // Who they are is in the identity.
        const bool secret = field.value && IsSecret(field.name);
        AppendFrame(said, secret ? field.key : field.text);
        AppendFrame(said, secret ? kRedacted : std::string_view());
      }
    } else {
      AppendFrame(said, "body");
      AppendFrame(said, body);
    }
    // With the key: secrets may stand in it where nobody finds them, as deep in an object.
    const std::string hash = KeyedHash(rules_.identity_secret, said);
    if (hash.empty()) return {};
    AppendFrame(frames, hash);
  }
  const std::string hash = Hash(frames, kKeyBytes);
  return hash.empty() ? std::string() : StrCat(rules_.prefix, hash);
}

std::string KeyMaker::Variant(std::string_view primary, std::string_view series,
                              const Selecting& selecting) const {
  std::string frames;
  AppendFrame(frames, "variant");
  AppendFrame(frames, series);
  for (const auto& [name, value] : selecting) {
    AppendFrame(frames, name);
    AppendFrame(frames, value);
  }
  const std::string hash = Hash(frames, kKeyBytes);
  return hash.empty() ? std::string() : StrCat(primary, ".", hash);
}

Selecting KeyMaker::SelectingFields(const std::vector<std::string>& vary,
                                    const Headers& request) const {
  std::vector<std::string> names;
  names.reserve(vary.size() + rules_.match_headers.size());
  for (const auto* list : {&vary, &rules_.match_headers}) {
    for (const std::string& name : *list) names.push_back(LowerCase(name));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  Selecting selecting;
  for (std::string& name : names) {
    if (IsIgnored(name)) continue;
    std::string value;
    if (const std::optional<std::string> given = request.Get(name)) {
      value = WithoutBlanksAtCommas(*given);
      // Not the same as none at all (RFC 9111 section 4.1), and what no other value can be.
      if (value.empty()) value.assign(1, ' ');
      if (IsSecret(name)) {
        std::string frames;
        AppendFrame(frames, "selecting");
        AppendFrame(frames, name);
        AppendFrame(frames, value);
        value = KeyedHash(rules_.identity_secret, frames);
      }
    }
    selecting.emplace_back(std::move(name), std::move(value));
  }
  return selecting;
}

Headers KeyMaker::Redacted(const Headers& response) const {
  Headers redacted;
  for (const auto& [name, value] : response) {
    const std::string lower = LowerCase(name);
    const bool hide = secret_.contains(lower) || ignored_.contains(lower);
    redacted.Add(name, hide ? std::string(kRedacted) : value);
  }
  return redacted;
}

std::vector<std::string> KeyMaker::SecretsIn(const Headers& response) {
  Secrets secrets;
  for (const std::string_view line : response.All("Set-Cookie")) {
    secrets.AddCookies(line.substr(0, line.find(';')));
  }
  return secrets.Take();
}

bool KeyMaker::RedactReferences(std::string_view url, Headers& response) const {
  for (const std::string_view field : {"Location", "Content-Location"}) {
    const std::vector<std::string_view> lines = response.All(field);
    if (lines.empty() || lines.front().find('?') == std::string_view::npos) continue;
    const absl::StatusOr<std::string> target = ResolveUrl(url, lines.front());
    if (!target.ok()) continue;
    bool secret = false;
    bool ignored = false;
    absl::StatusOr<std::string> normal = NormalizeUrl(*target, {.dropped =
                                                                    [&](std::string_view name) {
                                                                      const bool drops =
                                                                          IsIgnored(name);
                                                                      ignored |= drops;
                                                                      return drops;
                                                                    },
                                                                .redacted =
                                                                    [&](std::string_view name) {
                                                                      secret |= IsSecret(name);
                                                                      return false;
                                                                    }});
    if (secret || !normal.ok()) return false;
    if (ignored) response.Set(field, *std::move(normal));
  }
  return true;
}

}  // namespace coord::http::internal
