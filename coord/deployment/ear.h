// How messages about one object reach this process: over the background connection of the node that
// has its keys. Thread-safe.
#ifndef COORD_DEPLOYMENT_EAR_H_
#define COORD_DEPLOYMENT_EAR_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/internal/deadline.h"
#include "coord/internal/sync.h"

namespace coord::internal {

class Ear {
 public:
  virtual ~Ear() = default;
  // Where the server's scripts are to publish them.
  virtual const std::string& channel() const = 0;
  // Whether messages come at present, as far as the server lets them: there is a connection that
  // has asked for them.
  virtual bool listening() = 0;
  // Whether the server has said that they will come.
  virtual bool subscribed() = 0;
  // The connection that they come over; null: none at present.
  virtual std::shared_ptr<Connection> link() = 0;
  // Makes sure that it is listening(). False when that could not be done within the limits; whoever
  // waits then finds out by asking.
  virtual bool Listen(const CallLimits& limits) = 0;
};

// One channel for all messages to this process, which every background connection subscribes to
// while signing in.
class ProcessEar final : public Ear {
 public:
  // `node`: where the object's keys are now, or null.
  ProcessEar(std::string channel, Background& background, absl::Duration patience,
             std::function<Node*()> node)
      : channel_(std::move(channel)),
        background_(background),
        patience_(patience),
        node_(std::move(node)) {}

  const std::string& channel() const override { return channel_; }
  bool listening() override { return link() != nullptr; }
  bool subscribed() override;
  std::shared_ptr<Connection> link() override;
  bool Listen(const CallLimits& limits) override;

 private:
  const std::string channel_;
  Background& background_;
  const absl::Duration patience_;
  const std::function<Node*()> node_;
};

// A sharded channel for the objects of one hash tag, in their slot (Redis 7.0, "Sharded Pub/Sub").
// It subscribes, and does so again where the slot has moved to or after a break, as long as somebody
// uses it, and for kLinger after that.
class ShardEar final : public Beat, public std::enable_shared_from_this<ShardEar> {
 public:
  static constexpr absl::Duration kLinger = absl::Seconds(10);

  // `retire` is called when it has not been used for long; true when it may go, and then nobody can
  // come to use it any more.
  ShardEar(std::string channel, Background& background, const Clock& clock,
           std::function<Node*()> node, std::function<bool(ShardEar&)> retire);

  // One more who uses it, or less.
  void Use(int more);
  bool used();

  const std::string& channel() const { return channel_; }
  bool listening();
  bool subscribed() { return listening(); }
  std::shared_ptr<Connection> link();
  bool Listen(const CallLimits& limits);
  // The server does not send to it any more: its slot has moved.
  void Unsubscribed();

  absl::Time NextTick() override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void LinkBroken() override;
  void Closed() override;

 private:
  const std::string channel_;
  Background& background_;
  const Clock& clock_;
  const std::function<Node*()> node_;
  const std::function<bool(ShardEar&)> retire_;

  Mutex mutex_;
  CondVar changed_;
  int users_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time idle_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  bool refused_ ABSL_GUARDED_BY(mutex_) = false;  // for lack of a right, say, until ask_at_
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;    // by the server, since it was asked last
  bool subscribed_ ABSL_GUARDED_BY(mutex_) = false;
  bool retiring_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time ask_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;  // answered ones
};

// Somebody's use of a ShardEar.
class ShardEarUse final : public Ear {
 public:
  explicit ShardEarUse(std::shared_ptr<ShardEar> ear) : ear_(std::move(ear)) {}
  ~ShardEarUse() override { ear_->Use(-1); }
  ShardEarUse(const ShardEarUse&) = delete;
  ShardEarUse& operator=(const ShardEarUse&) = delete;

  const std::string& channel() const override { return ear_->channel(); }
  bool listening() override { return ear_->listening(); }
  bool subscribed() override { return ear_->subscribed(); }
  std::shared_ptr<Connection> link() override { return ear_->link(); }
  bool Listen(const CallLimits& limits) override { return ear_->Listen(limits); }

 private:
  const std::shared_ptr<ShardEar> ear_;
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_EAR_H_
