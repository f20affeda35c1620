// A deployment of one server; or of one group whose master Sentinels know, which looks like one
// server that moves.
#ifndef COORD_DEPLOYMENT_STANDALONE_H_
#define COORD_DEPLOYMENT_STANDALONE_H_

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "coord/deployment/deployment.h"
#include "coord/deployment/ear.h"
#include "coord/deployment/node.h"

namespace coord::internal {

class Standalone : public Deployment {
 public:
  explicit Standalone(NodeOptions options) : node_(std::move(options)) {}

  absl::Status Connect(const CallLimits& limits) override { return node_.Connect(limits); }
  void Start(Background& background, absl::Duration patience) override {
    ear_ = std::make_shared<ProcessEar>(node_.options().channel, background, patience,
                                        [this] { return &node_; });
  }
  absl::StatusOr<Reply> Execute(Request& request, const CallLimits& limits,
                                CallTrace* trace) override {
    return node_.Execute(request, limits, trace);
  }
  absl::StatusOr<Node::Acknowledged> ExecuteReplicated(Request& request, const Replicas& replicas,
                                                       const CallLimits& limits,
                                                       CallTrace* trace) override {
    return node_.ExecuteReplicated(request, replicas, limits, trace);
  }
  absl::StatusOr<std::vector<Reply>> ExecuteBatch(std::span<Request> requests,
                                                  const CallLimits& limits) override {
    return node_.ExecuteBatch(requests, limits);
  }

  Node& Main() override { return node_; }
  std::vector<Node*> Masters() override { return {&node_}; }
  std::vector<Node*> AllNodes() override { return {&node_}; }
  std::shared_ptr<Ear> EarOf(std::string_view, bool) override { return ear_; }
  std::string ChannelOf(std::string_view) const override { return node_.options().channel; }

  Node* NodeFor(const Request&) override { return &node_; }
  Node* Follow(Node&, Request&, std::string_view) override { return nullptr; }
  void Unreached(Node&) override {}

  void Close() override { node_.Close(); }
  void CloseDescriptorsInChild() override { node_.CloseDescriptorsInChild(); }

 protected:
  Node node_;

 private:
  std::shared_ptr<Ear> ear_;  // constant after Start
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_STANDALONE_H_
