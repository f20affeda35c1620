#include "coord/locks.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

constexpr std::string_view kPart = "}:lease";

// The prefix as a glob that matches it alone.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("*?[]\\^-").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

absl::StatusOr<std::vector<HeldLock>> HeldLocks(const Client& client, CallOptions options) {
  const std::string begin = internal::StrCat(client.options().prefix, "{");
  const std::string pattern = internal::StrCat(Escaped(begin), "*", kPart);
  std::set<std::string> names;
  std::string cursor = "0";
  do {
    absl::StatusOr<Reply> reply =
        client.Command({"SCAN", cursor, "MATCH", pattern, "COUNT", "500"}, options);
    if (!reply.ok()) return internal::Annotate(reply.status(), "looking for locks");
    if (reply->items().size() != 2) {
      return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                  internal::StrCat("SCAN answered ", reply->ToDebugString()));
    }
    cursor = reply->items()[0].text();
    for (const Reply& item : reply->items()[1].items()) {
      const std::string& key = item.text();
      if (key.size() <= begin.size() + kPart.size()) continue;
      names.insert(key.substr(begin.size(), key.size() - begin.size() - kPart.size()));
    }
  } while (cursor != "0");
  std::vector<HeldLock> locks;
  for (const std::string& name : names) {
    absl::StatusOr<LockHolder> holder = Mutex(client, name).Holder(options);
    // A key of that form that is none of ours has a name or a type that we refuse.
    if (holder.status().code() == absl::StatusCode::kInvalidArgument ||
        holder.status().code() == absl::StatusCode::kFailedPrecondition) {
      continue;
    }
    if (!holder.ok()) return holder.status();
    if (holder->owner.empty() && holder->readers.empty()) continue;  // gone meanwhile
    locks.push_back({name, *std::move(holder)});
  }
  return locks;
}

}  // namespace coord
