// What CacheBase does that is more than bytes under a key, and needs a server: counters, locks,
// hashes, lists, documents.
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "cache/cache_base.h"
#include "cache/internal/cache_core.h"
#include "cache/internal/compute.h"
#include "cache/internal/observed.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"

namespace coord {

using internal::CacheCore;
using internal::Observed;
using internal::Read;
using internal::StrCat;

namespace {

// A time to live for what changes in place: none, unless it is asked for.
absl::StatusOr<std::optional<absl::Duration>> Given(const CacheCore& core, coord::Ttl ttl) {
  if (ttl.kind() == coord::Ttl::Kind::kNever) return std::optional<absl::Duration>();
  absl::StatusOr<absl::Duration> length = core.Length(ttl, {}, /*jitter=*/false);
  if (!length.ok()) return length.status();
  if (*length == absl::InfiniteDuration()) return std::optional<absl::Duration>();
  return std::optional<absl::Duration>(*length);
}

// Under what a hash's field is sealed, so that its value cannot be moved to another.
std::string FieldKey(std::string_view full, std::string_view field) {
  return StrCat(full, std::string_view("\0", 1), field);
}

}  // namespace

absl::StatusOr<std::int64_t> CacheBase::Increment(std::string_view key, std::int64_t amount,
                                                  coord::Ttl ttl, const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kIncrement, key);
  // No fallback: a made up number is worse than none.
  return observed.End([&]() -> absl::StatusOr<std::int64_t> {
    absl::StatusOr<const Client*> client = core_->Server("counters");
    if (!client.ok()) return client.status();
    absl::StatusOr<std::string> full = FullKey(key);
    if (!full.ok()) return full.status();
    absl::StatusOr<std::optional<absl::Duration>> length = Given(*core_, ttl);
    if (!length.ok()) return length.status();
    absl::StatusOr<CounterResult> result =
        Counter::OnKey(**client, *full).Add(amount, {.ttl = *length}, call);
    core_->backend().Forget(*full);
    if (!result.ok()) return result.status();
    if (!result->applied) {
      return absl::OutOfRangeError(StrCat("the counter ", internal::Quoted(key), " stands at ",
                                          result->value, "; adding ", amount,
                                          " would leave 64 bits"));
    }
    return result->value;
  }());
}

absl::StatusOr<std::int64_t> CacheBase::Decrement(std::string_view key, std::int64_t amount,
                                                  coord::Ttl ttl, const CallOptions& call) const {
  if (amount == std::numeric_limits<std::int64_t>::min()) {
    return internal::InvalidArgument("that number has no opposite in 64 bits");
  }
  return Increment(key, -amount, ttl, call);
}

absl::StatusOr<Mutex> CacheBase::Lock(std::string_view name, MutexOptions options) const {
  absl::StatusOr<const Client*> client = core_->Server("locks");
  if (!client.ok()) return client.status();
  absl::StatusOr<std::string> prefix = Prefix();
  if (!prefix.ok()) return prefix.status();
  return Mutex(**client, StrCat(*prefix, name), std::move(options));
}

absl::StatusOr<bool> CacheBase::HashGetBytes(std::string_view name, std::string_view field,
                                             const CallOptions& call, Receive receive) const {
  Observed observed(*core_, CacheOperation::kHash, name);
  return observed.EndOr(
      [&]() -> absl::StatusOr<bool> {
        absl::StatusOr<const Client*> client = core_->Server("hashes");
        if (!client.ok()) return client.status();
        absl::StatusOr<std::string> full = FullKey(name);
        if (!full.ok()) return full.status();
        absl::StatusOr<Reply> reply = (*client)->Command({"HGET", *full, field}, call);
        if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("hash ", *full));
        if (reply->is_nil()) return false;
        absl::StatusOr<Read::State> state = observed.Take(
            core_->Judged(FieldKey(*full, field), std::move(reply->mutable_text())), receive);
        if (!state.ok()) return state.status();
        return *state == Read::State::kHit;
      }(),
      false);
}

absl::Status CacheBase::HashSetBytes(std::string_view name, std::string_view field,
                                     const absl::StatusOr<std::string>& bytes,
                                     const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kHash, name);
  return observed
      .EndOr(
          [&]() -> absl::StatusOr<bool> {
            if (!bytes.ok()) return bytes.status();
            absl::StatusOr<const Client*> client = core_->Server("hashes");
            if (!client.ok()) return client.status();
            absl::StatusOr<std::string> full = FullKey(name);
            if (!full.ok()) return full.status();
            absl::StatusOr<std::string> sealed = core_->Sealed(FieldKey(*full, field), *bytes, {});
            if (!sealed.ok()) return sealed.status();
            absl::StatusOr<Reply> reply = (*client)->Command({"HSET", *full, field, *sealed}, call);
            core_->backend().Forget(*full);
            if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("hash ", *full));
            return true;
          }(),
          true)
      .status();
}

absl::Status CacheBase::HashGetAllBytes(
    std::string_view name, const CallOptions& call,
    absl::FunctionRef<absl::Status(std::string_view, std::string_view)> receive) const {
  Observed observed(*core_, CacheOperation::kHash, name);
  return observed
      .EndOr(
          [&]() -> absl::StatusOr<bool> {
            absl::StatusOr<const Client*> client = core_->Server("hashes");
            if (!client.ok()) return client.status();
            absl::StatusOr<std::string> full = FullKey(name);
            if (!full.ok()) return full.status();
            absl::StatusOr<Reply> reply = (*client)->Command({"HGETALL", *full}, call);
            if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("hash ", *full));
            std::vector<Reply>& items = reply->mutable_items();
            for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
              const std::string& field = items[i].text();
              Read read =
                  core_->Judged(FieldKey(*full, field), std::move(items[i + 1].mutable_text()));
              absl::StatusOr<Read::State> state = observed.Take(
                  std::move(read), [&](std::string_view bytes) { return receive(field, bytes); });
              if (!state.ok()) return state.status();
            }
            return true;
          }(),
          true)
      .status();
}

absl::StatusOr<std::int64_t> CacheBase::PushBytes(std::string_view key,
                                                  const absl::StatusOr<std::string>& bytes,
                                                  std::int64_t max_items, coord::Ttl ttl,
                                                  const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kList, key);
  return observed.End([&]() -> absl::StatusOr<std::int64_t> {
    if (!bytes.ok()) return bytes.status();
    absl::StatusOr<const Client*> client = core_->Server("lists");
    if (!client.ok()) return client.status();
    absl::StatusOr<std::string> full = FullKey(key);
    if (!full.ok()) return full.status();
    absl::StatusOr<std::optional<absl::Duration>> length = Given(*core_, ttl);
    if (!length.ok()) return length.status();
    absl::StatusOr<std::string> sealed = core_->Sealed(*full, *bytes, {});
    if (!sealed.ok()) return sealed.status();
    absl::StatusOr<PushResult> pushed =
        CappedList::OnKey(**client, *full, {.max_items = max_items, .ttl = *length})
            .Push(*sealed, {}, call);
    core_->backend().Forget(*full);
    if (!pushed.ok()) return pushed.status();
    return pushed->length;
  }());
}

absl::Status CacheBase::RangeBytes(std::string_view key, std::int64_t start, std::int64_t stop,
                                   const CallOptions& call, Receive receive) const {
  Observed observed(*core_, CacheOperation::kList, key);
  return observed
      .EndOr(
          [&]() -> absl::StatusOr<bool> {
            absl::StatusOr<const Client*> client = core_->Server("lists");
            if (!client.ok()) return client.status();
            absl::StatusOr<std::string> full = FullKey(key);
            if (!full.ok()) return full.status();
            absl::StatusOr<std::vector<std::string>> items =
                CappedList::OnKey(**client, *full, {.max_items = 1}).Range(start, stop, call);
            if (!items.ok()) return items.status();
            for (std::string& item : *items) {
              absl::StatusOr<Read::State> state =
                  observed.Take(core_->Judged(*full, std::move(item)), receive);
              if (!state.ok()) return state.status();
            }
            return true;
          }(),
          true)
      .status();
}

absl::StatusOr<bool> CacheBase::CompareAndSetText(std::string_view key, std::string_view path,
                                                  const absl::StatusOr<std::string>& expected,
                                                  std::string_view at,
                                                  const absl::StatusOr<std::string>& value,
                                                  coord::Ttl ttl, const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kCompareAndSet, key);
  return observed.End([&]() -> absl::StatusOr<bool> {
    if (!expected.ok()) return expected.status();
    if (!value.ok()) return value.status();
    absl::StatusOr<const Client*> client = core_->Server("compare-and-set");
    if (!client.ok()) return client.status();
    absl::StatusOr<std::string> full = FullKey(key);
    if (!full.ok()) return full.status();
    JsonChange change;
    change.when = {{{std::string(path), *expected}}};
    change.set = {{std::string(at), *value}};
    if (!ttl.is_default()) {
      absl::StatusOr<absl::Duration> length = core_->Length(ttl, {}, /*jitter=*/true);
      if (!length.ok()) return length.status();
      change.ttl = *length;
    }
    core_->compute().Overtaken(*full);
    absl::StatusOr<CasResult> result = JsonDocument::OnKey(**client, *full).Apply(change, call);
    core_->backend().Forget(*full);
    if (!result.ok()) return result.status();
    return result->applied();
  }());
}

}  // namespace coord
