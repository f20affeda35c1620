// Whether it pays to poll the socket for a moment before sleeping on it.
//
// Nine tenths of a round trip between two idle CPUs is waking a halted core; a reader that keeps
// asking for a little longer than that sees most replies without it. Where it never pays (a distant
// server, a busy machine) it only burns CPU. So it is judged by outcome: the share of recent spins
// that were answered in time. Below a floor it turns itself off, and asks again now and then.
#ifndef COORD_WIRE_SPIN_H_
#define COORD_WIRE_SPIN_H_

#include <chrono>
#include <cstdint>

#include "coord/options.h"

namespace coord::internal {

class SpinJudge {
 public:
  // Waking the server's CPU, and a short script there.
  static constexpr std::chrono::microseconds kBudget{60};
  // On the same host no network can be what takes long: a server that has idled for a millisecond
  // runs a script several times slower than one that has not.
  static constexpr std::chrono::microseconds kLocalBudget{150};

  explicit SpinJudge(SpinMode mode, std::chrono::microseconds budget = kBudget)
      : mode_(mode), budget_(budget) {}

  // How long to ask before sleeping.
  std::chrono::microseconds budget() const { return budget_; }

  // Shall the next wait begin with a spin?
  bool ShouldSpin() {
    if (mode_ != SpinMode::kAdaptive) return mode_ == SpinMode::kAlways;
    if (score_ >= kFloor) return true;
    if (++skipped_ < probe_every_) return false;
    skipped_ = 0;
    return true;
  }

  // How the spin ended.
  void Record(bool answered) {
    score_ += (answered ? kOne - score_ : -score_) / kMemory;
    if (score_ >= kFloor) {
      probe_every_ = kProbeFirst;
    } else if (!answered && probe_every_ < kProbeMost) {
      probe_every_ *= 2;
    }
  }

 private:
  static constexpr int kOne = 1 << 16;
  static constexpr int kFloor = kOne * 6 / 10;
  static constexpr int kMemory = 16;  // spins that an average remembers
  static constexpr int kProbeFirst = 8;
  static constexpr int kProbeMost =
      1024;  // at 150 us a probe, below one thousandth of a caller's time

  const SpinMode mode_;
  const std::chrono::microseconds budget_;
  int score_ = kOne;
  int skipped_ = 0;
  int probe_every_ = kProbeFirst;
};

// False under a CPU quota (cgroup cpu.max) below two CPUs: time spent spinning would be taken from
// the work itself.
bool SpinningAffordable();

}  // namespace coord::internal

#endif  // COORD_WIRE_SPIN_H_
