// What a Session talks to: one server, a group that Sentinels lead, or a Cluster. All of it is
// thread-safe.
#ifndef COORD_DEPLOYMENT_DEPLOYMENT_H_
#define COORD_DEPLOYMENT_DEPLOYMENT_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/deployment/background.h"
#include "coord/deployment/ear.h"
#include "coord/deployment/node.h"
#include "coord/internal/deadline.h"
#include "coord/wire/request.h"

namespace coord::internal {

class Deployment : public Router {
 public:
  virtual absl::Status Connect(const CallLimits& limits) = 0;
  // Before anything else: what carries its messages and its own beats, which wait for answers up to
  // `patience`. `background` is borrowed.
  virtual void Start(Background& background, absl::Duration patience) = 0;

  // See Node.
  virtual absl::StatusOr<Reply> Execute(Request& request, const CallLimits& limits,
                                        CallTrace* trace) = 0;
  virtual absl::StatusOr<Node::Acknowledged> ExecuteReplicated(Request& request,
                                                               const Replicas& replicas,
                                                               const CallLimits& limits,
                                                               CallTrace* trace) = 0;
  virtual absl::StatusOr<std::vector<Reply>> ExecuteBatch(std::span<Request> requests,
                                                          const CallLimits& limits) = 0;

  // The one node, where there is only one that holds keys; else some master.
  virtual Node& Main() = 0;
  // Those that hold the keys.
  virtual std::vector<Node*> Masters() = 0;
  // Those that calls may be answered by now: the masters, and whom a redirection has named since.
  virtual std::vector<Node*> Serving() { return Masters(); }
  // Told, before a call goes there, that Serving() may be others, or elsewhere. By any thread, with
  // no lock held. To be set before anything else.
  void OnServingChanged(std::function<void()> tell) { serving_changed_ = std::move(tell); }
  // All that are known: those that hold keys first, then replicas and Sentinels.
  virtual std::vector<Node*> AllNodes() = 0;

  // Asks anew which those are, where that can change. For who walks over all of them: a call finds
  // out by itself.
  virtual absl::Status Refresh(const CallLimits&) { return absl::OkStatus(); }

  // The ear for objects whose keys have that hash tag. Null: there is none, and none shall be made.
  virtual std::shared_ptr<Ear> EarOf(std::string_view tag, bool make = true) = 0;
  // Its channel.
  virtual std::string ChannelOf(std::string_view tag) const = 0;
  // Nobody tries in the background to reach what was given up: callers may.
  void Forgive() {
    for (Node* node : AllNodes()) node->record().Reset();
  }
  // A message by a push that is none of Wakes.
  virtual void OnPush(const Reply&) {}

  virtual void Close() = 0;
  virtual void CloseDescriptorsInChild() = 0;

 protected:
  void TellServingChanged() {
    if (serving_changed_) serving_changed_();
  }

 private:
  std::function<void()> serving_changed_;
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_DEPLOYMENT_H_
