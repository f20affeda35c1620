#include "coord/latch.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/meeting_protocol.h"
#include "coord/lock/waiter.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::Quoted;
using internal::StrCat;

constexpr std::int64_t kMost = 1'000'000'000;

absl::Status CheckOptions(const LatchOptions& options) {
  if (options.count >= 1 && options.count <= kMost) return internal::CheckMeetingTtl(options.ttl);
  return internal::InvalidArgument(StrCat("count is ", options.count, "; it must be 1 to ", kMost));
}

}  // namespace

Latch::Latch(Client client, std::string_view name, LatchOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  const internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<internal::LockProtocol::Keys> keys =
      internal::LatchProtocol::MakeKeys(session, name_);
  usable_ = keys.ok() ? CheckOptions(options_) : keys.status();
  if (!usable_.ok()) return;
  latch_ = std::make_shared<internal::LatchProtocol>(
      name_, *std::move(keys), session.ChannelOf(name_), options_.count, options_.ttl);
}

absl::StatusOr<std::int64_t> Latch::CountDown(std::int64_t n, CallOptions options) const {
  if (!usable_.ok()) return usable_;
  if (n < 1 || n > kMost) {
    return internal::InvalidArgument(StrCat("n is ", n, "; it must be 1 to ", kMost));
  }
  internal::Session& session = internal::SessionOf(client_);
  const std::string operation = internal::NewOwnerId({});
  if (operation.empty()) {
    return internal::MakeStatus(absl::StatusCode::kUnavailable,
                                "the system gives no random bits for an operation id");
  }
  // Longer than any copy of the call is repeated or under way.
  const absl::Duration memory = std::max(2 * options.timeout.value_or(session.options().timeout),
                                         absl::Duration(absl::Seconds(5)));
  absl::StatusOr<Reply> reply = session.Execute(latch_->Count(n, operation, memory), options);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("latch ", Quoted(name_)));
  const std::optional<std::int64_t> left = internal::ParseInt64(reply->text());
  if (left) return *left;
  return internal::MakeStatus(absl::StatusCode::kDataLoss,
                              StrCat("latch_count answered ", reply->ToDebugString()));
}

absl::Status Latch::Wait(absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return internal::InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  return internal::WaitAlone(*session, latch_, internal::kForGood,
                             CallLimits{internal::DeadlineAfter(timeout), std::move(stop)})
      .status();
}

absl::StatusOr<std::int64_t> Latch::Count(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(latch_->InspectLatch(), options);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("latch ", Quoted(name_)));
  const auto items = reply->items();
  if (items.size() == 3 && items[0].is_nil()) return options_.count;
  const std::optional<std::int64_t> left =
      items.size() == 3 ? internal::ParseInt64(items[0].text()) : std::nullopt;
  if (left) return *left;
  return internal::MakeStatus(absl::StatusCode::kDataLoss,
                              StrCat("latch_inspect answered ", reply->ToDebugString()));
}

}  // namespace coord
