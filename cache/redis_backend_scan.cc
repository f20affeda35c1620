// Walking over the keys of all masters.
#include <algorithm>
#include <utility>

#include "cache/internal/glob.h"
#include "cache/internal/primitive_key.h"
#include "cache/internal/scan_cursor.h"
#include "cache/redis_backend.h"
#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::InvalidArgument;
using internal::MakeStatus;
using internal::Quoted;
using internal::Session;
using internal::StrCat;

constexpr std::size_t kMostPerStep = 1'000'000;  // of SCAN
constexpr std::size_t kDeleteStep = 500;
// How often deleting begins anew because the masters have changed.
constexpr int kMostWalks = 4;

}  // namespace

absl::StatusOr<ScanPage> RedisBackend::Scan(std::string_view pattern, std::string_view cursor,
                                            std::size_t count, const CallOptions& call) {
  if (absl::Status status = Open(); !status.ok()) return status;
  if (pattern.empty()) return InvalidArgument("the pattern of keys is empty");
  if (count < 1) return InvalidArgument("count is 0; it must be 1 or more");
  internal::ScanCursor place;
  if (!cursor.empty()) {
    std::optional<internal::ScanCursor> decoded = internal::DecodeScanCursor(cursor);
    if (!decoded) {
      return InvalidArgument(StrCat(Quoted(cursor), " is no cursor of a walk over Redis's keys"));
    }
    place = *std::move(decoded);
  }
  Session& session = internal::SessionOf(client_);
  const absl::StatusOr<CallLimits> limits = session.Limits(call);
  if (!limits.ok()) return limits.status();
  if (absl::Status status = session.Usable(); !status.ok()) return status;
  internal::Deployment& deployment = session.deployment();

  std::vector<internal::Node*> masters;
  // One server at a fixed address is who it is; what stands for a Sentinel group is where its
  // master is now.
  const bool fixed = !cluster_ && session.url().scheme != internal::Url::Scheme::kSentinel;
  const auto look = [&] {
    masters = deployment.Masters();
    std::vector<std::pair<std::string, internal::Node*>> named;
    for (internal::Node* node : masters) named.emplace_back(fixed ? "" : node->name(), node);
    std::sort(named.begin(), named.end());
    std::vector<std::string> names;
    for (std::size_t i = 0; i < named.size(); ++i) {
      masters[i] = named[i].second;
      names.push_back(std::move(named[i].first));
    }
    return internal::HashOfMasters(names);
  };
  const auto others = [&] {
    if (fixed) {
      return InvalidArgument(StrCat(Quoted(cursor), " is a cursor of another deployment's keys"));
    }
    return MakeStatus(absl::StatusCode::kAborted,
                      StrCat("the masters of ", client_.ToString(),
                             " have changed since this walk over the keys began; begin it anew"));
  };
  std::uint64_t known = 0;
  if (cursor.empty()) {
    if (absl::Status status = deployment.Refresh(*limits); !status.ok()) return status;
    known = place.masters = look();
  } else if (known = look(); known != place.masters) {
    if (absl::Status status = deployment.Refresh(*limits); !status.ok()) return status;
    known = look();
  }
  if (known != place.masters || place.master >= masters.size()) return others();

  internal::Node& node = *masters[place.master];
  const std::string hint = StrCat(std::min(count, kMostPerStep));
  const std::string_view words[] = {"SCAN", place.at, "MATCH", pattern, "COUNT", hint};
  internal::Request request = internal::Request::Command(words);
  request.set_retry_safe(true);
  absl::StatusOr<Reply> reply = node.Execute(request, *limits);
  if (!reply.ok()) {
    // Another may do its work by now: the next call is to know.
    deployment.Unreached(node);
    return reply.status();
  }
  if (!fixed && !cluster_ && look() != place.masters) return others();
  if (reply->items().size() != 2) {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat("SCAN answered ", reply->ToDebugString(64)));
  }
  ScanPage page;
  for (Reply& key : reply->mutable_items()[1].mutable_items()) {
    // What is longer is no cache's.
    if (key.text().size() > kMaxKey || key.text().empty()) continue;
    if (!internal::IsPrimitiveKey(key.text())) page.keys.push_back(std::move(key.mutable_text()));
  }
  place.at = std::move(reply->mutable_items()[0].mutable_text());
  if (place.at == "0") ++place.master;
  if (place.master < masters.size()) page.cursor = internal::EncodeScanCursor(place);
  return page;
}

absl::StatusOr<std::int64_t> RedisBackend::DeleteMatching(std::string_view pattern,
                                                          const CallOptions& call) {
  if (internal::NamesNoText(pattern)) {
    return InvalidArgument(StrCat("the pattern ", Quoted(pattern),
                                  " would delete every key of the database; FLUSHDB does that"));
  }
  std::int64_t deleted = 0;
  absl::Status failed;
  std::string cursor;
  for (int walks = 1; failed.ok();) {
    absl::StatusOr<ScanPage> page = Scan(pattern, cursor, kDeleteStep, call);
    if (page.status().code() == absl::StatusCode::kAborted && walks < kMostWalks) {
      ++walks;
      cursor.clear();
      continue;
    }
    if (!page.ok()) {
      failed = page.status();
      break;
    }
    const absl::StatusOr<std::int64_t> gone = DeleteMany(page->keys, call);
    if (!gone.ok()) {
      failed = gone.status();
      break;
    }
    deleted += *gone;
    cursor = std::move(page->cursor);
    if (cursor.empty()) return deleted;
  }
  return internal::Annotate(
      failed, StrCat("deleting what matches ", Quoted(pattern), ", ", deleted, " are gone"));
}

absl::Status RedisBackend::Clear(const CallOptions&) {
  if (absl::Status status = Open(); !status.ok()) return status;
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("the database at ", client_.ToString(),
                           " may have keys of others; clear a prefix with DeleteMatching"));
}

}  // namespace coord
