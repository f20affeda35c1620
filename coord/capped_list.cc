#include "coord/capped_list.h"

#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

constexpr std::int64_t kMaxItems = 1'000'000'000;
constexpr std::size_t kMaxPushItems = 4096;  // what a script can hand on in one call
constexpr std::size_t kMaxPushBytes = 64u << 20;

}  // namespace

CappedList::CappedList(Client client, std::string_view name, CappedListOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  const internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<std::string> list = session.Key("list", name, "list");
  absl::StatusOr<std::string> sequence = session.Key("list", name, "seq");
  if (!list.ok()) {
    usable_ = list.status();
    return;
  }
  list_key_ = *std::move(list);
  sequence_key_ = *std::move(sequence);
}

absl::StatusOr<PushResult> CappedList::Push(std::string_view item, CallOptions call) const {
  return Push(std::span<const std::string_view>(&item, 1), std::move(call));
}

absl::StatusOr<PushResult> CappedList::Push(std::span<const std::string_view> items,
                                            CallOptions call) const {
  if (!usable_.ok()) return usable_;
  if (options_.max_items < 1 || options_.max_items > kMaxItems) {
    return InvalidArgument(
        StrCat("max_items is ", options_.max_items, "; it must be 1 to ", kMaxItems));
  }
  if (options_.ttl) {
    if (absl::Status status = internal::CheckDataTtl(*options_.ttl); !status.ok()) return status;
  }
  if (items.empty() || items.size() > kMaxPushItems) {
    return InvalidArgument(
        StrCat("a push of ", items.size(), " items; it must have 1 to ", kMaxPushItems));
  }
  std::size_t bytes = 0;
  for (std::string_view item : items) bytes += item.size();
  if (bytes > kMaxPushBytes) {
    return InvalidArgument(
        StrCat("a push of ", bytes, " bytes; it must have at most ", kMaxPushBytes));
  }
  const std::string max_items = StrCat(options_.max_items);
  const std::string ttl = options_.ttl ? StrCat(internal::CeilMilliseconds(*options_.ttl)) : "";
  std::vector<std::string_view> args = {max_items, ttl};
  args.insert(args.end(), items.begin(), items.end());
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      internal::Bind(internal::kListPush, {list_key_, sequence_key_},
                     std::span<const std::string_view>(args)),
      call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("list ", Quoted(name_)));
  const auto values = reply->items();
  if (values.size() != 3) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("list_push answered ", reply->ToDebugString()));
  }
  return PushResult{values[0].integer(), values[1].integer(), values[2].integer()};
}

absl::StatusOr<std::vector<std::string>> CappedList::Range(std::int64_t start, std::int64_t stop,
                                                           CallOptions call) const {
  if (!usable_.ok()) return usable_;
  absl::StatusOr<Reply> reply =
      client_.Command({"LRANGE", list_key_, StrCat(start), StrCat(stop)}, call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("list ", Quoted(name_)));
  std::vector<std::string> items;
  items.reserve(reply->items().size());
  for (Reply& item : reply->mutable_items()) items.push_back(std::move(item.mutable_text()));
  return items;
}

}  // namespace coord
