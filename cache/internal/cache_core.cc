#include "cache/internal/cache_core.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "cache/internal/compute.h"
#include "cache/internal/primitive_key.h"
#include "cache/internal/recovery_queue.h"
#include "cache/internal/workers.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kMaxPrefix = 256;

// A generation that nobody has needed for so long is forgotten, and then what carries it is a miss.
// It is given the whole time again when half of it is over.
constexpr absl::Duration kGenerationTtl = absl::Hours(24 * 30);

absl::Status CheckPrefix(std::string_view prefix) {
  if (prefix.size() > kMaxPrefix) {
    return InvalidArgument(StrCat("the cache's prefix has ", prefix.size(), " bytes; at most ",
                                  kMaxPrefix, " are possible"));
  }
  if (prefix.find_first_of("{}") != std::string_view::npos) {
    return InvalidArgument(StrCat("the cache's prefix ", Quoted(prefix),
                                  " contains a brace, which means something to a Cluster"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const CacheOptions& options, const Signer* signer) {
  const auto wrong = [&](std::string_view what) {
    return InvalidArgument(StrCat("cache \"", options.name, "\": ", what));
  };
  if (options.name.empty()) return InvalidArgument("a cache needs a name that is not empty");
  if (!(options.ttl_jitter >= 0 && options.ttl_jitter < 1)) {
    return wrong("ttl_jitter must be from 0 to less than 1");
  }
  if (options.ttl.is_default()) {
    return wrong("its ttl cannot be Ttl::Default(): it is what that means");
  }
  if (options.max_value_bytes == 0) return wrong("max_value_bytes must be above 0");
  if (options.fallback.mode == Fallback::Mode::kCallback && !options.fallback.callback) {
    return wrong("its fallback is a callback, and there is none");
  }
  if (options.recovery.max_keys > 0 && options.recovery.retry_every <= absl::ZeroDuration()) {
    return wrong("recovery.retry_every must be above 0");
  }
  if (std::any_of(options.hooks.begin(), options.hooks.end(),
                  [](const auto& hook) { return hook == nullptr; })) {
    return wrong("one of its hooks is null");
  }
  if (options.prefix.literal().has_value()) {
    if (absl::Status prefix = CheckPrefix(*options.prefix.literal()); !prefix.ok()) return prefix;
  }
  return signer == nullptr ? absl::OkStatus() : signer->Check();
}

std::string DefaultPrefix(const Backend* backend) {
  if (backend == nullptr || backend->client() == nullptr) return "cache:";
  return StrCat(backend->client()->options().prefix, "cache:");
}

}  // namespace

CacheCore::CacheCore(std::shared_ptr<Backend> backend, CacheOptions options,
                     std::shared_ptr<const Signer> signer, IsNull nulls)
    : backend_(std::move(backend)),
      options_(std::move(options)),
      signer_(std::move(signer)),
      is_null_(nulls),
      valid_(backend_ == nullptr ? InvalidArgument("a cache needs a backend, and got null")
                                 : CheckOptions(options_, signer_.get())),
      default_prefix_(DefaultPrefix(backend_.get())),
      workers_(std::make_unique<Workers>(options_.executor)),
      recovery_(options_.recovery.max_keys > 0 ? std::make_unique<RecoveryQueue>(*this) : nullptr),
      compute_(std::make_unique<Compute>(*this)) {}

CacheCore::~CacheCore() { Close(); }

absl::Status CacheCore::Usable() const {
  if (!valid_.ok()) return valid_;
  if (!closed_.load(std::memory_order_relaxed)) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("the cache \"", options_.name, "\" is closed"));
}

void CacheCore::Close() {
  if (closed_.exchange(true)) return;
  compute_->Close();
  if (recovery_ != nullptr) recovery_->Close();
  workers_->Close();
  if (backend_.use_count() == 1) backend_->Close();
}

absl::StatusOr<std::string> CacheCore::Prefix() const {
  if (absl::Status usable = Usable(); !usable.ok()) return usable;
  if (options_.prefix.literal().has_value()) return *options_.prefix.literal();
  if (!options_.prefix.ask()) return default_prefix_;
  absl::StatusOr<std::string> prefix = absl::UnknownError("");
  try {
    prefix = options_.prefix.ask()();
  } catch (const std::exception& error) {
    prefix = absl::InternalError(std::string("it threw: ") + error.what());
  } catch (...) {
    prefix = absl::InternalError("it threw something that is no std::exception");
  }
  if (!prefix.ok()) {
    return Annotate(prefix.status(), StrCat("the prefix of cache \"", options_.name, "\""));
  }
  if (absl::Status valid = CheckPrefix(*prefix); !valid.ok()) return valid;
  return prefix;
}

absl::StatusOr<std::string> CacheCore::KeyUnder(std::string_view prefix, std::string_view key) {
  if (key.empty()) return InvalidArgument("a cache's key must not be empty");
  if (key.starts_with(kOwn)) {
    return InvalidArgument(StrCat("the key ", Quoted(key), " begins with \"", kOwn,
                                  "\", which the cache uses itself"));
  }
  std::string full = StrCat(prefix, key);
  if (full.size() > Backend::kMaxKey) {
    return InvalidArgument(StrCat("the key ", Quoted(key), " has ", full.size(),
                                  " bytes with its prefix; at most ", Backend::kMaxKey,
                                  " are possible: see KeyBuilder"));
  }
  if (IsPrimitiveKey(full)) {
    return InvalidArgument(
        StrCat("the key ", Quoted(full),
               " reads like that of a lock or another object of coord's, which a "
               "cache must not touch"));
  }
  return full;
}

std::string CacheCore::OwnKey(std::string_view prefix, std::string_view part) {
  return StrCat(prefix, kOwn, part);
}

absl::StatusOr<absl::Duration> CacheCore::Length(coord::Ttl ttl, coord::Ttl type_ttl,
                                                 bool jitter) const {
  if (ttl.is_default()) ttl = type_ttl;
  if (ttl.is_default()) ttl = options_.ttl;
  absl::StatusOr<absl::Duration> length = ttl.Resolve(Calendar());
  if (!length.ok() || !jitter || options_.ttl_jitter == 0) return length;
  return Jittered(*length, options_.ttl_jitter, Random());
}

absl::Status CacheCore::CheckTag(std::string_view tag) {
  if (!tag.empty() && tag.size() <= kMaxTag && tag.front() != '#') return absl::OkStatus();
  return InvalidArgument(StrCat("the tag ", Quoted(tag), " must have 1 to ", kMaxTag,
                                " bytes and not begin with '#'"));
}

// ---- Writing ----

absl::StatusOr<std::string> CacheCore::Sealed(std::string_view full,
                                              const std::optional<std::string>& bytes,
                                              const EnvelopeFields& fields) const {
  EnvelopeFields with_null = fields;
  with_null.null = !bytes.has_value();
  absl::StatusOr<std::string> sealed = Seal(full, bytes.has_value() ? *bytes : std::string(),
                                            with_null, {options_.compression, signer_.get()});
  if (!sealed.ok()) return sealed.status();
  const std::size_t size = std::max(sealed->size(), bytes.has_value() ? bytes->size() : 0);
  if (size > options_.max_value_bytes) {
    return InvalidArgument(StrCat("the value for ", Quoted(full), " has ", size,
                                  " bytes; the cache takes at most ", options_.max_value_bytes));
  }
  return sealed;
}

absl::StatusOr<bool> CacheCore::Store(const std::string& full,
                                      const std::optional<std::string>& bytes,
                                      EnvelopeFields fields, absl::Duration ttl, SetIf condition,
                                      const CallOptions& call) const {
  // What lives for ever is never stale.
  if (ttl == absl::InfiniteDuration()) fields.stale_for = absl::ZeroDuration();
  absl::StatusOr<std::string> sealed = Sealed(full, bytes, fields);
  if (!sealed.ok()) return sealed.status();
  const absl::Duration kept = ttl + fields.stale_for;
  absl::StatusOr<bool> stored = backend_->Set({full, *sealed, kept}, condition, call);
  if (recovery_ != nullptr) {
    if (stored.ok()) {
      recovery_->Overtaken(full);
    } else if (condition == SetIf::kAlways && IsAway(stored.status())) {
      recovery_->Failed(full, *std::move(sealed), kept);
    }
  }
  return stored;
}

absl::StatusOr<Generations> CacheCore::CurrentGenerations(std::string_view prefix,
                                                          std::span<const std::string> tags,
                                                          const CallOptions& call) const {
  Generations generations;
  if (tags.empty() && !options_.clear_by_epoch) return generations;
  for (const std::string& tag : tags) {
    if (absl::Status valid = CheckTag(tag); !valid.ok()) return valid;
  }
  const std::vector<std::string> keys = TagKeys(prefix, tags);
  absl::StatusOr<std::vector<std::optional<Stored>>> stored =
      backend_->GetMany(keys, Want::kValueAndTtl, call);
  if (!stored.ok()) return stored.status();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string tag = i < tags.size() ? tags[i] : std::string(kEpoch);
    std::optional<Stored>& found = (*stored)[i];
    if (found.has_value()) {
      if (found->left.value_or(kGenerationTtl) < kGenerationTtl / 2) {
        // A failure only means that it may be forgotten earlier.
        (void)backend_->Expire(keys[i], kGenerationTtl, call).status();
      }
      generations.emplace_back(tag, std::move(found->value));
      continue;
    }
    std::string fresh = NewOwnerId("").substr(0, 32);
    if (fresh.size() != 32) {
      return MakeStatus(absl::StatusCode::kUnavailable, "the system gives no random bits");
    }
    absl::StatusOr<bool> made =
        backend_->Set({keys[i], fresh, kGenerationTtl}, SetIf::kAbsent, call);
    if (!made.ok()) return made.status();
    if (!*made) {
      absl::StatusOr<std::optional<Stored>> others = backend_->Get(keys[i], Want::kValue, call);
      if (!others.ok()) return others.status();
      // Made and invalidated again just now: what is made from here on is a miss, which is right.
      fresh = others->has_value() ? std::move((*others)->value) : std::move(fresh);
    }
    generations.emplace_back(tag, std::move(fresh));
  }
  return generations;
}

absl::Status CacheCore::InvalidateTags(std::string_view prefix, std::span<const std::string> tags,
                                       const CallOptions& call) const {
  std::vector<std::string> keys;
  for (const std::string& tag : tags) {
    if (absl::Status valid = CheckTag(tag); !valid.ok()) return valid;
    keys.push_back(OwnKey(prefix, StrCat("tag:", tag)));
  }
  // Without its generation an entry is a miss, and the next generation is another one.
  return Remove(keys, call).status();
}

absl::Status CacheCore::EndEpoch(std::string_view prefix, const CallOptions& call) const {
  const std::string key = OwnKey(prefix, "epoch");
  return Remove({&key, 1}, call).status();
}

absl::StatusOr<bool> CacheCore::StoreMany(std::span<const std::string> full,
                                          std::span<const CacheItem> items,
                                          const EnvelopeFields& fields,
                                          std::span<const absl::Duration> lengths,
                                          const CallOptions& call) const {
  std::vector<std::string> sealed;
  std::vector<Write> writes;
  for (std::size_t i = 0; i < full.size(); ++i) {
    EnvelopeFields own = fields;
    if (lengths[i] == absl::InfiniteDuration()) own.stale_for = absl::ZeroDuration();
    absl::StatusOr<std::string> one = Sealed(full[i], items[i].bytes, own);
    if (!one.ok()) return one.status();
    sealed.push_back(*std::move(one));
    writes.push_back({full[i], {}, lengths[i] + own.stale_for});
  }
  for (std::size_t i = 0; i < full.size(); ++i) {
    writes[i].value = sealed[i];
    compute_->Overtaken(full[i]);
  }
  if (absl::Status stored = backend_->SetMany(writes, call); !stored.ok()) {
    if (recovery_ != nullptr && IsAway(stored)) {
      for (std::size_t i = 0; i < full.size(); ++i) {
        recovery_->Failed(full[i], std::move(sealed[i]), writes[i].ttl);
      }
    }
    return stored;
  }
  if (recovery_ != nullptr) {
    for (const std::string& key : full) recovery_->Overtaken(key);
  }
  return true;
}

absl::StatusOr<std::int64_t> CacheCore::Remove(std::span<const std::string> full,
                                               const CallOptions& call) const {
  if (full.empty()) return 0;
  for (const std::string& key : full) compute_->Overtaken(key);
  absl::StatusOr<std::int64_t> removed = 0;
  if (full.size() == 1) {
    const absl::StatusOr<bool> one = backend_->Delete(full.front(), call);
    removed = one.ok() ? absl::StatusOr<std::int64_t>(*one ? 1 : 0) : one.status();
  } else {
    removed = backend_->DeleteMany(full, call);
  }
  if (recovery_ != nullptr) {
    for (const std::string& key : full) {
      if (removed.ok()) {
        recovery_->Overtaken(key);
      } else if (IsAway(removed.status())) {
        recovery_->Failed(key, std::nullopt, absl::InfiniteDuration());
      }
    }
  }
  return removed;
}

absl::Status CacheCore::NothingOwned() const {
  return MakeStatus(
      absl::StatusCode::kFailedPrecondition,
      StrCat("the cache \"", options_.name,
             "\" has no prefix, so it cannot tell its keys from others: delete by a pattern that "
             "names yours; to empty a whole database there is FLUSHDB"));
}

// ---- Faults ----

bool CacheCore::IsAway(const absl::Status& error) {
  return coord::IsUnavailable(error) ||
         (IsOutcomeUnknown(error) && error.code() != absl::StatusCode::kCancelled);
}

bool CacheCore::FallsBack(const absl::Status& error) const {
  return options_.fallback.mode != Fallback::Mode::kPropagate && IsAway(error);
}

std::optional<std::string> CacheCore::AskFallback(CacheOperation operation, std::string_view key,
                                                  const absl::Status& error) const {
  if (options_.fallback.mode != Fallback::Mode::kCallback) return std::nullopt;
  try {
    return options_.fallback.callback(ToString(operation), key, error);
  } catch (const std::exception& thrown) {
    Report(absl::InternalError(
        StrCat("the fallback of cache \"", options_.name, "\" threw: ", thrown.what())));
  } catch (...) {
    Report(absl::InternalError(StrCat("the fallback of cache \"", options_.name, "\" threw")));
  }
  return std::nullopt;
}

void CacheCore::Report(const absl::Status& problem) const {
  if (!options_.on_problem) return;
  try {
    options_.on_problem(problem);
  } catch (...) {
    // There is nobody left to tell.
  }
}

// ---- What it stands on ----

absl::StatusOr<const Client*> CacheCore::Server(std::string_view what) const {
  if (absl::Status usable = Usable(); !usable.ok()) return usable;
  if (backend_->client() != nullptr) return backend_->client();
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("the cache \"", options_.name, "\" is kept by a backend of kind \"",
                           backend_->kind(), "\"; ", what, " need a Redis"));
}

absl::Time CacheCore::Calendar() const {
  try {
    if (options_.calendar) return options_.calendar();
  } catch (...) {
    Report(absl::InternalError(StrCat("the calendar of cache \"", options_.name, "\" threw")));
  }
  return absl::Now();
}

double CacheCore::Random() const {
  MutexLock lock(random_mutex_);
  return jitter_.Next();
}

void CacheCore::Tell(absl::FunctionRef<void(CacheHook&)> call) const {
  for (const auto& hook : options_.hooks) {
    try {
      call(*hook);
    } catch (const std::exception& error) {
      hook_failures_.fetch_add(1, std::memory_order_relaxed);
      Report(absl::InternalError(
          StrCat("a hook of cache \"", options_.name, "\" threw: ", error.what())));
    } catch (...) {
      hook_failures_.fetch_add(1, std::memory_order_relaxed);
      Report(absl::InternalError(StrCat("a hook of cache \"", options_.name, "\" threw")));
    }
  }
}

}  // namespace coord::internal
