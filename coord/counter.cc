#include "coord/counter.h"

#include <utility>
#include <vector>

#include "coord/deployment/server_error.h"
#include "coord/deployment/session.h"
#include "coord/deployment/slot.h"
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
constexpr std::string_view kPart = "count";
constexpr std::size_t kMaxKey = 1024;  // of one that is given raw

absl::StatusOr<std::int64_t> ToInteger(const Reply& reply, std::string_view name) {
  if (reply.is_nil()) return 0;
  // As the server prints it, and no other way: it would refuse to add to "01".
  const auto value = internal::ParseInt64(reply.text());
  if (value && reply.is_string() && StrCat(*value) == reply.text()) return *value;
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

absl::Status InContext(const absl::Status& status, std::string_view name) {
  return internal::Annotate(status, StrCat("counter ", Quoted(name)));
}

struct Addition {
  internal::Request request;
  std::optional<internal::Once> once;
};

// `key` lies in the slot of `tag`. `raw` is it again where it is given raw: several such may have
// one tag, and keep their answers together.
absl::StatusOr<Addition> Prepare(const internal::Session& session, std::string_view tag,
                                 std::string_view key, std::string_view raw, std::int64_t amount,
                                 const AddOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  const std::string what = StrCat(amount), min = Optional(options.min), max = Optional(options.max),
                    ttl = Milliseconds(options.ttl);
  const std::string_view overflow =
      options.overflow == AddOptions::Overflow::kSaturate ? "saturate" : "reject";
  const std::string_view ttl_mode =
      options.ttl_mode == AddOptions::TtlMode::kRefresh ? "refresh" : "create";
  std::vector<std::string_view> keys = {key};
  std::vector<std::string_view> args = {what, min, max, overflow, ttl, ttl_mode};
  std::vector<std::string_view> asked = args;
  if (!raw.empty()) asked.push_back(raw);
  absl::StatusOr<std::optional<internal::Once>> once =
      internal::PrepareOnce(session, "counter", tag, options.operation_id, kKind, asked);
  if (!once.ok()) return once.status();
  if (*once) (*once)->AppendTo(keys, args);
  return Addition{internal::Request::Call(internal::kCounterAdd, keys, args), *std::move(once)};
}

absl::StatusOr<CounterResult> ToResult(const Reply& reply, std::string_view name) {
  const auto items = reply.items();
  if (items.size() != 2) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("counter_add answered ", reply.ToDebugString()));
  }
  absl::StatusOr<std::int64_t> value = ToInteger(items[0], name);
  if (!value.ok()) return value.status();
  return CounterResult{*value, items[1].integer() == 1};
}

absl::Status CheckMany(std::size_t count) {
  if (count <= kMaxCounters) return absl::OkStatus();
  return internal::InvalidArgument(
      StrCat("the call names ", count, " counters; it may name at most ", kMaxCounters));
}

// Of several in one call, says which.
absl::Status OfMany(const absl::Status& status, std::size_t index) {
  return internal::Annotate(status, StrCat("number ", index + 1));
}

absl::Status ErrorOf(internal::Session& session, const Reply& reply, std::string_view name) {
  return InContext(internal::ServerError(reply.text(), session.node().name()), name);
}

}  // namespace

Counter::Counter(Client client, std::string_view name)
    : client_(std::move(client)),
      name_(name),
      tag_(name),
      key_(internal::SessionOf(client_).Key("counter", name, kPart)) {}

Counter::Counter(Client client, std::string_view name, std::string_view tag,
                 absl::StatusOr<std::string> key)
    : client_(std::move(client)), name_(name), tag_(tag), key_(std::move(key)) {}

Counter Counter::OnKey(Client client, std::string_view key) {
  if (key.empty() || key.size() > kMaxKey) {
    return {std::move(client), key, key,
            internal::InvalidArgument(StrCat("the counter's key has ", key.size(),
                                             " bytes; it must have 1 to ", kMaxKey))};
  }
  return {std::move(client), key, internal::HashTag(key), std::string(key)};
}

absl::StatusOr<CounterResult> Counter::Add(std::int64_t amount, AddOptions options,
                                           CallOptions call) const {
  if (!key_.ok()) return key_.status();
  internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<Addition> addition = Prepare(session, tag_, *key_, raw(), amount, options);
  if (!addition.ok()) return addition.status();
  absl::StatusOr<Reply> reply =
      internal::ExecuteOnce(session, std::move(addition->request), addition->once, call);
  if (!reply.ok()) return InContext(reply.status(), name_);
  return ToResult(*reply, name_);
}

absl::StatusOr<std::optional<CounterResult>> Counter::Resolve(const OperationId& id,
                                                              CallOptions call) const {
  if (!key_.ok()) return key_.status();
  absl::StatusOr<std::optional<std::string>> kept =
      internal::ResolveOnce(internal::SessionOf(client_), "counter", tag_, id, kKind, call);
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
  if (!reply.ok()) return InContext(reply.status(), name_);
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
  if (!reply.ok()) return InContext(reply.status(), name_);
  return ToInteger(*reply, name_);
}

absl::StatusOr<std::int64_t> Counter::GetAndReset(std::optional<OperationId> operation_id,
                                                  CallOptions call) const {
  if (!key_.ok()) return key_.status();
  internal::Session& session = internal::SessionOf(client_);
  std::vector<std::string_view> asked = {"reset"};
  if (!raw().empty()) asked.push_back(raw());
  absl::StatusOr<std::optional<internal::Once>> once =
      internal::PrepareOnce(session, "counter", tag_, operation_id, kKind, asked);
  if (!once.ok()) return once.status();
  std::vector<std::string_view> keys = {*key_}, args;
  if (*once) (*once)->AppendTo(keys, args);
  absl::StatusOr<Reply> reply = internal::ExecuteOnce(
      session, internal::Request::Call(internal::kCounterReset, keys, args), *once, call);
  if (!reply.ok()) return InContext(reply.status(), name_);
  return ToInteger(*reply, name_);
}

absl::StatusOr<std::int64_t> Counter::Reset(CallOptions call) const {
  return GetAndReset(std::nullopt, std::move(call));
}

absl::StatusOr<std::vector<absl::StatusOr<CounterResult>>> AddToCounters(
    const Client& client, std::span<const CounterAddition> additions, CallOptions call) {
  if (absl::Status status = CheckMany(additions.size()); !status.ok()) return status;
  internal::Session& session = internal::SessionOf(client);
  std::vector<internal::Request> requests;
  requests.reserve(additions.size());
  for (std::size_t i = 0; i < additions.size(); ++i) {
    const CounterAddition& one = additions[i];
    absl::StatusOr<std::string> key = session.Key("counter", one.name, kPart);
    if (!key.ok()) return OfMany(key.status(), i);
    absl::StatusOr<Addition> addition =
        Prepare(session, one.name, *key, {}, one.amount, one.options);
    if (!addition.ok()) return OfMany(addition.status(), i);
    requests.push_back(std::move(addition->request));
  }
  absl::StatusOr<std::vector<Reply>> replies = session.ExecuteBatch(requests, call);
  if (!replies.ok()) return replies.status();
  std::vector<absl::StatusOr<CounterResult>> results;
  results.reserve(additions.size());
  for (std::size_t i = 0; i < additions.size(); ++i) {
    const Reply& reply = (*replies)[i];
    const std::string& name = additions[i].name;
    if (reply.is_error()) {
      results.emplace_back(ErrorOf(session, reply, name));
    } else {
      results.push_back(ToResult(reply, name));
    }
  }
  return results;
}

absl::StatusOr<std::vector<absl::StatusOr<std::int64_t>>> GetCounters(
    const Client& client, std::span<const std::string> names, CallOptions call) {
  if (absl::Status status = CheckMany(names.size()); !status.ok()) return status;
  internal::Session& session = internal::SessionOf(client);
  std::vector<internal::Request> requests;
  requests.reserve(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    absl::StatusOr<std::string> key = session.Key("counter", names[i], kPart);
    if (!key.ok()) return OfMany(key.status(), i);
    // Not MGET, which takes a key of another type for one that is not there.
    const std::string_view command[] = {"GET", *key};
    requests.push_back(internal::Request::Command(command));
  }
  absl::StatusOr<std::vector<Reply>> replies = session.ExecuteBatch(requests, call);
  if (!replies.ok()) return replies.status();
  std::vector<absl::StatusOr<std::int64_t>> values;
  values.reserve(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Reply& reply = (*replies)[i];
    if (reply.is_error()) {
      values.emplace_back(ErrorOf(session, reply, names[i]));
    } else {
      values.push_back(ToInteger(reply, names[i]));
    }
  }
  return values;
}

}  // namespace coord
