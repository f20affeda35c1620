#include "cache/cache_base.h"

#include <algorithm>
#include <utility>

#include "cache/internal/cache_core.h"
#include "cache/internal/compute.h"
#include "cache/internal/observed.h"
#include "cache/internal/recovery_queue.h"
#include "coord/client.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {

using internal::CacheCore;
using internal::Observed;
using internal::Read;
using internal::StrCat;

CacheBase::CacheBase(std::shared_ptr<Backend> backend, CacheOptions options,
                     std::shared_ptr<const Signer> signer, bool (*is_null)(std::string_view bytes))
    : core_(std::make_shared<CacheCore>(std::move(backend), std::move(options), std::move(signer),
                                        is_null)) {}

CacheBase::CacheBase(const CacheBase& whole, std::string_view more)
    : core_(whole.core_), scope_(StrCat(whole.scope_, more)) {}

absl::StatusOr<std::string> CacheBase::Prefix() const {
  absl::StatusOr<std::string> prefix = core_->Prefix();
  if (prefix.ok()) prefix->append(scope_);
  return prefix;
}

absl::StatusOr<std::string> CacheBase::FullKey(std::string_view key) const {
  absl::StatusOr<std::string> prefix = Prefix();
  if (!prefix.ok()) return prefix.status();
  return CacheCore::KeyUnder(*prefix, key);
}

// ---- Reading ----

absl::StatusOr<CacheBase::ReadState> CacheBase::ReadBytes(std::string_view key,
                                                          const GetOptions& options,
                                                          Receive receive) const {
  Observed observed(*core_, CacheOperation::kGet, key);
  return observed.End([&]() -> absl::StatusOr<ReadState> {
    absl::StatusOr<std::string> prefix = Prefix();
    if (!prefix.ok()) return prefix.status();
    absl::StatusOr<std::string> full = CacheCore::KeyUnder(*prefix, key);
    if (!full.ok()) return full.status();
    absl::StatusOr<Read> read = core_->ReadOne(*prefix, *full, options, /*want_age=*/false);
    if (!read.ok()) {
      if (!core_->FallsBack(read.status())) return read.status();
      observed.event().fell_back = true;
      const std::optional<std::string> bytes =
          core_->AskFallback(CacheOperation::kGet, key, read.status());
      read = Read();
      if (bytes.has_value()) {
        read->state = core_->is_null()(*bytes) ? Read::State::kNull : Read::State::kHit;
        read->payload = *bytes;
      }
    }
    absl::StatusOr<Read::State> state = observed.Take(*std::move(read), receive);
    if (!state.ok()) return state.status();
    return ReadState{*state, false};
  }());
}

absl::StatusOr<std::vector<CacheBase::ReadState>> CacheBase::ReadManyBytes(
    std::span<const std::string> keys, const GetOptions& options, ReceiveNth receive) const {
  Observed observed(*core_, CacheOperation::kGetMany, "", keys.size());
  return observed.End([&]() -> absl::StatusOr<std::vector<ReadState>> {
    absl::StatusOr<std::string> prefix = Prefix();
    if (!prefix.ok()) return prefix.status();
    std::vector<std::string> full;
    for (const std::string& key : keys) {
      absl::StatusOr<std::string> one = CacheCore::KeyUnder(*prefix, key);
      if (!one.ok()) return one.status();
      full.push_back(*std::move(one));
    }
    absl::StatusOr<std::vector<Read>> reads = core_->ReadMany(*prefix, full, options);
    if (!reads.ok()) {
      if (!core_->FallsBack(reads.status())) return reads.status();
      observed.event().fell_back = true;
      const absl::Status away = reads.status();
      reads = std::vector<Read>(keys.size());
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const std::optional<std::string> bytes =
            core_->AskFallback(CacheOperation::kGetMany, keys[i], away);
        if (!bytes.has_value()) continue;
        (*reads)[i].state = core_->is_null()(*bytes) ? Read::State::kNull : Read::State::kHit;
        (*reads)[i].payload = *bytes;
      }
    }
    std::vector<ReadState> states;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      absl::StatusOr<Read::State> state = observed.Take(
          std::move((*reads)[i]), [&](std::string_view bytes) { return receive(i, bytes); });
      if (!state.ok()) return state.status();
      states.push_back({*state, false});
    }
    return states;
  }());
}

absl::StatusOr<bool> CacheBase::Exists(std::string_view key, const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kExists, key);
  const absl::StatusOr<std::string> full = FullKey(key);
  if (!full.ok()) return observed.End(absl::StatusOr<bool>(full.status()));
  return observed.EndOr(core_->backend().Exists(*full, call), false);
}

absl::StatusOr<TimeLeft> CacheBase::TtlOf(std::string_view key, const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kTtl, key);
  const absl::StatusOr<std::string> full = FullKey(key);
  if (!full.ok()) return observed.End(absl::StatusOr<TimeLeft>(full.status()));
  return observed.EndOr(core_->backend().Ttl(*full, call), TimeLeft::Missing());
}

// ---- Writing ----

absl::StatusOr<bool> CacheBase::WriteBytes(std::string_view key,
                                           const absl::StatusOr<std::optional<std::string>>& bytes,
                                           const SetOptions& options, coord::Ttl type_ttl,
                                           SetIf condition) const {
  Observed observed(*core_, CacheOperation::kSet, key);
  absl::StatusOr<bool> stored = [&]() -> absl::StatusOr<bool> {
    if (!bytes.ok()) return bytes.status();
    absl::StatusOr<std::string> prefix = Prefix();
    if (!prefix.ok()) return prefix.status();
    absl::StatusOr<std::string> full = CacheCore::KeyUnder(*prefix, key);
    if (!full.ok()) return full.status();
    absl::StatusOr<absl::Duration> ttl = core_->Length(options.ttl, type_ttl, /*jitter=*/true);
    if (!ttl.ok()) return ttl.status();
    internal::EnvelopeFields fields;
    fields.stale_for = options.stale_for;
    absl::StatusOr<internal::Generations> tags =
        core_->CurrentGenerations(*prefix, options.tags, options.call);
    if (!tags.ok()) return tags.status();
    fields.tags = *std::move(tags);
    core_->compute().Overtaken(*full);
    return core_->Store(*full, *bytes, std::move(fields), *ttl, condition, options.call);
  }();
  // Who adds is told that he was the first only if he was.
  return observed.EndOr(std::move(stored), condition == SetIf::kAlways);
}

absl::Status CacheBase::WriteManyBytes(const absl::StatusOr<std::vector<Item>>& items,
                                       const SetOptions& options, coord::Ttl type_ttl) const {
  Observed observed(*core_, CacheOperation::kSetMany, "", items.ok() ? items->size() : 0);
  absl::StatusOr<bool> stored = [&]() -> absl::StatusOr<bool> {
    if (!items.ok()) return items.status();
    absl::StatusOr<std::string> prefix = Prefix();
    if (!prefix.ok()) return prefix.status();
    internal::EnvelopeFields fields;
    fields.stale_for = options.stale_for;
    // All is checked before the first is sent.
    std::vector<std::string> full;
    std::vector<absl::Duration> lengths;
    for (const Item& item : *items) {
      absl::StatusOr<std::string> one = CacheCore::KeyUnder(*prefix, item.key);
      if (!one.ok()) return one.status();
      full.push_back(*std::move(one));
      absl::StatusOr<absl::Duration> ttl = core_->Length(options.ttl, type_ttl, /*jitter=*/true);
      if (!ttl.ok()) return ttl.status();
      lengths.push_back(*ttl);
    }
    if (items->empty()) return true;
    absl::StatusOr<internal::Generations> tags =
        core_->CurrentGenerations(*prefix, options.tags, options.call);
    if (!tags.ok()) return tags.status();
    fields.tags = *std::move(tags);
    return core_->StoreMany(full, *items, fields, lengths, options.call);
  }();
  return observed.EndOr(std::move(stored), true).status();
}

absl::StatusOr<bool> CacheBase::Delete(std::string_view key, const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kDelete, key);
  const absl::StatusOr<std::string> full = FullKey(key);
  if (!full.ok()) return observed.End(absl::StatusOr<bool>(full.status()));
  absl::StatusOr<std::int64_t> deleted = core_->Remove({&*full, 1}, call);
  if (!deleted.ok()) return observed.EndOr(absl::StatusOr<bool>(deleted.status()), false);
  return observed.End(absl::StatusOr<bool>(*deleted > 0));
}

absl::StatusOr<std::int64_t> CacheBase::DeleteMany(std::span<const std::string> keys,
                                                   const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kDeleteMany, "", keys.size());
  return observed.EndOr(
      [&]() -> absl::StatusOr<std::int64_t> {
        absl::StatusOr<std::string> prefix = Prefix();
        if (!prefix.ok()) return prefix.status();
        std::vector<std::string> full;
        for (const std::string& key : keys) {
          absl::StatusOr<std::string> one = CacheCore::KeyUnder(*prefix, key);
          if (!one.ok()) return one.status();
          full.push_back(*std::move(one));
        }
        return core_->Remove(full, call);
      }(),
      std::int64_t{0});
}

absl::StatusOr<bool> CacheBase::Expire(std::string_view key, coord::Ttl ttl,
                                       const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kExpire, key);
  return observed.EndOr(
      [&]() -> absl::StatusOr<bool> {
        absl::StatusOr<std::string> full = FullKey(key);
        if (!full.ok()) return full.status();
        absl::StatusOr<absl::Duration> length = core_->Length(ttl, {}, /*jitter=*/false);
        if (!length.ok()) return length.status();
        return core_->backend().Expire(*full, *length, call);
      }(),
      false);
}

absl::StatusOr<bool> CacheBase::Persist(std::string_view key, const CallOptions& call) const {
  return Expire(key, coord::Ttl::Never(), call);
}

// ---- Tags ----

absl::Status CacheBase::InvalidateTags(std::span<const std::string> tags,
                                       const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kInvalidateTags, tags.empty() ? "" : tags.front(),
                    tags.size());
  return observed
      .EndOr(
          [&]() -> absl::StatusOr<bool> {
            absl::StatusOr<std::string> prefix = Prefix();
            if (!prefix.ok()) return prefix.status();
            if (absl::Status ended = core_->InvalidateTags(*prefix, tags, call); !ended.ok()) {
              return ended;
            }
            return true;
          }(),
          true)
      .status();
}

absl::Status CacheBase::InvalidateTag(std::string_view tag, const CallOptions& call) const {
  const std::string one(tag);
  return InvalidateTags({&one, 1}, call);
}

// ---- GetOrCompute ----

absl::StatusOr<CacheBase::ReadState> CacheBase::ComputeBytes(std::string_view key, Factory factory,
                                                             const ComputeOptions& options,
                                                             coord::Ttl type_ttl,
                                                             Receive receive) const {
  Observed observed(*core_, CacheOperation::kGetOrCompute, key);
  return observed.End([&]() -> absl::StatusOr<ReadState> {
    absl::StatusOr<std::string> prefix = Prefix();
    if (!prefix.ok()) return prefix.status();
    absl::StatusOr<Read> read = core_->compute().GetOrCompute(*prefix, key, factory, options,
                                                              type_ttl, receive, observed.event());
    if (!read.ok()) return read.status();
    return ReadState{read->state, read->stale};
  }());
}

absl::StatusOr<CacheBase::ReadState> CacheBase::RefreshBytes(std::string_view key, Factory factory,
                                                             const ComputeOptions& options,
                                                             coord::Ttl type_ttl,
                                                             Receive receive) const {
  absl::StatusOr<std::string> prefix = Prefix();
  if (!prefix.ok()) return prefix.status();
  absl::StatusOr<Read> read = core_->compute().Refresh(*prefix, key, factory, options, type_ttl);
  if (!read.ok()) return read.status();
  if (read->state == Read::State::kHit) {
    if (absl::Status decoded = receive(read->payload); !decoded.ok()) return decoded;
  }
  return ReadState{read->state, read->stale};
}

// ---- The backend ----

absl::Status CacheBase::Ping(const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kPing, "");
  absl::Status usable = core_->Usable();
  return observed.End(usable.ok() ? core_->backend().Ping(call) : usable);
}

CacheHealth CacheBase::Health(const CallOptions& call) const {
  CacheHealth health;
  const absl::Time began = core_->clock().Now();
  health.status = Ping(call);
  health.latency = core_->clock().Now() - began;
  if (!core_->Usable().ok()) return health;
  health.backend = core_->backend().kind();
  if (const Client* client = core_->backend().client(); client != nullptr) {
    health.server = client->Health(call);
  }
  return health;
}

absl::Status CacheBase::Reconnect(const CallOptions& call) const {
  absl::Status usable = core_->Usable();
  return usable.ok() ? core_->backend().Reconnect(call) : usable;
}

void CacheBase::Close() const { core_->Close(); }
const CacheOptions& CacheBase::options() const { return core_->options(); }
Backend& CacheBase::backend() const { return core_->backend(); }
const Client* CacheBase::client() const {
  return core_->Usable().ok() ? core_->backend().client() : nullptr;
}
std::uint64_t CacheBase::hook_failures() const { return core_->hook_failures(); }
std::size_t CacheBase::recovering() const {
  return core_->recovery() == nullptr ? 0 : core_->recovery()->size();
}

}  // namespace coord
