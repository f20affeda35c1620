#include "coord/deployment/ear.h"

#include <utility>

#include "coord/deployment/handshake.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr absl::Duration kRetry = absl::Milliseconds(20);
constexpr absl::Duration kPatience = absl::Seconds(1);

// Asks the server for a sign of life over the background connection, and tells whoever made it.
class Knock final : public Beat {
 public:
  Knock(Node& node, absl::Duration patience) : node_(node), patience_(patience) {}

  absl::Time NextTick() override {
    MutexLock lock(mutex_);
    return ask_at_;
  }
  std::optional<Ask> Tick(absl::Time) override {
    MutexLock lock(mutex_);
    ask_at_ = absl::InfiniteFuture();
    const std::string_view ping[] = {"PING"};
    return Ask{Request::Command(ping), patience_, &node_};
  }
  void Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time now) override {
    if (reply.ok() || IsLasting(reply.status())) return Done(reply.ok());
    MutexLock lock(mutex_);
    ask_at_ = now + kRetry;
  }
  void Closed() override { Done(false); }

  bool Wait(const CallLimits& limits) {
    const auto wake = [this] {
      MutexLock lock(mutex_);
      changed_.NotifyAll();
    };
    std::optional<std::stop_callback<decltype(wake)>> on_stop;
    if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
    MutexLock lock(mutex_);
    while (!done_ && !limits.stop.stop_requested() && !Passed(limits.deadline)) {
      changed_.WaitUntil(mutex_, limits.deadline);
    }
    return done_ && answered_;
  }

 private:
  void Done(bool answered) {
    MutexLock lock(mutex_);
    done_ = true;
    answered_ = answered;
    changed_.NotifyAll();
  }

  Node& node_;
  const absl::Duration patience_;
  Mutex mutex_;
  CondVar changed_;
  absl::Time ask_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

bool ProcessEar::subscribed() {
  Node* const node = node_();
  return node != nullptr && node->subscribed();
}

std::shared_ptr<Connection> ProcessEar::link() {
  Node* const node = node_();
  return node == nullptr ? nullptr : node->background().Current();
}

bool ProcessEar::Listen(const CallLimits& limits) {
  Node* const node = node_();
  if (node == nullptr) return false;
  if (node->background().Current() != nullptr) return true;
  const auto knock = std::make_shared<Knock>(*node, patience_);
  if (!background_.Add(knock)) return false;
  const bool answered = knock->Wait(limits);
  background_.Remove(*knock);
  return answered;
}

ShardEar::ShardEar(std::string channel, Background& background, const Clock& clock,
                   std::function<Node*()> node, std::function<bool(ShardEar&)> retire)
    : channel_(std::move(channel)),
      background_(background),
      clock_(clock),
      node_(std::move(node)),
      retire_(std::move(retire)) {}

void ShardEar::Use(int more) {
  MutexLock lock(mutex_);
  users_ += more;
  // Noticed when it next looks, which is no hurry.
  idle_since_ = users_ > 0 ? absl::InfiniteFuture() : clock_.Now();
}

bool ShardEar::used() {
  MutexLock lock(mutex_);
  return users_ > 0;
}

std::shared_ptr<Connection> ShardEar::link() {
  Node* const node = node_();
  return node == nullptr ? nullptr : node->background().Current();
}

bool ShardEar::listening() {
  {
    MutexLock lock(mutex_);
    if (!subscribed_) return false;
  }
  return link() != nullptr;
}

bool ShardEar::Listen(const CallLimits& limits) {
  if (listening()) return true;
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  {
    MutexLock lock(mutex_);
    if (refused_ && clock_.Now() < ask_at_) return false;
    refused_ = false;
    subscribed_ = false;  // perhaps on a connection that is gone
    ask_at_ = absl::InfinitePast();
  }
  background_.Reschedule(*this);
  MutexLock lock(mutex_);
  const int before = attempts_;
  while (!subscribed_ && !closed_ && !refused_ && attempts_ < before + 3 &&
         !limits.stop.stop_requested() && !Passed(limits.deadline)) {
    changed_.WaitUntil(mutex_, limits.deadline);
  }
  return subscribed_;
}

void ShardEar::Unsubscribed() {
  {
    MutexLock lock(mutex_);
    if (asking_) ended_ = true;
    if (!subscribed_) return;
    subscribed_ = false;
    ask_at_ = absl::InfinitePast();
  }
  background_.Reschedule(*this);
}

absl::Time ShardEar::NextTick() {
  MutexLock lock(mutex_);
  if (asking_ || closed_) return absl::InfiniteFuture();
  if (subscribed_) return users_ > 0 ? clock_.Now() + kLinger : idle_since_ + kLinger;
  return ask_at_;
}

std::optional<Beat::Ask> ShardEar::Tick(absl::Time now) {
  bool idle = false;
  {
    MutexLock lock(mutex_);
    if (asking_ || closed_) return std::nullopt;
    idle = users_ == 0 && now - idle_since_ >= kLinger;
    if (!idle && subscribed_) return std::nullopt;
  }
  if (idle && retire_(*this)) {
    bool subscribed;
    {
      MutexLock lock(mutex_);
      retiring_ = true;
      subscribed = subscribed_;
      asking_ = true;
    }
    if (!subscribed) {
      background_.Remove(*this);
      return std::nullopt;
    }
    const std::string_view words[] = {"SUNSUBSCRIBE", channel_};
    return Ask{Request::PushedCommand(words), kPatience, node_()};
  }
  MutexLock lock(mutex_);
  if (idle) {
    idle_since_ = now;
    return std::nullopt;
  }
  asking_ = true;
  refused_ = false;
  ended_ = false;
  const std::string_view words[] = {"SSUBSCRIBE", channel_};
  return Ask{Request::Command(words), kPatience, node_()};
}

void ShardEar::Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time now) {
  {
    MutexLock lock(mutex_);
    asking_ = false;
    if (!retiring_) {
      ++attempts_;
      // A message that it has ended again may have been quicker than the answer, which is handed
      // on by another thread.
      subscribed_ = reply.ok() && !ended_;
      // A lasting refusal (a right is missing): whoever waits asks more often instead.
      refused_ = !reply.ok() && IsLasting(reply.status());
      ask_at_ = now + (refused_ ? kLinger : kRetry);
      changed_.NotifyAll();
      return;
    }
  }
  background_.Remove(*this);
}

void ShardEar::LinkBroken() {
  MutexLock lock(mutex_);
  subscribed_ = false;
  ask_at_ = absl::InfinitePast();
}

void ShardEar::Closed() {
  MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

}  // namespace coord::internal
