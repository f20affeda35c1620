#include "coord/deployment/sentinel.h"

#include <algorithm>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::string_view kSwitchChannel = "+switch-master";
// One Sentinel's share of the time to find the master.
constexpr absl::Duration kOneSentinel = absl::Seconds(1);
// How often the Sentinel that tells us of failovers is asked as well, in case a message was lost.
constexpr absl::Duration kPoll = absl::Seconds(1);
constexpr absl::Duration kNextSentinel = absl::Milliseconds(100);

Request AskFor(std::string_view master) {
  const std::string_view words[] = {"SENTINEL", "MASTER", master};
  Request request = Request::Command(words);
  request.set_retry_safe(true);
  return request;
}

// What a Sentinel does not know it refuses in few words.
absl::Status Explained(const absl::Status& status) {
  if (status.message().find("No such master") == absl::string_view::npos) return status;
  return MakeStatus(status.code(), StrCat(FromAbsl(status.message()),
                                          " (`SENTINEL MASTERS` lists those it knows)"));
}

std::optional<std::uint16_t> Port(std::string_view text) {
  const std::optional<std::int64_t> port = ParseInt64(text);
  if (!port || *port < 1 || *port > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

}  // namespace

absl::StatusOr<MasterReport> ReadMasterReport(const Reply& reply, std::string_view sentinel) {
  MasterReport report;
  std::optional<std::uint16_t> port;
  bool replaced = false;
  const auto fields = reply.items();
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].text();
    const std::string& value = fields[i + 1].text();
    if (name == "ip") report.endpoint.host = value;
    if (name == "port") port = Port(value);
    if (name == "config-epoch") report.epoch = ParseInt64(value).value_or(0);
    if (name == "failover-state") replaced = value == "reconf_slaves" || value == "update_config";
  }
  if (report.endpoint.host.empty() || !port) {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat("the Sentinel ", sentinel, " answered ", reply.ToDebugString()));
  }
  report.endpoint.port = *port;
  // Who leads a failover counts the new epoch as soon as there is a new master, and names the old
  // one until the replicas follow; others name the new one by then.
  if (replaced) --report.epoch;
  return report;
}

std::optional<Endpoint> ReadSwitch(std::string_view text, std::string_view master) {
  std::string_view fields[5];
  for (std::string_view& field : fields) {
    const std::size_t space = std::min(text.find(' '), text.size());
    field = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  const std::optional<std::uint16_t> port = Port(fields[4]);
  if (fields[0] != master || fields[3].empty() || !port || !text.empty()) return std::nullopt;
  return Endpoint{{}, std::string(fields[3]), *port};
}

absl::StatusOr<Endpoint> SentinelGroup::Group::Known() {
  MutexLock lock(mutex);
  if (known) return known->endpoint;
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("no Sentinel has said yet where the master ", Quoted(master), " is"),
                    kUnavailable);
}

bool SentinelGroup::Group::Learn(const MasterReport& report) {
  {
    MutexLock lock(mutex);
    if (known && report.epoch < known->epoch) return false;
    const bool moved = known && known->endpoint != report.endpoint;
    known = report;
    if (!moved) return true;
  }
  on_move(report.endpoint);
  return true;
}

absl::StatusOr<Endpoint> SentinelGroup::Group::Find(const CallLimits& limits) {
  std::size_t start;
  std::int64_t least;
  {
    MutexLock lock(mutex);
    start = first;
    least = known ? known->epoch : 0;
  }
  std::optional<MasterReport> newest;
  std::size_t answers = 0;
  std::string troubles;
  // Why nobody answers. That of one Sentinel may be its own fault; what they all refuse is ours.
  std::optional<absl::Status> lasting;
  bool passing = false;
  for (std::size_t i = 0; i < sentinels.size(); ++i) {
    // A majority may have missed a failover together; then the others are asked too.
    if (answers > sentinels.size() / 2 && newest->epoch >= least) break;
    const std::size_t which = (start + i) % sentinels.size();
    Node& sentinel = *sentinels[which];
    Request request = AskFor(master);
    const CallLimits share{std::min(limits.deadline, DeadlineAfter(kOneSentinel)), limits.stop};
    // One attempt: there are others to ask.
    const absl::Status reached = sentinel.shared().Get(share, Channel::Patience::kOnce).status();
    const absl::StatusOr<Reply> reply =
        reached.ok() ? sentinel.Execute(request, share) : absl::StatusOr<Reply>(reached);
    absl::StatusOr<MasterReport> report =
        reply.ok() ? ReadMasterReport(*reply, sentinel.name()) : Explained(reply.status());
    if (!report.ok()) {
      if (report.status().code() == absl::StatusCode::kCancelled) return report.status();
      if (IsLasting(report.status())) {
        lasting = report.status();
      } else {
        passing = true;
      }
      troubles += StrCat(troubles.empty() ? "" : "; ", FromAbsl(report.status().message()));
      continue;
    }
    if (++answers == 1) {
      MutexLock lock(mutex);
      first = which;
    }
    if (!newest || report->epoch > newest->epoch) newest = *std::move(report);
  }
  if (!newest) {
    const std::string message =
        StrCat("no Sentinel says where the master ", Quoted(master), " is: ", troubles);
    return lasting && !passing ? MakeStatus(lasting->code(), message)
                               : MakeStatus(absl::StatusCode::kUnavailable, message, kUnavailable);
  }
  if (Learn(*newest)) return newest->endpoint;
  return MakeStatus(
      absl::StatusCode::kUnavailable,
      StrCat("the Sentinels that can be reached say that the master ", Quoted(master), " is ",
             newest->endpoint.ToString(), ", which a failover has replaced since"),
      kUnavailable);
}

// Listens at one Sentinel for failovers, and asks it from time to time; goes on to the next when it
// does not answer.
class SentinelGroup::Watch final : public Beat {
 public:
  Watch(std::shared_ptr<Group> group, absl::Duration patience)
      : group_(std::move(group)), patience_(std::min(patience, kOneSentinel)) {}

  // There is news. To be followed by Background::Reschedule.
  void Hurry() {
    MutexLock lock(mutex_);
    if (closed_) return;
    hurried_ = true;
    if (!asking_) ask_at_ = absl::InfinitePast();
  }

  absl::Time NextTick() override {
    MutexLock lock(mutex_);
    return ask_at_;
  }
  std::optional<Ask> Tick(absl::Time) override {
    MutexLock lock(mutex_);
    ask_at_ = absl::InfiniteFuture();
    asking_ = true;
    hurried_ = false;
    return Ask{AskFor(group_->master), patience_, group_->sentinels[which_].get()};
  }
  void Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time now) override {
    absl::StatusOr<MasterReport> report =
        reply.ok() ? ReadMasterReport(*reply, "that is watched") : reply.status();
    if (report.ok()) group_->Learn(*report);
    MutexLock lock(mutex_);
    asking_ = false;
    if (closed_) return;
    if (!report.ok()) which_ = (which_ + 1) % group_->sentinels.size();
    ask_at_ = hurried_ ? now : now + (report.ok() ? kPoll : kNextSentinel);
  }
  void LinkBroken() override {
    MutexLock lock(mutex_);
    if (!closed_ && !asking_) ask_at_ = absl::InfinitePast();
  }
  void Closed() override {
    MutexLock lock(mutex_);
    closed_ = true;
    ask_at_ = absl::InfiniteFuture();
  }

 private:
  const std::shared_ptr<Group> group_;
  const absl::Duration patience_;

  Mutex mutex_;
  std::size_t which_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  bool hurried_ ABSL_GUARDED_BY(mutex_) = false;  // since it asked last
  absl::Time ask_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

absl::StatusOr<std::unique_ptr<Deployment>> SentinelGroup::Make(const Url& url, NodeOptions data) {
  auto group = std::make_shared<Group>(url.sentinel_master);
  data.title = StrCat("master ", Quoted(url.sentinel_master));
  data.locate = [group](const CallLimits& limits, bool background) {
    return background ? group->Known() : group->Find(limits);
  };
  NodeOptions sentinel = data;
  sentinel.locate = nullptr;
  sentinel.title.clear();
  sentinel.identity = {url.sentinel_user, url.sentinel_password, 0, data.identity.client_name};
  sentinel.credentials = nullptr;
  sentinel.scripts = false;
  sentinel.spin = SpinMode::kNever;
  sentinel.channel = kSwitchChannel;
  sentinel.fail_fast_after = absl::InfiniteDuration();
  sentinel.greeting = {};
  std::unique_ptr<SentinelGroup> made(new SentinelGroup(group, std::move(data)));
  sentinel.on_push = [owner = made.get()](Reply push) {
    if (push.items().size() != 3 || push.items()[1].text() != kSwitchChannel) return;
    if (!ReadSwitch(push.items()[2].text(), owner->group_->master)) return;
    // It says nothing of the epoch, without which nobody can tell whether it is old news.
    owner->watch_->Hurry();
    owner->background_->Reschedule(*owner->watch_);
  };
  for (const HostPort& host : url.hosts) {
    sentinel.endpoint = {{}, host.host, host.port};
    group->sentinels.push_back(std::make_unique<Node>(sentinel));
  }
  return made;
}

SentinelGroup::SentinelGroup(std::shared_ptr<Group> group, NodeOptions data)
    : Standalone(std::move(data)), group_(std::move(group)) {
  group_->on_move = [this](const Endpoint& to) { Switched(to); };
}

void SentinelGroup::Start(Background& background, absl::Duration patience) {
  Standalone::Start(background, patience);
  background_ = &background;
  watch_ = std::make_shared<Watch>(group_, patience);
  background.Add(watch_);
}

void SentinelGroup::Switched(const Endpoint& to) {
  node_.record().Note(StrCat("failover: the master is ", to.ToString(), " now"));
  node_.Disconnect(StrCat("a failover has made ", to.ToString(), " the master"));
  TellServingChanged();
}

std::vector<Node*> SentinelGroup::AllNodes() {
  std::vector<Node*> nodes = {&node_};
  for (const auto& sentinel : group_->sentinels) nodes.push_back(sentinel.get());
  return nodes;
}

void SentinelGroup::Close() {
  Standalone::Close();
  for (const auto& sentinel : group_->sentinels) sentinel->Close();
}

void SentinelGroup::CloseDescriptorsInChild() {
  Standalone::CloseDescriptorsInChild();
  for (const auto& sentinel : group_->sentinels) sentinel->CloseDescriptorsInChild();
}

}  // namespace coord::internal
