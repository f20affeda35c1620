#include "coord/lock/quorum_wait.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/deployment/wakes.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/strings.h"
#include "coord/internal/waiting.h"
#include "coord/lock/quorum_vote.h"

namespace coord::internal {

bool ReleaseCount::enough() const {
  for (const std::string& owner : released_) {
    if (owner.empty()) continue;
    const auto same = std::count(released_.begin(), released_.end(), owner);
    if (static_cast<std::size_t>(same) >= MajorityOf(released_.size())) return true;
  }
  return false;
}

struct QuorumWaiter::State {
  explicit State(std::size_t servers) : count(servers) {}

  Mutex mutex;
  CondVar changed;
  ReleaseCount count ABSL_GUARDED_BY(mutex);
};

// Hears what one server says; asks for a sign of life when there is no connection for that yet.
class QuorumWaiter::Ear final : public Sleeper, public Beat {
 public:
  Ear(std::shared_ptr<State> state, std::size_t server, Session& session)
      : state_(std::move(state)), server_(server), patience_(session.options().timeout) {}

  void OnMessage(std::string_view owner) override {
    MutexLock lock(state_->mutex);
    state_->count.Heard(server_, owner);
    if (state_->count.enough()) state_->changed.NotifyAll();
  }

  absl::Time NextTick() override {
    return asked_.load() ? absl::InfiniteFuture() : absl::InfinitePast();
  }
  std::optional<Ask> Tick(absl::Time) override {
    asked_.store(true);
    const std::string_view ping[] = {"PING"};
    return Ask{Request::Command(ping), patience_};
  }
  void Answer(absl::StatusOr<Reply>, absl::Time, absl::Time) override {}
  void LinkBroken() override { asked_.store(false); }
  void Closed() override {}

 private:
  const std::shared_ptr<State> state_;
  const std::size_t server_;
  const absl::Duration patience_;
  std::atomic<bool> asked_{false};
};

QuorumWaiter::QuorumWaiter(QuorumCore& core)
    : core_(core), id_(NewOwnerId({})), state_(std::make_shared<State>(core.size())) {
  for (std::size_t i = 0; i < core.size(); ++i) {
    Session& session = *core.member(i).session();
    listeners_.push_back(StrCat(id_, " ", session.ChannelOf({})));
    ears_.push_back(std::make_shared<Ear>(state_, i, session));
    session.wakes().Add(id_, ears_.back());
    session.wakes().Want(1);
    if (!session.background().Add(ears_.back())) continue;  // closed: nothing comes
    session.background().Look();
  }
}

QuorumWaiter::~QuorumWaiter() {
  for (std::size_t i = 0; i < ears_.size(); ++i) {
    Session& session = *core_.member(i).session();
    session.wakes().Remove(id_);
    session.background().Remove(*ears_[i]);
    session.wakes().Want(-1);
    session.wakes().NoteWait();
  }
}

void QuorumWaiter::BeginRound() {
  MutexLock lock(state_->mutex);
  state_->count.Clear();
}

bool QuorumWaiter::Wait(absl::Duration holder_left, const CallLimits& limits) {
  const SteadyTime next = DeadlineAfter(PollingPause(++asked_, holder_left, jitter_.Next()));
  const SteadyTime until = std::min(next, limits.deadline);
  const auto wake = [this] {
    MutexLock lock(state_->mutex);
    state_->changed.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  MutexLock lock(state_->mutex);
  while (!limits.stop.stop_requested()) {
    if (state_->count.enough()) return true;
    if (Passed(until)) return next <= limits.deadline;
    state_->changed.WaitUntil(state_->mutex, until);
  }
  return false;
}

}  // namespace coord::internal
