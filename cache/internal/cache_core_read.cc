// What CacheCore does to read: fetching, judging, tags, staleness.
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "cache/internal/cache_core.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {

std::vector<std::string> CacheCore::TagKeys(std::string_view prefix,
                                            std::span<const std::string> tags) const {
  std::vector<std::string> keys;
  for (const std::string& tag : tags) keys.push_back(OwnKey(prefix, StrCat("tag:", tag)));
  if (options_.clear_by_epoch) keys.push_back(OwnKey(prefix, "epoch"));
  return keys;
}

Read CacheCore::Judge(std::string_view full, std::optional<Stored> stored) const {
  Read read;
  if (!stored.has_value()) return read;
  if (stored->left.has_value()) read.left = TimeLeft::Of(*stored->left);
  const bool plain = signer_ == nullptr && (stored->value.empty() || stored->value.front() != '\0');
  if (plain && stored->value.size() <= options_.max_value_bytes) {
    read.payload = std::move(stored->value);
  } else {
    absl::StatusOr<Opened> opened =
        Open(full, std::move(stored->value), {options_.max_value_bytes, signer_.get()});
    if (!opened.ok()) {
      read.problem = Annotate(opened.status(), StrCat("the value of ", Quoted(full)));
      return read;
    }
    read.fields = std::move(opened->fields);
    read.payload = std::move(opened->payload);
  }
  read.state = read.fields.null || is_null_(read.payload) ? Read::State::kNull : Read::State::kHit;
  return read;
}

absl::Status CacheCore::CheckTags(std::string_view prefix, std::span<Read> reads,
                                  const Generations& known, const CallOptions& call) const {
  absl::flat_hash_map<std::string, std::string> generations;
  for (const auto& [tag, generation] : known) generations.emplace(tag, generation);
  std::vector<std::string> unknown;
  for (const Read& read : reads) {
    for (const auto& [tag, generation] : read.fields.tags) {
      if (generations.try_emplace(tag, "").second) unknown.push_back(tag);
    }
  }
  if (!unknown.empty()) {
    std::vector<std::string> keys;
    for (const std::string& tag : unknown) {
      keys.push_back(OwnKey(prefix, tag == kEpoch ? "epoch" : StrCat("tag:", tag)));
    }
    absl::StatusOr<std::vector<std::optional<Stored>>> stored =
        backend_->GetMany(keys, Want::kValue, call);
    if (!stored.ok()) return stored.status();
    for (std::size_t i = 0; i < unknown.size(); ++i) {
      if ((*stored)[i].has_value()) generations[unknown[i]] = std::move((*stored)[i]->value);
    }
  }
  for (Read& read : reads) {
    if (read.state == Read::State::kMiss) continue;
    bool current = true;
    bool has_epoch = false;
    for (const auto& [tag, generation] : read.fields.tags) {
      has_epoch |= tag == kEpoch;
      // Without a generation there is nothing that vouches for it.
      current &= !generation.empty() && generations[tag] == generation;
    }
    if (!current || (options_.clear_by_epoch && !has_epoch)) {
      read.state = Read::State::kMiss;
      read.payload.clear();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Read> CacheCore::ReadOne(std::string_view prefix, const std::string& full,
                                        const GetOptions& options, bool want_age) const {
  const Want want = want_age || options_.compute.stale_for > absl::ZeroDuration()
                        ? Want::kValueAndTtl
                        : Want::kValue;
  if (!options.tags.empty() || options_.clear_by_epoch) {
    absl::StatusOr<std::vector<Read>> reads = ReadMany(prefix, {&full, 1}, options, want);
    if (!reads.ok()) return reads.status();
    return std::move(reads->front());
  }
  absl::StatusOr<std::optional<Stored>> stored = backend_->Get(full, want, options.call);
  if (!stored.ok()) return stored.status();
  Read read = Judge(full, *std::move(stored));
  if (read.fields.stale_for > absl::ZeroDuration() || !read.fields.tags.empty()) {
    if (absl::Status finished = Finish(prefix, {&full, 1}, {&read, 1}, {}, want, options.call);
        !finished.ok()) {
      return finished;
    }
  }
  return read;
}

absl::StatusOr<std::vector<Read>> CacheCore::ReadMany(std::string_view prefix,
                                                      std::span<const std::string> full,
                                                      const GetOptions& options, Want want) const {
  if (full.empty()) return std::vector<Read>();
  if (options_.compute.stale_for > absl::ZeroDuration()) want = Want::kValueAndTtl;
  for (const std::string& tag : options.tags) {
    if (absl::Status valid = CheckTag(tag); !valid.ok()) return valid;
  }
  std::vector<std::string> keys(full.begin(), full.end());
  std::vector<std::string> tag_keys = TagKeys(prefix, options.tags);
  keys.insert(keys.end(), tag_keys.begin(), tag_keys.end());
  absl::StatusOr<std::vector<std::optional<Stored>>> stored =
      backend_->GetMany(keys, want, options.call);
  if (!stored.ok()) return stored.status();
  std::vector<Read> reads;
  for (std::size_t i = 0; i < full.size(); ++i) {
    reads.push_back(Judge(full[i], std::move((*stored)[i])));
  }
  Generations known;
  for (std::size_t i = 0; i < tag_keys.size(); ++i) {
    std::optional<Stored>& generation = (*stored)[full.size() + i];
    known.emplace_back(i < options.tags.size() ? options.tags[i] : std::string(kEpoch),
                       generation.has_value() ? std::move(generation->value) : "");
  }
  if (absl::Status finished = Finish(prefix, full, reads, known, want, options.call);
      !finished.ok()) {
    return finished;
  }
  return reads;
}

absl::Status CacheCore::Finish(std::string_view prefix, std::span<const std::string> full,
                               std::span<Read> reads, const Generations& known, Want want,
                               const CallOptions& call) const {
  if (want == Want::kValue) {
    // Some may be stale, which nobody could know beforehand.
    std::vector<std::string> keys;
    std::vector<Read*> aged;
    for (std::size_t i = 0; i < reads.size(); ++i) {
      if (reads[i].fields.stale_for == absl::ZeroDuration()) continue;
      keys.push_back(full[i]);
      aged.push_back(&reads[i]);
    }
    absl::StatusOr<std::vector<std::optional<Stored>>> stored =
        backend_->GetMany(keys, Want::kValueAndTtl, call);
    if (!stored.ok()) return stored.status();
    for (std::size_t i = 0; i < aged.size(); ++i) {
      if (!(*stored)[i].has_value()) {
        *aged[i] = Read();
      } else {
        // It may be another value by now: what is told must be of one moment.
        *aged[i] = Judge(keys[i], std::move((*stored)[i]));
      }
    }
  }
  for (Read& read : reads) {
    read.stale = read.state != Read::State::kMiss && read.fields.stale_for > absl::ZeroDuration() &&
                 read.left.left() <= read.fields.stale_for;
  }
  return CheckTags(prefix, reads, known, call);
}

}  // namespace coord::internal
