// What a client of a Cluster knows of it: its nodes, who serves what, and how that is kept up to
// date.
#include <algorithm>
#include <utility>

#include "coord/deployment/cluster.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {

// Asks who serves what when somebody has found that it has changed, one node after another until
// one says it; not faster than a Cluster can change, though many may find it at once.
class Cluster::Refresher final : public Beat {
 public:
  Refresher(Cluster& cluster, const Clock& clock) : cluster_(cluster), clock_(clock) {}

  // True when that changed when it next asks.
  bool Want() {
    MutexLock lock(mutex_);
    if (wanted_) return false;
    wanted_ = true;
    return !asking_;
  }

  absl::Time NextTick() override {
    MutexLock lock(mutex_);
    return wanted_ && !asking_ ? ask_at_ : absl::InfiniteFuture();
  }

  std::optional<Ask> Tick(absl::Time now) override {
    const std::vector<Node*> nodes = cluster_.Witnesses();
    MutexLock lock(mutex_);
    if (nodes.empty() || !wanted_ || asking_) return std::nullopt;
    if (now < ask_at_) return std::nullopt;
    // A random one: many clients look at once, and not all at the same node.
    if (turns_ == 0) {
      which_ = static_cast<std::size_t>(jitter_.Next() * 1e6);
    }
    ++turns_;
    asked_ = nodes[++which_ % nodes.size()];
    round_ = turns_ / static_cast<int>(nodes.size());
    asking_ = true;
    wanted_ = false;
    return Ask{cluster_.TopologyRequest(), kPatience, asked_};
  }

  void Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time now) override {
    Node* asked;
    {
      MutexLock lock(mutex_);
      asked = asked_;
    }
    absl::StatusOr<Topology> topology =
        reply.ok() ? cluster_.ReadTopology(*reply, *asked) : reply.status();
    if (!reply.ok() && !coord::IsUnavailable(reply.status())) {
      // Older than 7.0, or this user may not ask so: the other way round next time.
      cluster_.use_slots_.store(!cluster_.use_slots_.load());
    }
    const bool whole = topology.ok() && topology->covered() > 0;
    const bool news = whole && cluster_.Install(*topology);
    MutexLock lock(mutex_);
    asking_ = false;
    if (!whole) {
      wanted_ = true;
      // The next one at once; when none has said it, less and less often.
      ask_at_ = now + std::min(kNext * (1 << std::min(round_, 10)), kMostQuiet);
      return;
    }
    turns_ = 0;
    // While nothing comes of it, less and less often: those who ask for it go on waiting.
    quiet_ = news ? kLeastQuiet : std::min(2 * quiet_, kMostQuiet);
    ask_at_ = now + quiet_ * (0.5 + 0.5 * jitter_.Next());
  }

  void Closed() override {
    MutexLock lock(mutex_);
    asking_ = true;  // for ever
  }

 private:
  static constexpr absl::Duration kPatience = absl::Seconds(1);
  static constexpr absl::Duration kNext = absl::Milliseconds(20);
  static constexpr absl::Duration kLeastQuiet = absl::Milliseconds(50);
  static constexpr absl::Duration kMostQuiet = absl::Milliseconds(500);

  Cluster& cluster_;
  const Clock& clock_;

  Mutex mutex_;
  Jitter jitter_ ABSL_GUARDED_BY(mutex_);
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  Node* asked_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::size_t which_ ABSL_GUARDED_BY(mutex_) = 0;
  int turns_ ABSL_GUARDED_BY(mutex_) = 0;
  int round_ ABSL_GUARDED_BY(mutex_) = 0;  // how often all have been asked in vain
  absl::Duration quiet_ ABSL_GUARDED_BY(mutex_) = kLeastQuiet;
  absl::Time ask_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

absl::StatusOr<std::unique_ptr<Deployment>> Cluster::Make(const Url& url, std::string prefix,
                                                          NodeOptions data) {
  return std::unique_ptr<Deployment>(
      new Cluster(url.hosts, std::move(prefix), url.tls, std::move(data)));
}

Cluster::Cluster(std::vector<HostPort> seeds, std::string prefix, bool tls, NodeOptions data)
    : seeds_(std::move(seeds)), prefix_(std::move(prefix)), tls_(tls), data_(std::move(data)) {}

Cluster::~Cluster() = default;

void Cluster::Start(Background& background, absl::Duration patience) {
  background_ = &background;
  patience_ = patience;
  refresher_ = std::make_shared<Refresher>(*this, *data_.clock);
}

Node& Cluster::NodeAt(const HostPort& address) {
  const Endpoint endpoint{{}, address.host, address.port};
  std::unique_ptr<Node>& node = nodes_[endpoint.ToString()];
  if (node == nullptr) {
    NodeOptions options = data_;
    options.endpoint = endpoint;
    node = std::make_unique<Node>(std::move(options));
    const std::size_t made = made_.load(std::memory_order_relaxed);
    if (made < all_.size()) {
      all_[made].store(node.get(), std::memory_order_release);
      made_.store(made + 1, std::memory_order_release);
    }
    if (closed_) node->Close();
  }
  return *node;
}

Request Cluster::TopologyRequest() const {
  const std::string_view shards[] = {"CLUSTER", "SHARDS"};
  const std::string_view slots[] = {"CLUSTER", "SLOTS"};
  Request request = Request::Command(use_slots_.load() ? slots : shards);
  request.set_retry_safe(true);
  return request;
}

absl::StatusOr<Topology> Cluster::ReadTopology(const Reply& reply, const Node& asked) const {
  return use_slots_.load() ? ReadClusterSlots(reply, AddressOf(asked))
                           : ReadClusterShards(reply, AddressOf(asked), tls_);
}

absl::StatusOr<Topology> Cluster::Fetch(Node& node, const CallLimits& limits) {
  absl::Status refused;
  for (int way = 0; way < 2; ++way) {
    Request request = TopologyRequest();
    const absl::StatusOr<Reply> reply = node.Execute(request, limits);
    if (reply.ok()) return ReadTopology(*reply, node);
    refused = reply.status();
    if (coord::IsUnavailable(refused) || refused.code() == absl::StatusCode::kCancelled) break;
    use_slots_.store(!use_slots_.load());
  }
  if (refused.message().find("cluster support disabled") != absl::string_view::npos) {
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat(node.name(), " is no node of a Cluster; redis:// is for single servers"));
  }
  return refused;
}

absl::Status Cluster::Connect(const CallLimits& limits) {
  std::vector<Node*> sources = AllNodes();
  {
    MutexLock lock(mutex_);
    for (const HostPort& seed : seeds_) {
      Node& node = NodeAt(seed);
      if (std::find(sources.begin(), sources.end(), &node) == sources.end()) {
        sources.push_back(&node);
      }
    }
  }
  return LearnFrom(sources, limits);
}

absl::Status Cluster::Refresh(const CallLimits& limits) { return LearnFrom(Witnesses(), limits); }

absl::Status Cluster::LearnFrom(const std::vector<Node*>& sources, const CallLimits& limits) {
  std::string troubles;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    Node& node = *sources[i];
    // Those that follow get their share of the time.
    CallLimits share = limits;
    const auto left = static_cast<int>(sources.size() - i);
    if (left > 1) share.deadline = DeadlineAfter(TimeUntil(limits.deadline) / left);
    absl::Status status = node.Connect(share);
    absl::StatusOr<Topology> topology =
        status.ok() ? Fetch(node, share) : absl::StatusOr<Topology>(status);
    if (topology.ok() && topology->covered() == 0) {
      topology = MakeStatus(absl::StatusCode::kUnavailable,
                            StrCat(node.name(), " says that no slot is served"), kUnavailable);
    }
    if (!topology.ok()) {
      status = topology.status();
      if (IsLasting(status) || status.code() == absl::StatusCode::kCancelled) return status;
      troubles += StrCat(troubles.empty() ? "" : "; ", FromAbsl(status.message()));
      continue;
    }
    sharded_channels_.store(node.facts().has_sharded_channels());
    Install(*topology);
    return absl::OkStatus();
  }
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("no node of the Cluster says who serves what: ", troubles),
                    kUnavailable);
}

bool Cluster::Install(const Topology& topology) {
  std::vector<Node*> gone;
  std::vector<Node*> promoted;
  bool others_serve;
  {
    MutexLock lock(mutex_);
    if (version_ > 0 && topology == topology_) return false;
    std::vector<Node*> masters, others;
    for (const HostPort& address : topology.masters) masters.push_back(&NodeAt(address));
    for (const HostPort& address : topology.others) others.push_back(&NodeAt(address));
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
      const std::uint16_t index = topology.owner[slot];
      owner_[slot].store(index == kNobody ? nullptr : masters[index], std::memory_order_release);
    }
    const auto in = [](const std::vector<Node*>& list, const Node* node) {
      return std::find(list.begin(), list.end(), node) != list.end();
    };
    for (const auto& [name, node] : nodes_) {
      if (!in(masters, node.get()) && !in(others, node.get())) gone.push_back(node.get());
    }
    for (Node* node : masters) {
      if (version_ > 0 && !in(masters_, node)) promoted.push_back(node);
    }
    // Who waits there for an answer would wait in vain.
    std::vector<Node*> failed;
    for (const HostPort& address : topology.failed) failed.push_back(&NodeAt(address));
    for (Node* node : failed) {
      if (!in(failed_, node)) gone.push_back(node);
    }
    failed_ = std::move(failed);
    others_serve = masters != masters_ || !guests_.empty();
    guests_.clear();
    topology_ = topology;
    masters_ = std::move(masters);
    others_ = std::move(others);
    ++version_;
    changed_.NotifyAll();
  }
  if (others_serve) TellServingChanged();
  for (Node* node : promoted) node->record().Note("it serves slots of the Cluster now");
  for (Node* node : gone) node->Disconnect("the Cluster has it as failed, or not at all");
  return true;
}

void Cluster::Stale() {
  if (!refresher_->Want()) return;
  if (background_->Add(refresher_)) background_->Reschedule(*refresher_);
}

int Cluster::version() {
  MutexLock lock(mutex_);
  return version_;
}

bool Cluster::AwaitNews(int version, const CallLimits& limits, absl::Duration most) {
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  const SteadyTime until = std::min(limits.deadline, DeadlineAfter(most));
  MutexLock lock(mutex_);
  while (version_ == version && !closed_ && !limits.stop.stop_requested() && !Passed(until)) {
    changed_.WaitUntil(mutex_, until);
  }
  return !closed_ && !limits.stop.stop_requested() && !Passed(limits.deadline);
}

std::vector<Node*> Cluster::Masters() {
  MutexLock lock(mutex_);
  if (!masters_.empty()) return masters_;
  return {&NodeAt(seeds_.front())};
}

std::vector<Node*> Cluster::Serving() {
  std::vector<Node*> nodes = Masters();
  MutexLock lock(mutex_);
  for (Node* guest : guests_) {
    if (std::find(nodes.begin(), nodes.end(), guest) == nodes.end()) nodes.push_back(guest);
  }
  return nodes;
}

std::vector<Node*> Cluster::Witnesses() {
  MutexLock lock(mutex_);
  std::vector<Node*> nodes = masters_;
  for (Node* node : others_) {
    if (std::find(failed_.begin(), failed_.end(), node) == failed_.end()) nodes.push_back(node);
  }
  return nodes;
}

std::vector<Node*> Cluster::AllNodes() {
  MutexLock lock(mutex_);
  std::vector<Node*> nodes = masters_;
  nodes.insert(nodes.end(), others_.begin(), others_.end());
  return nodes;
}

}  // namespace coord::internal
