#include "coord/locks.h"

#include <set>
#include <string_view>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/keyspace.h"

namespace coord {
namespace {

constexpr std::string_view kPart = "}:lease";

}  // namespace

absl::StatusOr<std::vector<HeldLock>> HeldLocks(const Client& client, CallOptions options) {
  const std::string begin = internal::StrCat(client.options().prefix, "{");
  std::set<std::string> names;
  const auto take = [&](const std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
      if (key.size() <= begin.size() + kPart.size()) continue;
      names.insert(key.substr(begin.size(), key.size() - begin.size() - kPart.size()));
    }
    return true;
  };
  const std::string pattern = internal::StrCat(EscapeGlob(begin), "*", kPart);
  if (absl::Status status = ScanKeys(client, pattern, take, options); !status.ok()) {
    return internal::Annotate(status, "looking for locks");
  }
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
