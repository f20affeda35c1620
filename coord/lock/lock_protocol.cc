#include "coord/lock/lock_protocol.h"

#include <algorithm>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// An integer, whether it came as one or as text: a script that has it as text need not convert it.
std::optional<std::int64_t> Number(const Reply& reply) {
  if (reply.is_integer()) return reply.integer();
  return ParseInt64(reply.text());
}

}  // namespace

std::string_view WithoutMarks(std::string_view value) {
  const auto at = value.find_first_not_of('~');
  return at == std::string_view::npos ? std::string_view() : value.substr(at);
}

std::string HolderLabel(std::string_view holder) {
  if (holder.starts_with('%')) return "readers";
  return std::string(OwnerLabel(holder));
}

absl::StatusOr<LockAnswer> ReadLockAnswer(std::string_view script, const Reply& reply) {
  const auto items = reply.items();
  LockAnswer answer;
  const std::optional<std::int64_t> token = items.size() >= 2 ? Number(items[0]) : std::nullopt;
  const std::optional<std::int64_t> left = items.size() >= 2 ? Number(items[1]) : std::nullopt;
  if (!token || !left) {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat(script, " answered ", reply.ToDebugString()));
  }
  answer.left = absl::Milliseconds(*left);
  if (*token > 0) {
    answer.kind = LockAnswer::Kind::kGranted;
    answer.token = static_cast<std::uint64_t>(*token);
    return answer;
  }
  if (*token < 0) {
    answer.kind = LockAnswer::Kind::kWithdrawn;
    return answer;
  }
  if (items.size() > 2) answer.holder = WithoutMarks(items[2].text());
  if (items.size() > 5) {
    answer.ticket = items[3].text();
    answer.alive = items[4].text();
    answer.last_token = static_cast<std::uint64_t>(Number(items[5]).value_or(0));
  }
  return answer;
}

Request LockProtocol::Withdraw(std::string_view owner, absl::Duration memory) const {
  const std::string ms = StrCat(CeilMilliseconds(memory));
  return Bind(kMutexWithdraw, {keys_.lease, keys_.fence, keys_.queue, keys_.readers}, {owner, ms});
}

std::optional<Request> LockProtocol::Reserve(std::string_view, int) const { return std::nullopt; }

std::string LockProtocol::Taken(std::string_view holder, absl::Duration left) const {
  return StrCat("is held by ", Quoted(HolderLabel(holder)), ", whose lease has ", ToText(left),
                " left unless renewed");
}

Request LockProtocol::Inspect() const {
  const std::string_view keys_of[] = {keys_.lease, keys_.fence, keys_.queue, keys_.readers};
  return Request::Call(kMutexInspect, keys_of, {});
}

Request LockProtocol::Evict(std::string_view owner) const {
  return Bind(kMutexEvict, {keys_.lease, keys_.fence, keys_.queue, keys_.readers}, {owner});
}

absl::StatusOr<LockProtocol::Keys> LockKeys(const Session& session, std::string_view what,
                                            std::string_view name) {
  absl::StatusOr<std::string> lease = session.Key(what, name, "lease");
  if (!lease.ok()) return lease.status();
  // What one part may be called, all may.
  return LockProtocol::Keys{*std::move(lease), *session.Key(what, name, "fence"),
                            *session.Key(what, name, "queue"), *session.Key(what, name, "readers")};
}

absl::StatusOr<LockView> ReadLockView(const Reply& reply) {
  const auto items = reply.items();
  const absl::Status unreadable = MakeStatus(
      absl::StatusCode::kDataLoss, StrCat("mutex_inspect answered ", reply.ToDebugString()));
  if (items.size() != 6) return unreadable;
  LockView view;
  view.holder = WithoutMarks(items[0].text());
  view.left = absl::Milliseconds(std::max<std::int64_t>(0, Number(items[1]).value_or(0)));
  view.last_token = static_cast<std::uint64_t>(Number(items[2]).value_or(0));
  view.now = absl::FromUnixMicros(Number(items[3]).value_or(0));
  for (const Reply& item : items[4].items()) {
    // "<dead after, ms> <ticket, us> <claim, ms> <kind> <owner> <channel>"
    std::string_view rest = item.text();
    std::string_view fields[5];
    for (std::string_view& field : fields) {
      const auto space = rest.find(' ');
      if (space == std::string_view::npos) return unreadable;
      field = rest.substr(0, space);
      rest.remove_prefix(space + 1);
    }
    const std::optional<std::int64_t> dead = ParseInt64(fields[0]);
    const std::optional<std::int64_t> ticket = ParseInt64(fields[1]);
    if (!dead || !ticket || fields[3].size() != 1) return unreadable;
    view.waiters.push_back({std::string(fields[4]), fields[3][0], absl::FromUnixMicros(*ticket),
                            absl::FromUnixMillis(*dead) - view.now});
  }
  const auto readers = items[5].items();
  for (std::size_t i = 0; i + 1 < readers.size(); i += 2) {
    view.readers.push_back(
        {readers[i].text(), absl::Milliseconds(Number(readers[i + 1]).value_or(0))});
  }
  return view;
}

namespace {

Request AskBy(const ScriptText& script, const LockProtocol::Keys& keys, std::string_view kind,
              std::string_view owner, absl::Duration ttl, const Place* place) {
  const std::string_view keys_of[] = {keys.lease, keys.fence, keys.queue, keys.readers};
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  if (place == nullptr) {
    const std::string_view args[] = {owner, ms, kind};
    return Request::Call(script, keys_of, args);
  }
  const std::string claim = StrCat(CeilMilliseconds(place->claim));
  const std::string_view args[] = {owner,         ms,          kind, claim, place->channel,
                                   place->ticket, place->alive};
  Request request = Request::Call(script, keys_of, args);
  if (place->ticket == "0") request.set_retry_safe(false);
  return request;
}

}  // namespace

Request MutexProtocol::Ask(std::string_view owner, absl::Duration ttl, const Place* place) const {
  const std::string_view kind = place == nullptr ? (barging_ ? "T" : "t") : (barging_ ? "b" : "w");
  return AskBy(kMutexAcquire, keys(), kind, owner, ttl, place);
}

Request MutexProtocol::Renew(std::string_view owner, absl::Duration ttl) const {
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  return Bind(kMutexRenew, {keys().lease, keys().fence}, {owner, ms});
}

Request MutexProtocol::Release(std::string_view owner, const std::optional<Unused>& unused) const {
  const std::string_view keys_of[] = {keys().lease, keys().fence, keys().queue, keys().readers};
  if (!unused) {
    const std::string_view args[] = {owner};
    return Request::Call(kMutexRelease, keys_of, args);
  }
  const std::string used = StrCat(unused->last_used);
  const std::string reserved = StrCat(unused->last_reserved);
  const std::string_view args[] = {owner, used, reserved};
  return Request::Call(kMutexRelease, keys_of, args);
}

std::optional<Request> MutexProtocol::Reserve(std::string_view owner, int count) const {
  const std::string how_many = StrCat(count);
  return Bind(kMutexReserve, {keys().lease, keys().fence}, {owner, how_many});
}

Request ReaderProtocol::Ask(std::string_view owner, absl::Duration ttl, const Place* place) const {
  return AskBy(kRwMutexShare, keys(), "r", owner, ttl, place);
}

Request ReaderProtocol::Renew(std::string_view owner, absl::Duration ttl) const {
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  return Bind(kRwMutexRenew, {keys().lease, keys().fence, keys().readers}, {owner, ms});
}

Request ReaderProtocol::Release(std::string_view owner, const std::optional<Unused>&) const {
  return Bind(kRwMutexUnshare, {keys().lease, keys().fence, keys().queue, keys().readers}, {owner});
}

}  // namespace coord::internal
