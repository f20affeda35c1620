#include "coord/counter.h"

#include <utility>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/once.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::Quoted;
using internal::StrCat;

constexpr char kKind = 'c';  // of fingerprints

absl::StatusOr<std::int64_t> ToInteger(const Reply& reply, std::string_view name) {
  if (reply.is_nil()) return 0;
  if (const auto value = internal::ParseInt64(reply.text()); value && reply.is_string())
    return *value;
  return internal::MakeStatus(absl::StatusCode::kFailedPrecondition,
                              StrCat("counter ", Quoted(name), " holds ", reply.ToDebugString(64),
                                     ", which is no 64-bit integer; it was left as it is"));
}

absl::Status CheckOptions(const AddOptions& options) {
  if (options.min && options.max && *options.min > *options.max) {
    return internal::InvalidArgument(StrCat("min is ", *options.min, " and max is ", *options.max,
                                            "; min must not be above max"));
  }
  return options.ttl ? internal::CheckDataTtl(*options.ttl) : absl::OkStatus();
}

std::string Optional(std::optional<std::int64_t> value) { return value ? StrCat(*value) : ""; }

std::string Milliseconds(std::optional<absl::Duration> ttl) {
  return ttl ? StrCat(internal::CeilMilliseconds(*ttl)) : "";
}

}  // namespace

Counter::Counter(Client client, std::string_view name)
    : client_(std::move(client)),
      name_(name),
      key_(internal::SessionOf(client_).Key("counter", name, "count")) {}

absl::StatusOr<CounterResult> Counter::Add(std::int64_t amount, AddOptions options,
                                           CallOptions call) const {
  if (!key_.ok()) return key_.status();
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  const std::string what = StrCat(amount), min = Optional(options.min), max = Optional(options.max),
                    ttl = Milliseconds(options.ttl);
  const std::string_view overflow =
      options.overflow == AddOptions::Overflow::kSaturate ? "saturate" : "reject";
  const std::string_view ttl_mode =
      options.ttl_mode == AddOptions::TtlMode::kRefresh ? "refresh" : "create";
  internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<std::optional<internal::Once>> once =
      internal::PrepareOnce(session, "counter", name_, options.operation_id, kKind,
                            {what, min, max, overflow, ttl, ttl_mode});
  if (!once.ok()) return once.status();
  std::vector<std::string_view> keys = {*key_};
  std::vector<std::string_view> args = {what, min, max, overflow, ttl, ttl_mode};
  if (*once) (*once)->AppendTo(keys, args);
  absl::StatusOr<Reply> reply = internal::ExecuteOnce(
      session, internal::Request::Call(internal::kCounterAdd, keys, args), *once, call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("counter ", Quoted(name_)));
  const auto items = reply->items();
  if (items.size() != 2) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("counter_add answered ", reply->ToDebugString()));
  }
  absl::StatusOr<std::int64_t> value = ToInteger(items[0], name_);
  if (!value.ok()) return value.status();
  return CounterResult{*value, items[1].integer() == 1};
}

absl::StatusOr<std::optional<CounterResult>> Counter::Resolve(const OperationId& id,
                                                              CallOptions call) const {
  if (!key_.ok()) return key_.status();
  absl::StatusOr<std::optional<std::string>> kept =
      internal::ResolveOnce(internal::SessionOf(client_), "counter", name_, id, kKind, call);
  if (!kept.ok()) return kept.status();
  if (!*kept) return std::optional<CounterResult>();
  const std::string_view text = **kept;
  const auto blank = text.find(' ');
  const std::optional<std::int64_t> value = internal::ParseInt64(text.substr(0, blank));
  if (!value || blank == std::string_view::npos) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("operation ", id.text(), " has kept ", Quoted(text)));
  }
  return std::optional<CounterResult>(CounterResult{*value, text.substr(blank + 1) == "1"});
}

absl::StatusOr<std::int64_t> Counter::Get(CallOptions call) const {
  if (!key_.ok()) return key_.status();
  absl::StatusOr<Reply> reply = client_.Command({"GET", *key_}, call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("counter ", Quoted(name_)));
  return ToInteger(*reply, name_);
}

absl::StatusOr<std::int64_t> Counter::Set(std::int64_t value, std::optional<absl::Duration> ttl,
                                          CallOptions call) const {
  if (!key_.ok()) return key_.status();
  if (ttl) {
    if (absl::Status status = internal::CheckDataTtl(*ttl); !status.ok()) return status;
  }
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      internal::Bind(internal::kCounterSet, {*key_}, {StrCat(value), Milliseconds(ttl)}), call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("counter ", Quoted(name_)));
  return ToInteger(*reply, name_);
}

absl::StatusOr<std::int64_t> Counter::Reset(CallOptions call) const {
  if (!key_.ok()) return key_.status();
  absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(internal::Bind(internal::kCounterReset, {*key_}), call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("counter ", Quoted(name_)));
  return ToInteger(*reply, name_);
}

}  // namespace coord
