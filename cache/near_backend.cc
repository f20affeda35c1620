#include "cache/near_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "cache/internal/expiry_clock.h"
#include "cache/internal/glob.h"
#include "coord/client.h"
#include "coord/deployment/key_watch.h"
#include "coord/deployment/session.h"
#include "coord/internal/fork.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord {

using internal::InvalidArgument;
using internal::KeyWatch;
using internal::Mutex;
using internal::MutexLock;
using internal::StrCat;

// The copies, and who is on the way to make some.
//
// A read from the remote leaves a mark before it is sent, and its value is kept only if the mark is
// still there when it comes back: a change that the value may not show yet removes it, be it heard
// from the server or made here. Readers of one key share a mark as long as it is untouched.
//
// Two readers under one mark can bring back different values: a change lies between them that has
// not been heard yet, and nobody can tell which is the newer. So a mark remembers what value its
// readers have returned; another one ends the mark and drops the copy. With that, a copy always has
// the value of all reads that have returned since its mark was made, and nobody who has seen a
// value finds an older copy. Readers whose mark is gone are held to the same: the copy they find is
// either of their value, or dropped.
//
// Copies are of one epoch of the watch (see KeyWatch). They are not dropped by the gap itself but
// by the first who looks after it; until then nobody believes them.
class NearBackend::Copies final : public KeyWatch::Listener {
 public:
  Copies(std::shared_ptr<Backend> remote, std::shared_ptr<Backend> local, NearOptions options)
      : remote_(std::move(remote)),
        local_(std::move(local)),
        client_(*remote_->client()),
        watch_(internal::SessionOf(client_).key_watch()),
        clock_(internal::SessionOf(client_).clock()),
        until_(&clock_),
        fork_generation_(internal::ForkGeneration()),
        prefixes_(internal::CoveringPrefixes(std::move(options.prefixes))),
        max_ttl_(options.max_local_ttl) {
    watch_.Add(*this, prefixes_);
  }
  ~Copies() override { Close(); }

  Backend& remote() const { return *remote_; }
  Backend& local() const { return *local_; }
  KeyWatch& watch() const { return watch_; }
  bool forked() const { return internal::ForkGeneration() != fork_generation_; }

  bool Covers(std::string_view key) const {
    for (const std::string& prefix : prefixes_) {
      if (key.starts_with(prefix)) return !forked();
    }
    return false;
  }

  // Whether copies may be given out now. Each time it is asked by who has not looked before.
  bool Fresh() {
    const std::uint64_t epoch = watch_.epoch();
    if (clean_.load(std::memory_order_acquire) != epoch) {
      DropOld(epoch);
      if (clean_.load(std::memory_order_acquire) != epoch) return false;
    }
    return KeyWatch::IsActive(epoch) && !until_.Passed(watch_.vouched_until());
  }
  bool active() const {
    return !forked() && !closed_.load() && KeyWatch::IsActive(watch_.epoch()) &&
           !until_.Passed(watch_.vouched_until());
  }

  // A copy, if there is one.
  absl::StatusOr<std::optional<Stored>> GetLocal(std::string_view key) {
    absl::StatusOr<std::optional<Stored>> found = local_->Get(key);
    if (found.ok() && found->has_value()) {
      Count(&Counts::local_hits);
      (*found)->left = std::nullopt;  // of the copy
    }
    return found;
  }

  // What is known when a read is sent.
  struct Ticket {
    std::uint64_t mark = 0;
    std::uint64_t epoch = 0;
    absl::Time sent;
  };
  Ticket Depart(std::string_view key);
  // `stored`: null when the read has failed; else what it returns.
  void Arrive(std::string_view key, const Ticket& ticket, const std::optional<Stored>* stored);

  void Drop(std::string_view key);
  void DropMatching(std::string_view pattern);
  void DropAll();
  void OnInvalidate(std::string_view key) override {
    if (!Covers(key)) return;
    Count(&Counts::invalidations);
    Drop(key);
  }

  // Nothing is told of afterwards, and nothing kept.
  void Close() {
    if (forked()) return;
    {
      MutexLock lock(dropping_);
      if (closed_.exchange(true)) return;
      clean_.store(0, std::memory_order_release);
    }
    watch_.Remove(*this);
  }

  std::optional<Usage> usage() const {
    if (forked() || !KeyWatch::IsActive(watch_.epoch()) || clean_.load() != watch_.epoch()) {
      return Usage{};
    }
    return local_->usage();
  }
  Stats stats() const;

 private:
  struct Value {
    bool there = false;
    std::size_t size = 0;
    std::size_t hash = 0;
    friend bool operator==(const Value&, const Value&) = default;
  };
  struct Mark {
    std::uint64_t number = 0;
    int readers = 0;
    bool copied = false;              // by one of its readers
    std::optional<Value> returned{};  // by its readers, and by others since it was made
  };
  struct alignas(64) Shard {
    Mutex mutex;
    std::uint64_t last ABSL_GUARDED_BY(mutex) = 0;
    absl::flat_hash_map<std::string, Mark> marks ABSL_GUARDED_BY(mutex);
  };
  struct alignas(64) Counts {
    std::atomic<std::uint64_t> local_hits{0}, remote_hits{0}, misses{0}, invalidations{0},
        refused{0};
  };

  static Value ValueOf(const std::optional<Stored>& stored) {
    if (!stored) return {};
    return {true, stored->value.size(), std::hash<std::string_view>()(stored->value)};
  }
  Shard& ShardOf(std::string_view key) {
    return shards_[std::hash<std::string_view>()(key) % shards_.size()];
  }
  void Count(std::atomic<std::uint64_t> Counts::*what) {
    const std::size_t stripe = std::hash<std::thread::id>()(std::this_thread::get_id());
    (counts_[stripe % counts_.size()].*what).fetch_add(1, std::memory_order_relaxed);
  }
  // Makes the copies those of `epoch`: none yet.
  void DropOld(std::uint64_t epoch);
  // With the shard's lock held. False: no copy is there of it now.
  bool Keep(std::string_view key, const Ticket& ticket, const Stored& stored);

  const std::shared_ptr<Backend> remote_;
  const std::shared_ptr<Backend> local_;
  const Client client_;  // so that the watch lives
  KeyWatch& watch_;
  const Clock& clock_;
  const internal::ExpiryClock until_;
  const std::uint64_t fork_generation_;
  const std::vector<std::string> prefixes_;
  const absl::Duration max_ttl_;

  // The epoch that the copies are of. Written under dropping_.
  std::atomic<std::uint64_t> clean_{0};
  std::atomic<bool> closed_{false};
  std::atomic<std::uint64_t> gaps_{0};
  Mutex dropping_;
  std::array<Shard, 64> shards_;
  std::array<Counts, 16> counts_;
};

void NearBackend::Copies::DropOld(std::uint64_t epoch) {
  MutexLock lock(dropping_);
  const std::uint64_t clean = clean_.load(std::memory_order_relaxed);
  if (closed_.load() || clean >= epoch) return;
  if (KeyWatch::IsActive(clean)) gaps_.fetch_add(1, std::memory_order_relaxed);
  // Whoever is keeping a copy of an epoch before has done so when his shard's lock is ours, and who
  // comes later sees the epoch that we have seen.
  for (Shard& shard : shards_) {
    MutexLock shard_lock(shard.mutex);
    shard.marks.clear();
  }
  if (local_->Clear().ok()) clean_.store(epoch, std::memory_order_release);
}

NearBackend::Copies::Ticket NearBackend::Copies::Depart(std::string_view key) {
  Ticket ticket;
  ticket.epoch = watch_.epoch();
  {
    Shard& shard = ShardOf(key);
    MutexLock lock(shard.mutex);
    Mark& mark = shard.marks[internal::ToAbsl(key)];
    if (mark.readers++ == 0) mark.number = ++shard.last;
    ticket.mark = mark.number;
  }
  ticket.sent = clock_.Now();
  return ticket;
}

bool NearBackend::Copies::Keep(std::string_view key, const Ticket& ticket, const Stored& stored) {
  if (!KeyWatch::IsActive(ticket.epoch)) return false;
  if (watch_.epoch() != ticket.epoch || clean_.load(std::memory_order_acquire) != ticket.epoch) {
    Count(&Counts::refused);
    return false;
  }
  if (!stored.left) return false;
  // What is left was counted some time after the read was sent, in whole milliseconds of a clock
  // that had begun its present one already.
  const absl::Duration left = std::min(*stored.left - absl::Milliseconds(1), max_ttl_);
  const absl::Duration ttl =
      absl::Floor(left - (clock_.Now() - ticket.sent), absl::Milliseconds(1));
  if (ttl <= absl::ZeroDuration()) return false;
  const absl::StatusOr<bool> kept = local_->Set({key, stored.value, ttl});
  return kept.ok() && *kept;
}

void NearBackend::Copies::Arrive(std::string_view key, const Ticket& ticket,
                                 const std::optional<Stored>* stored) {
  if (stored != nullptr) Count(stored->has_value() ? &Counts::remote_hits : &Counts::misses);
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.marks.find(internal::ToAbsl(key));
  const bool own = found != shard.marks.end() && found->second.number == ticket.mark;
  const bool last = own && --found->second.readers == 0;
  if (stored == nullptr) {
    if (last) shard.marks.erase(found);
    return;
  }
  bool agrees = false;  // the copy, if there is one, with what we return
  if (own && last && !found->second.returned) {
    // The common case: nobody else was there.
    if (stored->has_value()) agrees = Keep(key, ticket, **stored);
    shard.marks.erase(found);
  } else if (found != shard.marks.end()) {
    Mark& mark = found->second;
    const Value value = ValueOf(*stored);
    if (mark.returned && *mark.returned != value) {
      Count(&Counts::refused);
      shard.marks.erase(found);
    } else {
      mark.returned = value;
      if (own && !mark.copied && stored->has_value()) mark.copied = Keep(key, ticket, **stored);
      agrees = mark.copied;
      if (!own) Count(&Counts::refused);
      if (last) shard.marks.erase(found);
    }
  } else {
    Count(&Counts::refused);
  }
  // Copies of an epoch that is over are dropped all together.
  if (!agrees && KeyWatch::IsActive(watch_.epoch())) (void)local_->Delete(key);
}

void NearBackend::Copies::Drop(std::string_view key) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  shard.marks.erase(internal::ToAbsl(key));
  if (KeyWatch::IsActive(watch_.epoch())) (void)local_->Delete(key);
}

void NearBackend::Copies::DropMatching(std::string_view pattern) {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    absl::erase_if(shard.marks,
                   [&](const auto& entry) { return internal::GlobMatch(pattern, entry.first); });
  }
  if (!local_->DeleteMatching(pattern).ok()) (void)local_->Clear();
}

void NearBackend::Copies::DropAll() {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    shard.marks.clear();
  }
  (void)local_->Clear();
}

NearBackend::Stats NearBackend::Copies::stats() const {
  Stats sum;
  for (const Counts& counts : counts_) {
    sum.local_hits += counts.local_hits.load(std::memory_order_relaxed);
    sum.remote_hits += counts.remote_hits.load(std::memory_order_relaxed);
    sum.misses += counts.misses.load(std::memory_order_relaxed);
    sum.invalidations += counts.invalidations.load(std::memory_order_relaxed);
    sum.refused += counts.refused.load(std::memory_order_relaxed);
  }
  sum.gaps = gaps_.load(std::memory_order_relaxed);
  return sum;
}

absl::StatusOr<std::shared_ptr<NearBackend>> NearBackend::Make(std::shared_ptr<Backend> remote,
                                                               std::shared_ptr<Backend> local,
                                                               NearOptions options) {
  if (remote == nullptr || local == nullptr) {
    return InvalidArgument("a near cache needs a remote and a local backend");
  }
  if (remote->client() == nullptr) {
    return InvalidArgument(
        StrCat("the remote of a near cache is of kind ", remote->kind(),
               ", which has no server that could tell of changes; it must be a Redis"));
  }
  if (options.prefixes.empty()) {
    return InvalidArgument(
        "prefixes is empty; it must say which keys may be copied (an empty prefix: all)");
  }
  for (const std::string& prefix : options.prefixes) {
    if (prefix.size() > kMaxKey) {
      return InvalidArgument(
          StrCat("a prefix has ", prefix.size(), " bytes; it may have at most ", kMaxKey));
    }
  }
  if (options.max_local_ttl < absl::Milliseconds(1)) {
    return InvalidArgument(StrCat("max_local_ttl is ", internal::ToText(options.max_local_ttl),
                                  "; it must be at least 1ms"));
  }
  return std::shared_ptr<NearBackend>(new NearBackend(
      std::make_unique<Copies>(std::move(remote), std::move(local), std::move(options))));
}

NearBackend::NearBackend(std::unique_ptr<Copies> copies) : copies_(std::move(copies)) {}
NearBackend::~NearBackend() = default;

absl::StatusOr<std::optional<Stored>> NearBackend::Get(std::string_view key, Want want,
                                                       const CallOptions& call) {
  const bool covered = copies_->Covers(key);
  // The one variable that is returned, so that a copy is built where the caller wants it. Fresh()
  // comes first: it also makes room for copies after a gap.
  absl::StatusOr<std::optional<Stored>> got =
      covered && copies_->Fresh() && want == Want::kValue
          ? copies_->GetLocal(key)
          : absl::StatusOr<std::optional<Stored>>(absl::in_place);
  if (got.ok() && got->has_value()) return got;
  if (!covered) {
    got = copies_->remote().Get(key, want, call);
    return got;
  }
  const Copies::Ticket ticket = copies_->Depart(key);
  const bool keeps = internal::KeyWatch::IsActive(ticket.epoch);
  got = copies_->remote().Get(key, keeps ? Want::kValueAndTtl : want, call);
  copies_->Arrive(key, ticket, got.ok() ? &*got : nullptr);
  if (got.ok() && got->has_value() && want == Want::kValue) (*got)->left = std::nullopt;
  return got;
}

absl::StatusOr<std::vector<std::optional<Stored>>> NearBackend::GetMany(
    std::span<const std::string> keys, Want want, const CallOptions& call) {
  std::vector<std::optional<Stored>> all(keys.size());
  std::vector<std::size_t> places;
  std::vector<std::string> missing;
  bool keeps = false;
  std::vector<std::optional<Copies::Ticket>> tickets;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const bool covered = copies_->Covers(keys[i]);
    if (covered && copies_->Fresh() && want == Want::kValue) {
      absl::StatusOr<std::optional<Stored>> copy = copies_->GetLocal(keys[i]);
      if (copy.ok() && copy->has_value()) {
        all[i] = *std::move(copy);
        continue;
      }
    }
    places.push_back(i);
    missing.push_back(keys[i]);
    tickets.emplace_back();
    if (!covered) continue;
    tickets.back() = copies_->Depart(keys[i]);
    keeps = keeps || internal::KeyWatch::IsActive(tickets.back()->epoch);
  }
  // Of no keys the remote is asked all the same: it knows whether it has been closed.
  if (missing.empty() && !keys.empty()) return all;
  absl::StatusOr<std::vector<std::optional<Stored>>> got =
      copies_->remote().GetMany(missing, keeps ? Want::kValueAndTtl : want, call);
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const std::optional<Stored>* one = got.ok() ? &(*got)[i] : nullptr;
    if (tickets[i]) copies_->Arrive(missing[i], *tickets[i], one);
  }
  if (!got.ok()) return got.status();
  for (std::size_t i = 0; i < missing.size(); ++i) {
    std::optional<Stored>& one = (*got)[i];
    if (one && want == Want::kValue) one->left = std::nullopt;
    all[places[i]] = std::move(one);
  }
  return all;
}

void NearBackend::Forget(std::string_view key) {
  if (copies_->Covers(key)) copies_->Drop(key);
}

// Before a write is sent copies are dropped, so that nobody finds one after he has seen its effect;
// and after it, since reads that crossed it may have made others.

absl::StatusOr<bool> NearBackend::Set(const Write& write, SetIf condition,
                                      const CallOptions& call) {
  Forget(write.key);
  absl::StatusOr<bool> done = copies_->remote().Set(write, condition, call);
  Forget(write.key);
  return done;
}

absl::Status NearBackend::SetMany(std::span<const Write> writes, const CallOptions& call) {
  for (const Write& write : writes) Forget(write.key);
  absl::Status done = copies_->remote().SetMany(writes, call);
  for (const Write& write : writes) Forget(write.key);
  return done;
}

absl::StatusOr<bool> NearBackend::Delete(std::string_view key, const CallOptions& call) {
  Forget(key);
  absl::StatusOr<bool> done = copies_->remote().Delete(key, call);
  Forget(key);
  return done;
}

absl::StatusOr<std::int64_t> NearBackend::DeleteMany(std::span<const std::string> keys,
                                                     const CallOptions& call) {
  for (const std::string& key : keys) Forget(key);
  absl::StatusOr<std::int64_t> done = copies_->remote().DeleteMany(keys, call);
  for (const std::string& key : keys) Forget(key);
  return done;
}

absl::StatusOr<bool> NearBackend::Expire(std::string_view key, absl::Duration ttl,
                                         const CallOptions& call) {
  Forget(key);
  absl::StatusOr<bool> done = copies_->remote().Expire(key, ttl, call);
  Forget(key);
  return done;
}

absl::StatusOr<bool> NearBackend::Persist(std::string_view key, const CallOptions& call) {
  Forget(key);
  absl::StatusOr<bool> done = copies_->remote().Persist(key, call);
  Forget(key);
  return done;
}

absl::StatusOr<std::int64_t> NearBackend::DeleteMatching(std::string_view pattern,
                                                         const CallOptions& call) {
  if (copies_->forked()) return copies_->remote().DeleteMatching(pattern, call);
  copies_->DropMatching(pattern);
  absl::StatusOr<std::int64_t> done = copies_->remote().DeleteMatching(pattern, call);
  copies_->DropMatching(pattern);
  return done;
}

absl::Status NearBackend::Clear(const CallOptions& call) {
  if (copies_->forked()) return copies_->remote().Clear(call);
  copies_->DropAll();
  absl::Status done = copies_->remote().Clear(call);
  copies_->DropAll();
  return done;
}

absl::StatusOr<bool> NearBackend::Exists(std::string_view key, const CallOptions& call) {
  return copies_->remote().Exists(key, call);
}

absl::StatusOr<TimeLeft> NearBackend::Ttl(std::string_view key, const CallOptions& call) {
  return copies_->remote().Ttl(key, call);
}

absl::StatusOr<ScanPage> NearBackend::Scan(std::string_view pattern, std::string_view cursor,
                                           std::size_t count, const CallOptions& call) {
  return copies_->remote().Scan(pattern, cursor, count, call);
}

absl::Status NearBackend::Ping(const CallOptions& call) { return copies_->remote().Ping(call); }

absl::Status NearBackend::Reconnect(const CallOptions& call) {
  return copies_->remote().Reconnect(call);
}

void NearBackend::Close() {
  copies_->Close();
  copies_->remote().Close();
  if (!copies_->forked()) copies_->local().Close();
}

const Client* NearBackend::client() const { return copies_->remote().client(); }

std::optional<Backend::Usage> NearBackend::usage() const { return copies_->usage(); }

bool NearBackend::active() const { return copies_->active(); }

absl::Status NearBackend::inactive_because() const {
  if (copies_->forked()) return internal::SessionOf(*client()).Usable();
  return copies_->watch().trouble();
}

NearBackend::Stats NearBackend::stats() const { return copies_->stats(); }

}  // namespace coord
