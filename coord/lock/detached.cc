#include "coord/lock/detached.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/limits.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "coord/lock/single_held.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// "coord-lease-1,mutex,<ttl, ms>,<hold left, ms, or
// ->,<doubtful>,<token>,<owner>,<prefix>,<name>,." with everything but letters, digits and a few
// others in the last three as %XX. The end mark tells a text that was cut.
constexpr std::string_view kVersion = "coord-lease-1";
constexpr std::string_view kKind = "mutex";
constexpr std::string_view kEnd = ".";
constexpr std::size_t kFields = 10;
constexpr std::size_t kLongest = 8192;
constexpr std::uint64_t kTokenLimit = std::uint64_t{1} << 53;
constexpr char kHex[] = "0123456789ABCDEF";

bool Plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.' || c == ':' || c == '@';
}

std::string Encoded(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (Plain(c)) {
      text.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    text.push_back('%');
    text.push_back(kHex[byte >> 4]);
    text.push_back(kHex[byte & 15]);
  }
  return text;
}

std::optional<std::string> Decoded(std::string_view text) {
  constexpr std::string_view kDigits = {kHex, 16};
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      if (!Plain(text[i])) return std::nullopt;
      bytes.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const auto high = kDigits.find(text[i + 1]);
    const auto low = kDigits.find(text[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return bytes;
}

absl::Status Bad(std::string_view why) {
  return InvalidArgument(StrCat("the text of a detached lease ", why));
}

}  // namespace

std::string WriteDetached(const Session& session, const LeaseIdentity& identity,
                          const LeaseTerms& terms) {
  std::string hold = "-";
  if (terms.keep_until != absl::InfiniteFuture()) {
    hold = StrCat(absl::ToInt64Milliseconds(terms.keep_until - session.clock().Now()));
  }
  return StrCat(kVersion, ",", kKind, ",", CeilMilliseconds(terms.ttl), ",", hold, ",",
                terms.doubtful ? "1" : "0", ",", identity.token, ",", Encoded(identity.owner), ",",
                Encoded(session.options().prefix), ",", Encoded(identity.lock->name()), ",", kEnd);
}

absl::StatusOr<Detached> ReadDetached(const Session& session, std::string_view text) {
  if (text.size() > kLongest) {
    return Bad(StrCat("has ", text.size(), " bytes; it must have at most ", kLongest));
  }
  std::vector<std::string_view> fields;
  for (std::string_view rest = text;;) {
    const auto comma = rest.find(',');
    fields.push_back(rest.substr(0, comma));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (fields[0] != kVersion) return Bad(StrCat("does not begin with ", Quoted(kVersion)));
  if (fields.size() != kFields || fields.back() != kEnd) return Bad("is not whole");
  if (fields[1] != kKind) {
    return Bad(StrCat("is of a ", Quoted(fields[1]), ", which this version cannot adopt"));
  }
  Detached detached;
  const std::optional<std::int64_t> ttl = ParseInt64(fields[2]);
  const std::optional<std::int64_t> token = ParseInt64(fields[5]);
  if (!ttl || !CheckTtl(absl::Milliseconds(*ttl)).ok()) return Bad("has no time to live");
  if (!token || *token < 1 || static_cast<std::uint64_t>(*token) >= kTokenLimit) {
    return Bad("has no token");
  }
  detached.ttl = absl::Milliseconds(*ttl);
  detached.token = static_cast<std::uint64_t>(*token);
  if (fields[3] != "-") {
    const std::optional<std::int64_t> hold = ParseInt64(fields[3]);
    if (!hold || *hold < 0) return Bad("does not say how long it may be held");
    detached.hold_left = absl::Milliseconds(*hold);
  }
  if (fields[4] != "0" && fields[4] != "1") return Bad("does not say whether it is in doubt");
  detached.doubtful = fields[4] == "1";
  std::optional<std::string> owner = Decoded(fields[6]);
  // Anything else would be read as a mark or as several words by the scripts.
  if (!owner || owner->size() < 34 || owner->find_first_not_of("0123456789abcdef") != 32 ||
      (*owner)[32] != '@' ||
      std::any_of(owner->begin(), owner->end(), [](char c) { return c <= ' ' || c > '~'; })) {
    return Bad("has no owner id");
  }
  const std::optional<std::string> prefix = Decoded(fields[7]);
  std::optional<std::string> name = Decoded(fields[8]);
  if (!prefix || !name) return Bad("has a prefix or name that cannot be read");
  if (*prefix != session.options().prefix) {
    return Bad(StrCat("comes from a client with the prefix ", Quoted(*prefix), "; this one has ",
                      Quoted(session.options().prefix)));
  }
  absl::StatusOr<LockProtocol::Keys> keys = LockKeys(session, kKind, *name);
  if (!keys.ok()) return keys.status();
  detached.name = *std::move(name);
  detached.keys = *std::move(keys);
  detached.owner = *std::move(owner);
  return detached;
}

absl::StatusOr<Lease> Adopt(std::shared_ptr<Session> session, Detached detached,
                            const CallOptions& options) {
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  const std::string title = StrCat(kKind, " ", Quoted(detached.name));
  std::string owner = NewOwnerId(session->options().client_name);
  if (owner.empty()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for an owner id");
  }
  const auto lock = std::make_shared<MutexProtocol>(std::move(detached.name),
                                                    std::move(detached.keys), /*barging=*/false);
  const absl::Duration ttl = std::max(std::min(detached.ttl, detached.hold_left), kMinLeaseTtl);
  const absl::Duration memory = std::max(2 * session->options().timeout, absl::Seconds(5));
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  const std::string memory_ms = StrCat(detached.doubtful ? CeilMilliseconds(memory) : 0);
  CallTrace trace;
  const absl::StatusOr<Reply> reply = session->Execute(
      Bind(kMutexAdopt,
           {lock->keys().lease, lock->keys().fence, lock->keys().queue, lock->keys().readers},
           {detached.owner, owner, ms, memory_ms}),
      *limits, &trace);
  if (!reply.ok()) {
    // It may be ours now; nobody should wait for the ttl because of that.
    if (IsOutcomeUnknown(reply.status())) {
      session->background().Add(
          std::make_shared<Withdrawal>(*session, lock, std::move(owner), ttl, true));
    }
    return Annotate(reply.status(), StrCat("adopting the lease of ", title));
  }
  if (reply->integer() <= 0) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("the detached lease of ", title, " (token ", detached.token,
                             ") is lost: it ran out, or another has adopted it"),
                      kLost);
  }
  LeaseTerms terms;
  terms.ttl = detached.ttl;
  terms.valid_until = ValidUntil(trace.sent, ttl, absl::Milliseconds(reply->integer()));
  terms.renew_at = RenewAt(trace.sent, ttl);
  terms.keep_until = session->clock().Now() + detached.hold_left;
  terms.doubtful = trace.replayed;
  auto state = std::make_shared<LeaseState>(
      *session, LeaseIdentity{lock, std::move(owner), detached.token}, terms);
  if (session->background().Add(state)) {
    return LeaseAccess::Make(
        std::make_unique<SingleHeld>(std::move(session), std::move(state), nullptr));
  }
  (void)state->Release(*limits);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  return MakeStatus(absl::StatusCode::kResourceExhausted,
                    StrCat(title, ": the system gives no thread to renew the lease"));
}

}  // namespace coord::internal
