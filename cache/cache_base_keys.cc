// What CacheBase does with many keys at once: walking, counting, deleting by pattern.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "cache/cache_base.h"
#include "cache/internal/cache_core.h"
#include "cache/internal/glob.h"
#include "cache/internal/observed.h"
#include "cache/internal/recovery_queue.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/keyspace.h"

namespace coord {

using internal::CacheCore;
using internal::Observed;
using internal::StrCat;

namespace {

// Of a walk over all keys: larger steps are fewer round trips.
constexpr std::size_t kWalkStep = 1000;

absl::Status CheckPattern(std::string_view pattern) {
  if (!pattern.empty()) return absl::OkStatus();
  return internal::InvalidArgument("the pattern is empty; \"*\" matches every key");
}

}  // namespace

absl::StatusOr<ScanPage> CacheBase::Scan(std::string_view pattern, std::string_view cursor,
                                         std::size_t count, const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kScan, pattern);
  return observed.EndOr(
      [&]() -> absl::StatusOr<ScanPage> {
        if (absl::Status valid = CheckPattern(pattern); !valid.ok()) return valid;
        absl::StatusOr<std::string> prefix = Prefix();
        if (!prefix.ok()) return prefix.status();
        absl::StatusOr<ScanPage> page =
            core_->backend().Scan(StrCat(EscapeGlob(*prefix), pattern), cursor, count, call);
        if (!page.ok()) return page;
        std::erase_if(page->keys, [&](std::string& key) {
          key.erase(0, prefix->size());
          return key.empty() || std::string_view(key).starts_with(CacheCore::kOwn);
        });
        return page;
      }(),
      ScanPage());
}

absl::Status CacheBase::ForEachPage(
    std::string_view pattern, absl::FunctionRef<absl::StatusOr<bool>(const ScanPage&)> receive,
    const CallOptions& call) const {
  std::string cursor;
  do {
    absl::StatusOr<ScanPage> page = Scan(pattern, cursor, kWalkStep, call);
    if (!page.ok()) return page.status();
    absl::StatusOr<bool> more = receive(*page);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    cursor = std::move(page->cursor);
  } while (!cursor.empty());
  return absl::OkStatus();
}

absl::Status CacheBase::ForEachKey(std::string_view pattern,
                                   absl::FunctionRef<bool(const std::string&)> receive,
                                   const CallOptions& call) const {
  return ForEachPage(
      pattern,
      [&](const ScanPage& page) -> absl::StatusOr<bool> {
        return std::all_of(page.keys.begin(), page.keys.end(), receive);
      },
      call);
}

absl::StatusOr<std::vector<std::string>> CacheBase::Keys(std::string_view pattern,
                                                         const CallOptions& call) const {
  std::set<std::string> keys;
  absl::Status walked = ForEachPage(
      pattern,
      [&](const ScanPage& page) -> absl::StatusOr<bool> {
        keys.insert(page.keys.begin(), page.keys.end());
        return true;
      },
      call);
  if (!walked.ok()) return walked;
  return std::vector<std::string>(keys.begin(), keys.end());
}

absl::StatusOr<std::int64_t> CacheBase::Count(std::string_view pattern,
                                              const CallOptions& call) const {
  // A key may come twice, and must be counted once.
  absl::flat_hash_set<std::string> keys;
  absl::Status walked = ForEachPage(
      pattern,
      [&](const ScanPage& page) -> absl::StatusOr<bool> {
        keys.insert(page.keys.begin(), page.keys.end());
        return true;
      },
      call);
  if (!walked.ok()) return walked;
  return static_cast<std::int64_t>(keys.size());
}

absl::StatusOr<std::int64_t> CacheBase::DeletePattern(std::string_view pattern,
                                                      const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kDeletePattern, pattern);
  return observed.EndOr(
      [&]() -> absl::StatusOr<std::int64_t> {
        if (absl::Status valid = CheckPattern(pattern); !valid.ok()) return valid;
        absl::StatusOr<std::string> prefix = Prefix();
        if (!prefix.ok()) return prefix.status();
        if (prefix->empty() && internal::NamesNoText(pattern)) {
          return core_->NothingOwned();
        }
        // By pages of our own, not by the backend: it would count, and take, what the cache keeps
        // for itself.
        std::int64_t deleted = 0;
        absl::Status walked = ForEachPage(
            pattern,
            [&](const ScanPage& page) -> absl::StatusOr<bool> {
              std::vector<std::string> full;
              for (const std::string& key : page.keys) full.push_back(StrCat(*prefix, key));
              absl::StatusOr<std::int64_t> some = core_->Remove(full, call);
              if (!some.ok()) return some.status();
              deleted += *some;
              return true;
            },
            call);
        if (!walked.ok()) return walked;
        // What failed to be written before this is not to come back after it.
        if (core_->recovery() != nullptr) {
          const std::string whole = StrCat(EscapeGlob(*prefix), pattern);
          core_->recovery()->OvertakenWhere(
              [&](std::string_view full) { return internal::GlobMatch(whole, full); });
        }
        return deleted;
      }(),
      std::int64_t{0});
}

absl::Status CacheBase::Clear(const CallOptions& call) const {
  Observed observed(*core_, CacheOperation::kClear, "");
  return observed
      .EndOr(
          [&]() -> absl::StatusOr<bool> {
            absl::StatusOr<std::string> prefix = Prefix();
            if (!prefix.ok()) return prefix.status();
            absl::Status cleared;
            if (core_->options().clear_by_epoch) {
              cleared = core_->EndEpoch(*prefix, call);
            } else if (prefix->empty()) {
              cleared = core_->backend().Clear(call);
              if (cleared.ok() && core_->recovery() != nullptr) {
                core_->recovery()->OvertakenWhere([](std::string_view) { return true; });
              }
            } else {
              cleared = DeletePattern("*", call).status();
            }
            if (!cleared.ok()) return cleared;
            return true;
          }(),
          true)
      .status();
}

}  // namespace coord
