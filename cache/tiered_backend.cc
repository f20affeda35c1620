#include "cache/tiered_backend.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "cache/internal/fill_marks.h"
#include "cache/internal/glob.h"
#include "coord/internal/fork.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::FillMarks;
using internal::InvalidArgument;
using internal::StrCat;

absl::Status CheckKey(std::string_view key) {
  if (!key.empty() && key.size() <= Backend::kMaxKey) return absl::OkStatus();
  return InvalidArgument(
      StrCat("a key has ", key.size(), " bytes; it must have 1 to ", Backend::kMaxKey));
}

// What must be done though the call has been given up.
CallOptions Unstoppable(const CallOptions& call) { return {.timeout = call.timeout, .stop = {}}; }

}  // namespace

class TieredBackend::Rep {
 public:
  explicit Rep(std::vector<Tier> given) : tiers(std::move(given)), counts(tiers.size()) {}

  struct Counts {
    std::atomic<std::uint64_t> hits = 0;
    std::atomic<std::uint64_t> failures = 0;
  };

  absl::Status Usable() const {
    if (internal::ForkGeneration() != generation) {
      return internal::MakeStatus(absl::StatusCode::kFailedPrecondition,
                                  "these tiers were made by the parent of this process; make "
                                  "others after fork");
    }
    if (closed.load(std::memory_order_acquire)) {
      return internal::MakeStatus(absl::StatusCode::kFailedPrecondition, "the cache is closed");
    }
    return absl::OkStatus();
  }
  absl::Status UsableFor(std::string_view key) const {
    if (absl::Status usable = Usable(); !usable.ok()) return usable;
    return CheckKey(key);
  }
  absl::Status UsableFor(std::span<const std::string> keys) const {
    if (absl::Status usable = Usable(); !usable.ok()) return usable;
    for (const std::string& key : keys) {
      if (absl::Status good = CheckKey(key); !good.ok()) return good;
    }
    return absl::OkStatus();
  }

  std::size_t uppers() const { return tiers.size() - 1; }
  Backend& authority() { return *tiers.back().backend; }
  bool Count(std::size_t tier, bool ok) {
    if (!ok) counts[tier].failures.fetch_add(1, std::memory_order_relaxed);
    return ok;
  }
  // The authority's answer, counted.
  template <typename Result>
  Result Counted(Result result) {
    Count(uppers(), result.ok());
    return result;
  }

  // How long what lives for `left` more may stay in an upper tier; zero: it is not worth it.
  absl::Duration TtlIn(std::size_t tier, std::optional<absl::Duration> left) const {
    // One that has not looked may be about to expire.
    if (!left) return absl::ZeroDuration();
    const absl::Duration ttl = std::min(tiers[tier].max_ttl, *left);
    return ttl == absl::InfiniteDuration() ? ttl : absl::Floor(ttl, absl::Milliseconds(1));
  }

  // Lets go of what readers have on their way, and of what is in the upper tiers. Before each tier
  // once more: a reader may have found it in the tier below before it went from there.
  void DropFromUppers(std::span<const std::string> keys, const CallOptions& call) {
    if (keys.empty()) return;
    for (std::size_t tier = uppers(); tier-- > 0;) {
      for (const std::string& key : keys) marks.Void(key);
      Count(tier, tiers[tier].backend->DeleteMany(keys, Unstoppable(call)).ok());
    }
  }
  void DropFromUppers(std::string_view key, const CallOptions& call) {
    const std::string copy(key);
    DropFromUppers(std::span<const std::string>(&copy, 1), call);
  }
  // All that match, or all where `pattern` is empty.
  void DropMatchingFromUppers(std::string_view pattern, const CallOptions& call) {
    for (std::size_t tier = uppers(); tier-- > 0;) {
      marks.VoidAll();
      Backend& backend = *tiers[tier].backend;
      const CallOptions options = Unstoppable(call);
      Count(tier, pattern.empty() ? backend.Clear(options).ok()
                                  : backend.DeleteMatching(pattern, options).ok());
    }
  }

  // What the upper tiers from `first` on have for the keys that have no answer yet; `on_hit` says
  // which tier answered which.
  template <typename OnHit>
  void AskUppers(std::size_t first, std::size_t last, Want want, const CallOptions& call,
                 std::span<const std::string> keys, std::vector<std::optional<Stored>>& answers,
                 OnHit on_hit) {
    for (std::size_t tier = first; tier < last; ++tier) {
      std::vector<std::string> missing;
      std::vector<std::size_t> places;
      for (std::size_t i = 0; i < keys.size(); ++i) {
        if (answers[i]) continue;
        missing.push_back(keys[i]);
        places.push_back(i);
      }
      if (missing.empty()) return;
      auto got = tiers[tier].backend->GetMany(missing, want, call);
      if (!Count(tier, got.ok() && got->size() == missing.size())) continue;
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (!(*got)[i]) continue;
        counts[tier].hits.fetch_add(1, std::memory_order_relaxed);
        answers[places[i]] = std::move((*got)[i]);
        on_hit(tier, places[i]);
      }
    }
  }

  // `top_asked`: the first tier has been, and had nothing.
  absl::StatusOr<std::vector<std::optional<Stored>>> Read(std::span<const std::string> keys,
                                                          Want want, const CallOptions& call,
                                                          bool top_asked);

  const std::uint64_t generation = internal::ForkGeneration();
  const std::vector<Tier> tiers;
  std::vector<Counts> counts;
  std::atomic<std::uint64_t> fills = 0;
  std::atomic<std::uint64_t> fills_dropped = 0;
  std::atomic<bool> closed = false;
  FillMarks marks;
};

absl::StatusOr<std::unique_ptr<TieredBackend>> TieredBackend::Make(std::vector<Tier> tiers) {
  if (tiers.empty()) return InvalidArgument("tiers need at least one backend");
  for (const Tier& tier : tiers) {
    if (tier.backend == nullptr) return InvalidArgument("a tier has no backend");
    const bool whole = tier.max_ttl == absl::InfiniteDuration() ||
                       tier.max_ttl % absl::Milliseconds(1) == absl::ZeroDuration();
    if (tier.max_ttl <= absl::ZeroDuration() || !whole) {
      return InvalidArgument(StrCat("max_ttl of a tier is ", internal::ToText(tier.max_ttl),
                                    "; it must be above 0, in whole milliseconds"));
    }
  }
  return std::unique_ptr<TieredBackend>(new TieredBackend(std::make_unique<Rep>(std::move(tiers))));
}

TieredBackend::TieredBackend(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
TieredBackend::~TieredBackend() { Close(); }

absl::StatusOr<std::optional<Stored>> TieredBackend::Get(std::string_view key, Want want,
                                                         const CallOptions& call) {
  // What most calls come to.
  if (want == Want::kValue && rep_->uppers() > 0) {
    if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
    auto top = rep_->tiers[0].backend->Get(key, Want::kValue, call);
    if (rep_->Count(0, top.ok()) && top->has_value()) {
      rep_->counts[0].hits.fetch_add(1, std::memory_order_relaxed);
      return top;
    }
  }
  if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
  const std::string copy(key);
  auto many = rep_->Read({&copy, 1}, want, call, want == Want::kValue);
  if (!many.ok()) return many.status();
  return std::move((*many)[0]);
}

absl::StatusOr<std::vector<std::optional<Stored>>> TieredBackend::Rep::Read(
    std::span<const std::string> keys, Want want, const CallOptions& call, bool top_asked) {
  std::vector<std::optional<Stored>> answers(keys.size());
  if (keys.empty()) return answers;
  const std::size_t bottom = uppers();
  const bool truth = want == Want::kValueAndTtl;  // as only the authority knows it
  if (!truth && !top_asked && bottom > 0) {
    AskUppers(0, 1, Want::kValue, call, keys, answers, [](std::size_t, std::size_t) {});
  }
  // Those of the others, before anybody below is asked.
  std::vector<std::string> missing;
  std::vector<std::size_t> places;
  std::vector<FillMarks::Mark> placed;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (answers[i]) continue;
    missing.push_back(keys[i]);
    places.push_back(i);
    placed.push_back(bottom > 0 ? marks.Place(keys[i]) : 0);
  }
  if (missing.empty()) return answers;
  std::vector<std::optional<Stored>> found(missing.size());
  std::vector<std::size_t> from(missing.size(), 0);  // which tier; 0: there is nothing to fill
  const auto on_hit = [&](std::size_t tier, std::size_t i) { from[i] = tier; };
  const Want full = bottom > 0 ? Want::kValueAndTtl : want;
  if (!truth) AskUppers(1, bottom, full, call, missing, found, on_hit);
  std::vector<std::string> asked;
  std::vector<std::size_t> asked_places;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (found[i]) continue;
    asked.push_back(missing[i]);
    asked_places.push_back(i);
  }
  absl::Status failed;
  if (!asked.empty()) {
    auto got = Counted(authority().GetMany(asked, full, call));
    failed = got.status();
    for (std::size_t i = 0; got.ok() && i < asked.size(); ++i) {
      if (!(*got)[i]) continue;
      counts[bottom].hits.fetch_add(1, std::memory_order_relaxed);
      found[asked_places[i]] = std::move((*got)[i]);
      from[asked_places[i]] = bottom;
    }
    if (!failed.ok() && truth) {
      AskUppers(0, bottom, full, call, missing, found, on_hit);
      if (std::all_of(found.begin(), found.end(),
                      [](const auto& one) { return one.has_value(); })) {
        failed = absl::OkStatus();
      }
    }
  }
  if (bottom > 0) {
    std::uint64_t wanted = 0;
    for (std::size_t tier : from) wanted += tier > 0;
    std::uint64_t filled = 0;
    marks.TakeManyIfValid(missing, placed, [&](const std::vector<bool>& valid) {
      for (std::size_t tier = bottom; tier-- > 0;) {
        std::vector<Write> writes;
        for (std::size_t i = 0; i < missing.size(); ++i) {
          if (!valid[i] || !found[i] || from[i] <= tier) continue;
          const absl::Duration ttl = TtlIn(tier, found[i]->left);
          if (ttl > absl::ZeroDuration()) writes.push_back({missing[i], found[i]->value, ttl});
        }
        if (!writes.empty()) {
          Count(tier, tiers[tier].backend->SetMany(writes, call).ok());
        }
      }
      for (std::size_t i = 0; i < missing.size(); ++i) filled += valid[i] && from[i] > 0;
    });
    fills.fetch_add(filled, std::memory_order_relaxed);
    fills_dropped.fetch_add(wanted - filled, std::memory_order_relaxed);
  }
  if (!failed.ok()) return failed;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (found[i] && want == Want::kValue) found[i]->left.reset();
    answers[places[i]] = std::move(found[i]);
  }
  return answers;
}

absl::StatusOr<std::vector<std::optional<Stored>>> TieredBackend::GetMany(
    std::span<const std::string> keys, Want want, const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(keys); !usable.ok()) return usable;
  return rep_->Read(keys, want, call, false);
}

absl::StatusOr<bool> TieredBackend::Set(const Write& write, SetIf condition,
                                        const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(write.key); !usable.ok()) return usable;
  if (rep_->uppers() == 0) return rep_->Counted(rep_->authority().Set(write, condition, call));
  // Other writers that are on their way void this mark, as this one voids theirs.
  rep_->marks.Void(write.key);
  const FillMarks::Mark mark = rep_->marks.Place(write.key);
  const auto written = rep_->Counted(rep_->authority().Set(write, condition, call));
  // Where it found one, the upper tiers may have it.
  if (written.ok() && !*written && condition == SetIf::kAbsent) {
    rep_->marks.Drop(write.key, mark);
    return written;
  }
  bool all = written.ok() && *written;
  if (all) {
    all = rep_->marks.VoidAndInsert(write.key, mark, [&] {
      for (std::size_t tier = rep_->uppers(); tier-- > 0 && all;) {
        Write here = write;
        here.ttl = rep_->TtlIn(tier, write.ttl);
        all = rep_->Count(
            tier, rep_->tiers[tier].backend->Set(here, SetIf::kAlways, Unstoppable(call)).ok());
      }
    }) && all;
  }
  if (!all) rep_->DropFromUppers(write.key, call);
  return written;
}

absl::Status TieredBackend::SetMany(std::span<const Write> writes, const CallOptions& call) {
  std::vector<std::string> keys;
  for (const Write& write : writes) keys.emplace_back(write.key);
  if (absl::Status usable = rep_->UsableFor(keys); !usable.ok()) return usable;
  const absl::Status written = rep_->Counted(rep_->authority().SetMany(writes, call));
  rep_->DropFromUppers(keys, call);
  return written;
}

absl::StatusOr<bool> TieredBackend::Delete(std::string_view key, const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
  rep_->DropFromUppers(key, call);
  const auto deleted = rep_->Counted(rep_->authority().Delete(key, call));
  rep_->DropFromUppers(key, call);
  return deleted;
}

absl::StatusOr<std::int64_t> TieredBackend::DeleteMany(std::span<const std::string> keys,
                                                       const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(keys); !usable.ok()) return usable;
  rep_->DropFromUppers(keys, call);
  const auto deleted = rep_->Counted(rep_->authority().DeleteMany(keys, call));
  rep_->DropFromUppers(keys, call);
  return deleted;
}

absl::StatusOr<bool> TieredBackend::Exists(std::string_view key, const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
  return rep_->Counted(rep_->authority().Exists(key, call));
}

absl::StatusOr<TimeLeft> TieredBackend::Ttl(std::string_view key, const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
  return rep_->Counted(rep_->authority().Ttl(key, call));
}

absl::StatusOr<bool> TieredBackend::Expire(std::string_view key, absl::Duration ttl,
                                           const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
  const auto done = rep_->Counted(rep_->authority().Expire(key, ttl, call));
  // It may live for less than what they have been told.
  rep_->DropFromUppers(key, call);
  return done;
}

absl::StatusOr<bool> TieredBackend::Persist(std::string_view key, const CallOptions& call) {
  if (absl::Status usable = rep_->UsableFor(key); !usable.ok()) return usable;
  const auto done = rep_->Counted(rep_->authority().Persist(key, call));
  if (!done.ok() || !*done) rep_->DropFromUppers(key, call);
  return done;
}

absl::StatusOr<ScanPage> TieredBackend::Scan(std::string_view pattern, std::string_view cursor,
                                             std::size_t count, const CallOptions& call) {
  if (absl::Status usable = rep_->Usable(); !usable.ok()) return usable;
  return rep_->Counted(rep_->authority().Scan(pattern, cursor, count, call));
}

absl::StatusOr<std::int64_t> TieredBackend::DeleteMatching(std::string_view pattern,
                                                           const CallOptions& call) {
  if (absl::Status usable = rep_->Usable(); !usable.ok()) return usable;
  if (internal::NamesNoText(pattern)) {
    return InvalidArgument("the pattern names everything; Clear() deletes everything");
  }
  rep_->DropMatchingFromUppers(pattern, call);
  const auto deleted = rep_->Counted(rep_->authority().DeleteMatching(pattern, call));
  rep_->DropMatchingFromUppers(pattern, call);
  return deleted;
}

absl::Status TieredBackend::Clear(const CallOptions& call) {
  if (absl::Status usable = rep_->Usable(); !usable.ok()) return usable;
  rep_->DropMatchingFromUppers("", call);
  const absl::Status cleared = rep_->Counted(rep_->authority().Clear(call));
  rep_->DropMatchingFromUppers("", call);
  return cleared;
}

void TieredBackend::Forget(std::string_view key) {
  if (!rep_->UsableFor(key).ok()) return;
  rep_->authority().Forget(key);
  rep_->DropFromUppers(key, {});
}

absl::Status TieredBackend::Ping(const CallOptions& call) {
  if (absl::Status usable = rep_->Usable(); !usable.ok()) return usable;
  return rep_->Counted(rep_->authority().Ping(call));
}

absl::Status TieredBackend::Reconnect(const CallOptions& call) {
  if (absl::Status usable = rep_->Usable(); !usable.ok()) return usable;
  for (std::size_t tier = 0; tier < rep_->uppers(); ++tier) {
    rep_->Count(tier, rep_->tiers[tier].backend->Reconnect(call).ok());
  }
  return rep_->Counted(rep_->authority().Reconnect(call));
}

void TieredBackend::Close() {
  if (internal::ForkGeneration() != rep_->generation) return;
  if (rep_->closed.exchange(true, std::memory_order_acq_rel)) return;
  for (const Tier& tier : rep_->tiers) {
    if (tier.owned) tier.backend->Close();
  }
}

const Client* TieredBackend::client() const {
  for (auto tier = rep_->tiers.rbegin(); tier != rep_->tiers.rend(); ++tier) {
    if (const Client* client = tier->backend->client(); client != nullptr) return client;
  }
  return nullptr;
}

std::optional<Backend::Usage> TieredBackend::usage() const { return rep_->authority().usage(); }

TieredBackend::Stats TieredBackend::stats() const {
  Stats stats;
  for (const Rep::Counts& tier : rep_->counts) {
    stats.tiers.push_back({.hits = tier.hits.load(std::memory_order_relaxed),
                           .failures = tier.failures.load(std::memory_order_relaxed)});
  }
  stats.fills = rep_->fills.load(std::memory_order_relaxed);
  stats.fills_dropped = rep_->fills_dropped.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace coord
