#include "coord/keyspace.h"

#include <algorithm>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {

std::string EscapeGlob(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("*?[]\\^-").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

absl::Status ScanKeys(const Client& client, std::string_view pattern,
                      const std::function<bool(const std::vector<std::string>& keys)>& receive,
                      const CallOptions& options) {
  if (pattern.empty()) return internal::InvalidArgument("the pattern of keys is empty");
  internal::Session& session = internal::SessionOf(client);
  {
    const absl::StatusOr<internal::CallLimits> limits = session.Limits(options);
    if (!limits.ok()) return limits.status();
    if (absl::Status status = session.Usable(); !status.ok()) return status;
    if (absl::Status status = session.deployment().Refresh(*limits); !status.ok()) return status;
  }
  std::vector<std::string> keys;
  for (internal::Node* node : session.deployment().Masters()) {
    std::string cursor = "0";
    do {
      if (absl::Status status = session.Usable(); !status.ok()) return status;
      absl::StatusOr<internal::CallLimits> limits = session.Limits(options);
      if (!limits.ok()) return limits.status();
      const std::string_view words[] = {"SCAN", cursor, "MATCH", pattern, "COUNT", "500"};
      internal::Request request = internal::Request::Command(words);
      request.set_retry_safe(true);
      absl::StatusOr<Reply> reply = node->Execute(request, *limits);
      if (!reply.ok()) return reply.status();
      if (reply->items().size() != 2) {
        return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                    internal::StrCat("SCAN answered ", reply->ToDebugString()));
      }
      cursor = reply->items()[0].text();
      keys.clear();
      for (Reply& key : reply->mutable_items()[1].mutable_items()) {
        keys.push_back(std::move(key.mutable_text()));
      }
      if (!keys.empty() && !receive(keys)) return absl::OkStatus();
    } while (cursor != "0");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> DeleteKeys(const Client& client, std::string_view pattern,
                                        const CallOptions& options) {
  if (std::all_of(pattern.begin(), pattern.end(), [](char c) { return c == '*'; })) {
    return internal::InvalidArgument(
        internal::StrCat("the pattern ", internal::Quoted(pattern),
                         " would delete every key of the database; FLUSHDB does that"));
  }
  std::int64_t deleted = 0;
  absl::Status failed;
  const auto unlink = [&](const std::vector<std::string>& keys) {
    Pipeline pipeline;
    for (const std::string& key : keys) pipeline.Add({"UNLINK", key});
    const absl::StatusOr<std::vector<Reply>> replies = client.Execute(pipeline, options);
    if (!replies.ok()) {
      failed = replies.status();
      return false;
    }
    for (const Reply& reply : *replies) {
      if (reply.is_error()) {
        failed = internal::MakeStatus(absl::StatusCode::kFailedPrecondition,
                                      internal::StrCat("UNLINK: the server says: ", reply.text()));
        return false;
      }
      deleted += reply.integer();
    }
    return true;
  };
  absl::Status status = ScanKeys(client, pattern, unlink, options);
  if (failed.ok()) failed = std::move(status);
  if (!failed.ok()) {
    return internal::Annotate(failed, internal::StrCat("deleting keys, ", deleted, " are gone"));
  }
  return deleted;
}

}  // namespace coord
