#include "cache/http/response_cache.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/escaping.h"
#include "cache/http/internal/response_parts.h"
#include "cache/http/internal/response_store.h"
#include "cache/http/internal/url.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http {
namespace {

using coord::internal::InvalidArgument;
using internal::KeyMaker;
using internal::ResponseStore;
using internal::StoredResponse;

constexpr std::size_t kDeletedAtOnce = 100;

absl::Status CheckFilter(const ResponseFilter& filter) {
  if (filter.urls && !filter.urls->status().ok()) return filter.urls->status();
  return absl::OkStatus();
}

// But for `where`, which needs a Response.
bool MayPass(const ResponseFilter& filter, const StoredResponse& stored, absl::Time now) {
  if (filter.urls && !filter.urls->Matches(stored.url)) return false;
  if (filter.expired && *filter.expired != (stored.expires <= now)) return false;
  if (filter.older_than && now - stored.received <= *filter.older_than) return false;
  if (filter.younger_than && now - stored.received >= *filter.younger_than) return false;
  return true;
}

bool Passes(const ResponseFilter& filter, const Response& response) {
  if (!filter.where) return true;
  try {
    return filter.where(response);
  } catch (...) {  // as SessionOptions::filter
    return false;
  }
}

// The calls of `each`, which is the caller's, are where something may be thrown.
absl::Status WalkMatching(
    const std::shared_ptr<const ResponseStore>& store, const ResponseFilter& filter,
    const CallOptions& call,
    absl::FunctionRef<bool(const ResponseStore::Entry&, const Response&)> each) {
  if (absl::Status status = CheckFilter(filter); !status.ok()) return status;
  absl::Status thrown;
  // It outlives the cache in responses that are kept, so that they can say whether they expired.
  const std::function<absl::Time()> calendar = [store] { return store->Now(); };
  absl::Status walked = store->Walk(
      [&](const ResponseStore::Entry& entry) {
        const absl::Time now = store->Now();
        if (!MayPass(filter, *entry.response, now)) return true;
        const Response response = internal::FromStored(entry.response, entry.key, now, calendar);
        if (!Passes(filter, response)) return true;
        try {
          return each(entry, response);
        } catch (const std::exception& error) {
          thrown = coord::internal::MakeStatus(
              absl::StatusCode::kInternal,
              coord::internal::StrCat("the caller's function threw: ", error.what()));
        } catch (...) {
          thrown = coord::internal::MakeStatus(absl::StatusCode::kInternal,
                                               "the caller's function threw");
        }
        return false;
      },
      call);
  return thrown.ok() ? walked : thrown;
}

// Afterwards, not on the way: a walk takes the variants of a primary that is gone for orphans.
absl::StatusOr<std::vector<std::string>> MatchingKeys(
    const std::shared_ptr<const ResponseStore>& store, const ResponseFilter& filter,
    const CallOptions& call) {
  std::vector<std::string> keys;
  absl::Status status =
      WalkMatching(store, filter, call, [&](const ResponseStore::Entry& entry, const Response&) {
        keys.push_back(entry.key);
        return true;
      });
  if (!status.ok()) return status;
  return keys;
}

// The keys of requests for that URL with these methods, by whom the URL itself names.
absl::StatusOr<std::vector<std::string>> KeysFor(const ResponseStore& store, std::string_view url,
                                                 const std::vector<std::string_view>& methods) {
  const absl::StatusOr<internal::CheckedUrl> checked = internal::CheckUrl(url);
  if (!checked.ok()) return checked.status();
  Headers headers;
  if (checked->has_credentials) {
    const std::string pair = coord::internal::StrCat(checked->user, ":", checked->password);
    headers.Add("Authorization", coord::internal::StrCat(
                                     "Basic ", absl::Base64Escape(coord::internal::ToAbsl(pair))));
  }
  std::vector<std::string> keys;
  for (const std::string_view method : methods) {
    const absl::StatusOr<KeyMaker::Identified> who =
        store.keys().Identify(method, checked->url, headers, "");
    if (!who.ok()) return who.status();
    keys.push_back(store.keys().Primary(method, *who, "", ""));
  }
  return keys;
}

}  // namespace

ResponseCache::ResponseCache(std::shared_ptr<const internal::ResponseStore> store)
    : store_(std::move(store)) {}

absl::Status ResponseCache::ForEach(const ResponseFilter& filter,
                                    absl::FunctionRef<bool(const Response&)> each,
                                    const CallOptions& call) const {
  return WalkMatching(
      store_, filter, call,
      [&](const ResponseStore::Entry&, const Response& response) { return each(response); });
}

absl::StatusOr<std::vector<Response>> ResponseCache::Filter(const ResponseFilter& filter,
                                                            const CallOptions& call) const {
  std::vector<Response> found;
  absl::Status status = ForEach(
      filter,
      [&](const Response& response) {
        found.push_back(response);
        return true;
      },
      call);
  if (!status.ok()) return status;
  return found;
}

absl::StatusOr<std::vector<std::string>> ResponseCache::Urls(const ResponseFilter& filter,
                                                             const CallOptions& call) const {
  std::vector<std::string> urls;
  absl::Status status = ForEach(
      filter,
      [&](const Response& response) {
        urls.push_back(response.url());
        return true;
      },
      call);
  if (!status.ok()) return status;
  std::sort(urls.begin(), urls.end());
  urls.erase(std::unique(urls.begin(), urls.end()), urls.end());
  return urls;
}

absl::StatusOr<std::int64_t> ResponseCache::Count(const ResponseFilter& filter,
                                                  const CallOptions& call) const {
  std::int64_t count = 0;
  absl::Status status = ForEach(
      filter,
      [&](const Response&) {
        ++count;
        return true;
      },
      call);
  if (!status.ok()) return status;
  return count;
}

absl::StatusOr<std::int64_t> ResponseCache::Size(const ResponseFilter& filter,
                                                 const CallOptions& call) const {
  std::int64_t bytes = 0;
  absl::Status status =
      WalkMatching(store_, filter, call, [&](const ResponseStore::Entry& entry, const Response&) {
        bytes += static_cast<std::int64_t>(entry.bytes);
        return true;
      });
  if (!status.ok()) return status;
  return bytes;
}

absl::StatusOr<bool> ResponseCache::Contains(std::string_view url, const CallOptions& call) const {
  const absl::StatusOr<std::vector<std::string>> keys = KeysFor(*store_, url, {"GET"});
  if (!keys.ok()) return keys.status();
  return store_->Has(keys->front(), call);
}

absl::StatusOr<bool> ResponseCache::Delete(std::string_view url, const CallOptions& call) const {
  const absl::StatusOr<std::vector<std::string>> keys = KeysFor(*store_, url, {"GET", "HEAD"});
  if (!keys.ok()) return keys.status();
  const absl::StatusOr<std::int64_t> deleted = store_->Remove(*keys, call);
  if (!deleted.ok()) return deleted.status();
  return *deleted > 0;
}

absl::StatusOr<bool> ResponseCache::DeleteKey(std::string_view key, const CallOptions& call) const {
  const std::string& prefix = store_->keys().rules().prefix;
  if (!key.starts_with(prefix) || key.size() == prefix.size()) {
    return InvalidArgument("the key is none of this store's; see Response::key");
  }
  const absl::StatusOr<std::int64_t> deleted = store_->Remove({std::string(key)}, call);
  if (!deleted.ok()) return deleted.status();
  return *deleted > 0;
}

absl::StatusOr<std::int64_t> ResponseCache::DeleteWhere(const ResponseFilter& filter,
                                                        const CallOptions& call) const {
  const absl::StatusOr<std::vector<std::string>> keys = MatchingKeys(store_, filter, call);
  if (!keys.ok()) return keys.status();
  std::int64_t count = 0;
  for (std::size_t at = 0; at < keys->size(); at += kDeletedAtOnce) {
    const std::size_t end = std::min(at + kDeletedAtOnce, keys->size());
    const absl::StatusOr<std::int64_t> deleted =
        store_->Remove({keys->begin() + static_cast<std::ptrdiff_t>(at),
                        keys->begin() + static_cast<std::ptrdiff_t>(end)},
                       call);
    if (!deleted.ok()) return deleted.status();
    count += *deleted;
  }
  return count;
}

absl::StatusOr<std::int64_t> ResponseCache::ResetExpiry(const Expiry& expire,
                                                        const ResponseFilter& filter,
                                                        const CallOptions& call) const {
  if (absl::Status status = expire.Check(); !status.ok()) return status;
  if (!expire.set()) return InvalidArgument("no expiry is given");
  if (expire.kind() == Expiry::Kind::kDoNotCache) return DeleteWhere(filter, call);
  const absl::StatusOr<std::vector<std::string>> keys = MatchingKeys(store_, filter, call);
  if (!keys.ok()) return keys.status();
  const absl::Time expires = expire.ExpiresAt(store_->Now());
  std::int64_t count = 0;
  for (const std::string& key : *keys) {
    const absl::StatusOr<bool> changed = store_->Rewrite(key, expires, call);
    if (!changed.ok()) return changed.status();
    if (*changed) ++count;
  }
  return count;
}

absl::Status ResponseCache::Clear(const CallOptions& call) const { return store_->Clear(call); }

}  // namespace coord::http
