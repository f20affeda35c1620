// Knowing that we are a forked child, before touching anything that the parent's threads may have
// held.
#ifndef COORD_INTERNAL_FORK_H_
#define COORD_INTERNAL_FORK_H_

#include <cstdint>

namespace coord::internal {

// How many forks lie between the first process of this program and this one. Objects remember the
// number they were made under; when it differs, they are a copy in a child, whose threads, locks
// and connections belong to the parent. The one global of the library.
std::uint64_t ForkGeneration();

}  // namespace coord::internal

#endif  // COORD_INTERNAL_FORK_H_
