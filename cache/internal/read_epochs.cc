#include "cache/internal/read_epochs.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <thread>

namespace coord::internal {
namespace {

constexpr unsigned kMostStripes = 64;

}  // namespace

ReadEpochs::ReadEpochs()
    : stripes_(std::bit_ceil(std::clamp(std::thread::hardware_concurrency(), 2U, kMostStripes))) {}

ReadEpochs::~ReadEpochs() {
  for (const std::vector<Retired>& limbo : limbo_) {
    for (const Retired& retired : limbo) retired.free(retired.what);
  }
}

void ReadEpochs::Retire(Retired retired, std::size_t bytes) {
  limbo_[epoch_.load() & 1].push_back(retired);
  ++count_;
  bytes_ += bytes;
}

void ReadEpochs::Collect(std::vector<Retired>& out) {
  if (count_ == 0) return;
  for (int i = 0; i < 2; ++i) {
    if (!Advance(out)) return;
  }
}

// A thread that moves to another CPU meanwhile is counted where it began. Who shares a stripe is
// only slower.
std::size_t ReadEpochs::StripeHere() const {
  return static_cast<std::size_t>(sched_getcpu()) & (stripes_.size() - 1);
}

bool ReadEpochs::Advance(std::vector<Retired>& out) {
  const std::uint32_t epoch = epoch_.load();
  const std::size_t other = (epoch + 1) & 1;
  for (const Stripe& stripe : stripes_) {
    if (stripe.readers[other].load() != 0) return false;
  }
  // What was retired in the epoch before has now seen both counters at zero.
  std::vector<Retired>& limbo = limbo_[other];
  out.insert(out.end(), limbo.begin(), limbo.end());
  count_ -= limbo.size();
  limbo.clear();
  if (count_ == 0) bytes_ = 0;
  epoch_.store(epoch + 1);
  return true;
}

}  // namespace coord::internal
