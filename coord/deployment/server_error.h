// What an error reply means for the caller. Pure.
#ifndef COORD_DEPLOYMENT_SERVER_ERROR_H_
#define COORD_DEPLOYMENT_SERVER_ERROR_H_

#include <string_view>

#include "absl/status/status.h"

namespace coord::internal {

// The error's first word, such as "WRONGTYPE"; also for an error raised inside a script, where
// servers before 7.0 bury it.
std::string_view ErrorCode(std::string_view text);

// As a status: "<context>: <the server's words>", and what to do where that is known.
absl::Status ServerError(std::string_view text, std::string_view context);

// The command did not run, and the reason passes by itself soon (the server is reading its data,
// say).
bool PassesByItself(std::string_view code);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_SERVER_ERROR_H_
