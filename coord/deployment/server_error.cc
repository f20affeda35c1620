#include "coord/deployment/server_error.h"

#include <string>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

struct Meaning {
  std::string_view code;
  absl::StatusCode status;
  unsigned reasons;
  std::string_view advice;
};

using enum absl::StatusCode;

constexpr Meaning kMeanings[] = {
    {"NOAUTH", kUnauthenticated, 0, "give user and password in the URL"},
    {"WRONGPASS", kUnauthenticated, 0, "check user and password of the URL"},
    {"NOPERM", kPermissionDenied, 0, "the ACL user lacks a right; README lists those needed"},
    {"WRONGTYPE", kFailedPrecondition, 0,
     "the key holds another type and was left as it is; use another name or prefix"},
    {"OPVOID", kFailedPrecondition, 0, "its caller was told that it has not been applied"},
    {"OPMISUSE", kInvalidArgument, 0, "take a new id for each operation"},
    {"OOM", kResourceExhausted, 0, "the server is at maxmemory and may not evict"},
    {"LOADING", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "the server is reading its data"},
    {"READONLY", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "this server is a replica; connect to the master"},
    {"MISCONF", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "the server cannot save to disk and refuses writes"},
    {"NOREPLICAS", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "too few replicas are connected (min-replicas-to-write)"},
    {"MASTERDOWN", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "this replica has lost its master"},
    {"CLUSTERDOWN", absl::StatusCode::kUnavailable, Reason::kUnavailable, ""},
    {"TRYAGAIN", absl::StatusCode::kUnavailable, Reason::kUnavailable, ""},
    {"MOVED", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "this server is part of a Cluster"},
    {"BUSY", absl::StatusCode::kUnavailable, Reason::kUnavailable,
     "a script has been running there for long; SCRIPT KILL ends one that has not written"},
};

std::string_view FirstWord(std::string_view text) { return text.substr(0, text.find(' ')); }

}  // namespace

std::string_view ErrorCode(std::string_view text) {
  // What a script may not do has no code of its own: Redis 6.2 and 7.0 say the former, Redis 7.2
  // and Valkey the latter.
  for (std::string_view refusal :
       {"The user executing the script can't", "ACL failure in script"}) {
    if (text.starts_with("ERR ") && text.find(refusal) != text.npos) return "NOPERM";
  }
  // Redis 6.2: "ERR Error running script (call to f_<sha>): @user_script:5: WRONGTYPE Operation
  // ..." and "...: @user_script: 5: -OOM command not allowed ..."
  if (text.starts_with("ERR Error running script")) {
    for (const Meaning& meaning : kMeanings) {
      for (std::string_view before : {": ", ": -"}) {
        const std::string wanted = StrCat(before, meaning.code, " ");
        if (text.find(wanted) != text.npos) return meaning.code;
      }
    }
  }
  return FirstWord(text);
}

absl::Status ServerError(std::string_view text, std::string_view context) {
  const std::string_view code = ErrorCode(text);
  for (const Meaning& meaning : kMeanings) {
    if (meaning.code != code) continue;
    std::string message = StrCat(context, ": the server says: ", text.substr(0, 512));
    if (!meaning.advice.empty()) message += StrCat(" (", meaning.advice, ")");
    return MakeStatus(meaning.status, message, meaning.reasons);
  }
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat(context, ": the server says: ", text.substr(0, 512)));
}

bool PassesByItself(std::string_view code) {
  return code == "LOADING" || code == "TRYAGAIN" || code == "CLUSTERDOWN" || code == "MASTERDOWN";
}

}  // namespace coord::internal
