// Private: operations that are applied exactly once; see operation_id.h and lua/include/once.lua.
#ifndef COORD_INTERNAL_ONCE_H_
#define COORD_INTERNAL_ONCE_H_

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/session.h"
#include "coord/operation_id.h"
#include "coord/options.h"
#include "coord/wire/request.h"

namespace coord::internal {

// What a script needs of an operation's id: the keys its answer is kept under, a fingerprint of
// what was asked for, and how long to keep it.
struct Once {
  std::string recent, older;
  std::string id;
  std::string fingerprint;
  std::string window_ms;

  // Behind the script's own.
  void AppendTo(std::vector<std::string_view>& keys, std::vector<std::string_view>& args) const {
    keys.insert(keys.end(), {recent, older});
    args.insert(args.end(), {id, fingerprint, window_ms});
  }
};

// 12 characters that stand for the arguments: the kind of object, and a hash that is the same on
// all machines. Pure.
std::string Fingerprint(char kind, std::span<const std::string_view> arguments);
inline std::string Fingerprint(char kind, std::initializer_list<std::string_view> arguments) {
  return Fingerprint(kind, std::span(arguments.begin(), arguments.size()));
}

// For an operation on the object `name` ("counter" is `what` it is, for messages); nullopt without
// an id.
absl::StatusOr<std::optional<Once>> PrepareOnce(const Session& session, std::string_view what,
                                                std::string_view name,
                                                const std::optional<OperationId>& id, char kind,
                                                std::span<const std::string_view> arguments);
inline absl::StatusOr<std::optional<Once>> PrepareOnce(
    const Session& session, std::string_view what, std::string_view name,
    const std::optional<OperationId>& id, char kind,
    std::initializer_list<std::string_view> arguments) {
  return PrepareOnce(session, what, name, id, kind, std::span(arguments.begin(), arguments.size()));
}

// Runs the request. With an id it is repeated while its outcome is unknown, for at most half the
// window.
absl::StatusOr<Reply> ExecuteOnce(Session& session, Request request,
                                  const std::optional<Once>& once, const CallOptions& options);

// What the operation answered, as its script has kept it; nullopt when it has not been applied, and
// then it never will be.
absl::StatusOr<std::optional<std::string>> ResolveOnce(Session& session, std::string_view what,
                                                       std::string_view name, const OperationId& id,
                                                       char kind, const CallOptions& options);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_ONCE_H_
