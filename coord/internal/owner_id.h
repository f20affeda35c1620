// Who holds a lock: 128 bits that nobody else has, and words for a person.
#ifndef COORD_INTERNAL_OWNER_ID_H_
#define COORD_INTERNAL_OWNER_ID_H_

#include <string>
#include <string_view>

namespace coord::internal {

// "<32 hex digits>@<label>". The digits are fresh random bits of the operating system, asked for at
// each call, so that neither a seed nor a fork can make two alike. Empty when the system has none
// to give.
std::string NewOwnerId(std::string_view label);

// The label of an owner id, or the whole of it when it has none.
std::string_view OwnerLabel(std::string_view owner);

// "<host>:<pid>", in characters that CLIENT SETNAME takes.
std::string DefaultLabel();

}  // namespace coord::internal

#endif  // COORD_INTERNAL_OWNER_ID_H_
