#include "coord/lock/semaphore_protocol.h"

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// Cuts off what stands before the first space.
std::string_view Word(std::string_view& rest) {
  const auto space = rest.find(' ');
  const std::string_view word = rest.substr(0, space);
  rest.remove_prefix(space == std::string_view::npos ? rest.size() : space + 1);
  return word;
}

}  // namespace

absl::StatusOr<LockProtocol::Keys> SemaphoreKeys(const Session& session, std::string_view name) {
  absl::StatusOr<std::string> permits = session.Key("semaphore", name, "permits");
  if (!permits.ok()) return permits.status();
  return LockProtocol::Keys{*std::move(permits),
                            *session.Key("semaphore", name, "permits-fence"),
                            *session.Key("semaphore", name, "permits-queue"),
                            {}};
}

Request SemaphoreProtocol::Ask(std::string_view owner, absl::Duration ttl,
                               const Place* place) const {
  const std::string_view keys_of[] = {keys().lease, keys().fence, keys().queue};
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  const std::string count = StrCat(count_);
  const std::string permits = StrCat(permits_);
  if (place == nullptr) {
    const std::string_view args[] = {owner, ms, count, permits};
    return Request::Call(kSemaphoreAcquire, keys_of, args);
  }
  const std::string claim = StrCat(CeilMilliseconds(place->claim));
  const std::string_view args[] = {
      owner, ms, count, permits, claim, place->channel, place->ticket, place->alive};
  Request request = Request::Call(kSemaphoreAcquire, keys_of, args);
  if (place->ticket == "0") request.set_retry_safe(false);
  return request;
}

Request SemaphoreProtocol::Renew(std::string_view owner, absl::Duration ttl) const {
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  const std::string count = StrCat(count_);
  return Bind(kSemaphoreRenew, {keys().lease, keys().fence}, {owner, ms, count});
}

Request SemaphoreProtocol::Release(std::string_view owner, const std::optional<Unused>&) const {
  const std::string count = StrCat(count_);
  return Bind(kSemaphoreRelease, {keys().lease, keys().fence, keys().queue}, {owner, count});
}

Request SemaphoreProtocol::Withdraw(std::string_view owner, absl::Duration memory) const {
  const std::string count = StrCat(count_);
  const std::string ms = StrCat(CeilMilliseconds(memory));
  return Bind(kSemaphoreWithdraw, {keys().lease, keys().fence, keys().queue}, {owner, count, ms});
}

std::string SemaphoreProtocol::Taken(std::string_view holder, absl::Duration left) const {
  // "<taken> <waiting> <owner>"
  const std::string_view taken = Word(holder);
  const std::string_view waiting = Word(holder);
  return StrCat("has ", taken, " of ", permits_, " permits taken and ", waiting,
                " waiting, and was asked for ", count_, "; the next to end is held by ",
                Quoted(OwnerLabel(holder)), " and has ", ToText(left), " left unless renewed");
}

Request InspectSemaphore(const LockProtocol::Keys& keys) {
  return Bind(kSemaphoreInspect, {keys.lease, keys.fence, keys.queue});
}

absl::StatusOr<SemaphoreView> ReadSemaphoreView(const Reply& reply) {
  const absl::Status unreadable = MakeStatus(
      absl::StatusCode::kDataLoss, StrCat("semaphore_inspect answered ", reply.ToDebugString()));
  const auto items = reply.items();
  if (items.size() != 4) return unreadable;
  const std::optional<std::int64_t> permits = ParseInt64(items[0].text());
  const std::optional<std::int64_t> now = ParseInt64(items[1].text());
  if (!permits || !now) return unreadable;
  SemaphoreView view;
  view.permits = *permits;
  const auto holders = items[2].items();
  for (std::size_t i = 0; i + 1 < holders.size(); i += 2) {
    std::string_view owner = holders[i].text();
    const std::optional<std::int64_t> count = ParseInt64(Word(owner));
    const std::optional<std::int64_t> left = ParseInt64(holders[i + 1].text());
    if (!count || !left) return unreadable;
    view.holders.push_back({std::string(owner), *count, absl::Milliseconds(*left)});
  }
  for (const Reply& item : items[3].items()) {
    // "<dead after, ms> <ticket, us> <claim, ms> <how many> <owner> <channel>"
    std::string_view rest = item.text();
    const std::optional<std::int64_t> dead = ParseInt64(Word(rest));
    Word(rest);
    Word(rest);
    const std::optional<std::int64_t> count = ParseInt64(Word(rest));
    if (!dead || !count) return unreadable;
    view.waiters.push_back({std::string(Word(rest)), *count, absl::Milliseconds(*dead - *now)});
  }
  return view;
}

}  // namespace coord::internal
