// Asks each node for a sign of life: from time to time where the client was told so, and all the
// time of one that is down (given up, or it refuses us), until it is there again.
#ifndef COORD_DEPLOYMENT_PULSE_H_
#define COORD_DEPLOYMENT_PULSE_H_

#include <map>
#include <memory>

#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/deployment/deployment.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// One beat for all nodes: each tick asks the one whose turn it is.
class Pulse final : public Beat {
 public:
  // `period` zero: only those that are down.
  Pulse(Deployment& deployment, Background& background, absl::Duration period,
        absl::Duration timeout)
      : deployment_(deployment), background_(background), period_(period), timeout_(timeout) {}

  // One has gone down. To be followed by Background::Reschedule.
  void Hurry();

  absl::Time NextTick() override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void Closed() override;

 private:
  Deployment& deployment_;
  Background& background_;
  const absl::Duration period_;
  const absl::Duration timeout_;

  Mutex mutex_;
  // The thread's own round: when each is due.
  std::map<const Node*, absl::Time> due_ ABSL_GUARDED_BY(mutex_);
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_PULSE_H_
