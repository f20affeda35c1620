// Sleeping on a shared word, each with a bit of one's own: what callers of the shared connection do
// while another reads their replies. One system call wakes exactly those whose replies have come,
// however many they are, and so the one who wakes them is interrupted once at most; neither
// std::atomic::wait nor a condition variable can do that.
#ifndef COORD_INTERNAL_FUTEX_H_
#define COORD_INTERNAL_FUTEX_H_

#include <atomic>
#include <cstdint>

#include "coord/internal/sync.h"

namespace coord::internal {

// Sleeps while `word` holds `expected`, until a wake for one of `bits`, or `deadline`; may wake
// without cause.
void FutexWait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint32_t bits,
               SteadyTime deadline);

// Wakes all who sleep at `word` for one of `bits`.
void FutexWake(const std::atomic<std::uint32_t>& word, std::uint32_t bits);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_FUTEX_H_
