#include "cache/http/internal/response_store.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "cache/internal/envelope.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::StrCat;

constexpr std::size_t kPage = 100;
// How many are looked at where variants of one URL have different names in their Vary.
constexpr std::size_t kMostVariantKeys = 4;
constexpr std::size_t kHash = 32;  // hex digits
constexpr char kEnvelope = '\0';

// Empty: the system has no random bits to give.
std::string NewSeries() {
  std::string series(8, '\0');
  while (true) {
    const ssize_t n = getrandom(series.data(), series.size(), 0);
    if (n == static_cast<ssize_t>(series.size())) return series;
    if (n >= 0 || errno != EINTR) return {};
  }
}

std::vector<std::string> NamesOf(const Selecting& selecting) {
  std::vector<std::string> names;
  names.reserve(selecting.size());
  for (const auto& [name, value] : selecting) names.push_back(name);
  return names;
}

bool IsHash(std::string_view text) {
  return text.size() == kHash && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool IsPrimary(std::string_view key, std::string_view prefix) {
  return key.size() == prefix.size() + kHash && key.starts_with(prefix) &&
         IsHash(key.substr(prefix.size()));
}

bool IsVariant(std::string_view key, std::string_view prefix) {
  return key.size() == prefix.size() + 2 * kHash + 1 && key[prefix.size() + kHash] == '.' &&
         IsPrimary(key.substr(0, prefix.size() + kHash), prefix) &&
         IsHash(key.substr(prefix.size() + kHash + 1));
}

}  // namespace

ResponseStore::ResponseStore(std::shared_ptr<Backend> backend, KeyMaker keys, StoreRules rules)
    : backend_(std::move(backend)), keys_(std::move(keys)), rules_(std::move(rules)) {}

// --- Reading ---

void ResponseStore::Tell(const absl::Status& problem) const {
  if (!rules_.on_problem) return;
  try {
    rules_.on_problem(problem);
  } catch (...) {  // the caller's own, and none of this call's
  }
}

CallOptions ResponseStore::Bounded(const CallOptions& call) const {
  CallOptions bounded = call;
  bounded.timeout = std::min(call.timeout.value_or(rules_.timeout), rules_.timeout);
  return bounded;
}

std::shared_ptr<StoredResponse> ResponseStore::Decoded(std::string_view key,
                                                       std::string bytes) const {
  const auto lost = [&](const absl::Status& why) -> std::shared_ptr<StoredResponse> {
    Tell(coord::internal::Annotate(why, key));
    return nullptr;
  };
  if (bytes.size() > rules_.max_bytes) {
    return lost(coord::internal::MakeStatus(
        absl::StatusCode::kDataLoss,
        StrCat("it has ", bytes.size(), " bytes; at most ", rules_.max_bytes, " are taken")));
  }
  if (!bytes.empty() && bytes.front() == kEnvelope) {
    absl::StatusOr<coord::internal::Opened> opened =
        coord::internal::Open(key, std::move(bytes), {.max_bytes = rules_.max_bytes});
    if (!opened.ok()) return lost(opened.status());
    bytes = std::move(opened->payload);
  }
  absl::StatusOr<StoredResponse> decoded = DecodeStored(bytes);
  if (!decoded.ok()) return lost(decoded.status());
  return std::make_shared<StoredResponse>(*std::move(decoded));
}

absl::StatusOr<std::shared_ptr<StoredResponse>> ResponseStore::Read(std::string_view key,
                                                                    const CallOptions& call) const {
  absl::StatusOr<std::optional<Stored>> stored = backend_->Get(key, Want::kValue, Bounded(call));
  if (stored.status().code() == absl::StatusCode::kFailedPrecondition) {
    // Somebody's hash or list in a Redis, which a batch takes for nothing, or a closed backend.
    const std::string one[] = {std::string(key)};
    const auto many = backend_->GetMany(one, Want::kValue, Bounded(call));
    if (!many.ok()) return many.status();
    Tell(coord::internal::Annotate(stored.status(), key));
    return std::shared_ptr<StoredResponse>();
  }
  if (!stored.ok()) return stored.status();
  if (!stored->has_value()) return std::shared_ptr<StoredResponse>();
  return Decoded(key, std::move((*stored)->value));
}

bool ResponseStore::Matches(const StoredResponse& stored, const Headers& request) const {
  return keys_.SelectingFields(NamesOf(stored.selecting), request) == stored.selecting;
}

absl::StatusOr<bool> ResponseStore::Has(std::string_view primary, const CallOptions& call) const {
  const absl::StatusOr<std::shared_ptr<StoredResponse>> first = Read(primary, call);
  if (!first.ok()) return first.status();
  return *first != nullptr;
}

absl::StatusOr<ResponseStore::Found> ResponseStore::Find(std::string_view primary,
                                                         const Headers& request,
                                                         const CallOptions& call) const {
  absl::StatusOr<std::shared_ptr<StoredResponse>> first = Read(primary, call);
  if (!first.ok()) return first.status();
  Found found;
  found.key = primary;
  if (*first == nullptr) return found;

  found.series = (*first)->series;
  found.names = NamesOf((*first)->selecting);
  if (found.names.empty() && keys_.rules().match_headers.empty()) {
    found.response = *std::move(first);
    return found;
  }
  // Each leads on by its own names, which may be others than the primary's.
  std::shared_ptr<StoredResponse> here = *std::move(first);
  std::vector<std::string> been = {found.key};
  while (true) {
    const Selecting wanted = keys_.SelectingFields(NamesOf(here->selecting), request);
    if (wanted == here->selecting) {
      found.response = std::move(here);
      return found;
    }
    std::string next = keys_.Variant(primary, found.series, wanted);
    // One that is not used leads no further than to itself: there the new one belongs.
    if (std::find(been.begin(), been.end(), next) != been.end()) return found;
    found.key = std::move(next);
    if (been.size() == kMostVariantKeys) return found;
    been.push_back(found.key);
    absl::StatusOr<std::shared_ptr<StoredResponse>> variant = Read(found.key, call);
    if (!variant.ok()) return variant.status();
    if (*variant == nullptr || (*variant)->series != found.series) return found;
    here = *std::move(variant);
  }
}

// --- Writing ---

absl::Duration ResponseStore::TtlOf(const StoredResponse& response,
                                    absl::Duration stale_for) const {
  if (!rules_.ttl || response.expires == absl::InfiniteFuture()) return absl::InfiniteDuration();
  // One that was never fresh is kept to be asked about as long as others are after their time.
  const absl::Duration fresh = std::max(response.expires - Now(), absl::ZeroDuration());
  const absl::Duration whole =
      absl::Ceil(fresh + stale_for + rules_.ttl_offset, absl::Milliseconds(1));
  return std::clamp(whole, absl::Milliseconds(1), coord::internal::kMaxDataTtl);
}

absl::StatusOr<std::string> ResponseStore::Encoded(std::string_view key,
                                                   const StoredResponse& response) const {
  std::string bytes = EncodeStored(response);
  if (bytes.size() > rules_.max_bytes) {
    return coord::internal::MakeStatus(absl::StatusCode::kResourceExhausted,
                                       StrCat("the response takes ", bytes.size(),
                                              " bytes; at most ", rules_.max_bytes, " are stored"));
  }
  if (rules_.compression.algorithm == Compression::Algorithm::kNone) return bytes;
  return coord::internal::Seal(key, bytes, {}, {.compression = rules_.compression});
}

absl::StatusOr<bool> ResponseStore::Write(std::string_view key, const StoredResponse& response,
                                          absl::Duration stale_for, SetIf condition,
                                          const CallOptions& call) const {
  const absl::StatusOr<std::string> bytes = Encoded(key, response);
  if (!bytes.ok()) return bytes.status();
  return backend_->Set({.key = key, .value = *bytes, .ttl = TtlOf(response, stale_for)}, condition,
                       Bounded(call));
}

absl::Status ResponseStore::Put(const Found& found, StoredResponse response,
                                absl::Duration stale_for, const CallOptions& call) const {
  const bool at_primary = IsPrimary(found.key, keys_.rules().prefix);
  const bool keeps_series =
      !found.series.empty() && (!at_primary || found.names == NamesOf(response.selecting));
  if (keeps_series) {
    response.series = found.series;
    const SetIf condition = at_primary ? SetIf::kPresent : SetIf::kAlways;
    const absl::StatusOr<bool> written = Write(found.key, response, stale_for, condition, call);
    if (!written.ok() || *written) return written.status();
    // The primary was deleted meanwhile, and its variants with it: its series must not come back.
  }
  response.series = NewSeries();
  if (response.series.empty()) {
    return coord::internal::MakeStatus(absl::StatusCode::kInternal,
                                       "the system has no random bits to give");
  }
  return Write(found.key, response, stale_for, SetIf::kAlways, call).status();
}

absl::StatusOr<std::int64_t> ResponseStore::Remove(const std::vector<std::string>& keys,
                                                   const CallOptions& call) const {
  return backend_->DeleteMany(keys, Bounded(call));
}

absl::StatusOr<bool> ResponseStore::Rewrite(std::string_view key, absl::Time expires,
                                            const CallOptions& call) const {
  const absl::StatusOr<std::shared_ptr<StoredResponse>> stored = Read(key, call);
  if (!stored.ok()) return stored.status();
  if (*stored == nullptr) return false;
  StoredResponse changed = **stored;
  changed.expires = expires;
  changed.by_caller = true;
  return Write(key, changed, absl::ZeroDuration(), SetIf::kPresent, call);
}

// --- Walking ---

std::string ResponseStore::Pattern() const {
  std::string pattern;
  for (const char c : keys_.rules().prefix) {
    if (std::string_view("*?[]^-\\").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  pattern += '*';
  return pattern;
}

absl::StatusOr<std::vector<ResponseStore::Entry>> ResponseStore::ReadPage(
    std::vector<std::string> keys, const CallOptions& call) const {
  absl::StatusOr<std::vector<std::optional<Stored>>> values =
      backend_->GetMany(keys, Want::kValue, Bounded(call));
  if (!values.ok()) return values.status();
  std::vector<Entry> page;
  page.reserve(keys.size());
  for (std::size_t i = 0; i < keys.size() && i < values->size(); ++i) {
    if (!(*values)[i]) continue;
    Entry entry;
    entry.bytes = keys[i].size() + (*values)[i]->value.size();
    entry.response = Decoded(keys[i], std::move((*values)[i]->value));
    if (entry.response == nullptr) continue;
    entry.key = std::move(keys[i]);
    page.push_back(std::move(entry));
  }
  return page;
}

// Primaries are read after the variants, whatever is known of them: a variant that is there before
// its primary is read and is not of that one's series has lost its own for good.
absl::Status ResponseStore::DropOrphans(std::vector<Entry>& page, const CallOptions& call) const {
  const std::size_t primary_size = keys_.rules().prefix.size() + kHash;
  std::vector<std::string> primaries;
  absl::flat_hash_map<std::string, std::string> series;
  for (const Entry& entry : page) {
    if (entry.key.size() == primary_size) continue;
    std::string primary = entry.key.substr(0, primary_size);
    if (series.try_emplace(primary).second) primaries.push_back(std::move(primary));
  }
  if (primaries.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<Entry>> read = ReadPage(std::move(primaries), call);
  if (!read.ok()) return read.status();
  for (const Entry& entry : *read) series[entry.key] = entry.response->series;

  std::vector<std::string> orphans;
  const auto is_orphan = [&](const Entry& entry) {
    if (entry.key.size() == primary_size) return false;
    const std::string& now = series[entry.key.substr(0, primary_size)];
    return now.empty() || now != entry.response->series;
  };
  std::erase_if(page, [&](const Entry& entry) {
    if (!is_orphan(entry)) return false;
    orphans.push_back(entry.key);
    return true;
  });
  if (orphans.empty() || rules_.read_only) return absl::OkStatus();
  // They do no harm, and one who may not write can still look.
  if (const absl::StatusOr<std::int64_t> deleted = Remove(orphans, call); !deleted.ok()) {
    Tell(coord::internal::Annotate(deleted.status(), "variants without a primary"));
  }
  return absl::OkStatus();
}

absl::Status ResponseStore::Walk(absl::FunctionRef<bool(const Entry&)> each,
                                 const CallOptions& call) const {
  const std::string& prefix = keys_.rules().prefix;
  const std::string pattern = Pattern();
  absl::flat_hash_set<std::string> seen;
  std::vector<std::string> waiting;
  std::string cursor;
  bool more = true;
  while (more || !waiting.empty()) {
    if (more && waiting.size() < kPage) {
      absl::StatusOr<ScanPage> scanned = backend_->Scan(pattern, cursor, kPage, Bounded(call));
      if (!scanned.ok()) return scanned.status();
      for (std::string& key : scanned->keys) {
        if (!IsPrimary(key, prefix) && !IsVariant(key, prefix)) continue;
        if (seen.insert(key).second) waiting.push_back(std::move(key));
      }
      cursor = std::move(scanned->cursor);
      more = !cursor.empty();
      continue;
    }
    const std::size_t count = std::min(kPage, waiting.size());
    const auto first = waiting.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<std::string> keys(std::make_move_iterator(first),
                                  std::make_move_iterator(waiting.end()));
    waiting.erase(first, waiting.end());
    absl::StatusOr<std::vector<Entry>> page = ReadPage(std::move(keys), call);
    if (!page.ok()) return page.status();
    if (absl::Status status = DropOrphans(*page, call); !status.ok()) return status;
    for (const Entry& entry : *page) {
      if (!each(entry)) return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

absl::Status ResponseStore::Clear(const CallOptions& call) const {
  return backend_->DeleteMatching(Pattern(), call).status();
}

}  // namespace coord::http::internal
