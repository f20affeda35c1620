// Sleeping on one word: what a caller of the shared connection does while another reads its reply.
// One call wakes exactly one thread, and the word may be gone by then, which neither
// std::atomic::wait (no deadline) nor a condition variable (must outlive the wake) offers.
#ifndef COORD_INTERNAL_FUTEX_H_
#define COORD_INTERNAL_FUTEX_H_

#include <atomic>
#include <cstdint>

#include "coord/internal/sync.h"

namespace coord::internal {

// Sleeps while `word` holds `expected`, until woken or `deadline`; may wake without cause.
void FutexWait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, SteadyTime deadline);

// Wakes the sleeper at `word`, if there is one. Only the address is used: the word itself may have
// ended.
void FutexWake(const std::atomic<std::uint32_t>* word);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_FUTEX_H_
