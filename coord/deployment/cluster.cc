#include "coord/deployment/cluster.h"

#include <algorithm>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// A call is sent to so many nodes by redirections before it is given up as going in circles.
constexpr int kMostHops = 16;
// After so many it looks before it leaps: a Cluster in change needs a moment to agree.
constexpr int kQuickHops = 4;
// An attempt waits so long for a connection, then looks whether another serves the slot by now.
constexpr absl::Duration kReach = absl::Seconds(1);
// Between two looks at a Cluster in change, by a call that waits for it.
constexpr absl::Duration kLook = absl::Milliseconds(50);

absl::Status NobodyServes(const Request& request, int slot) {
  return MakeStatus(
      absl::StatusCode::kUnavailable,
      StrCat(request.what(), " not sent: no node of the Cluster serves slot ", slot, " at present"),
      kUnavailable);
}

}  // namespace

Node* Cluster::AnyMaster() {
  MutexLock lock(mutex_);
  const std::size_t count = masters_.size();
  if (count == 0) return nullptr;
  const unsigned first = next_master_.fetch_add(1, std::memory_order_relaxed);
  for (std::size_t i = 0; i < count; ++i) {
    Node* const node = masters_[(first + i) % count];
    if (!node->record().refusing()) return node;
  }
  return masters_[first % count];
}

Node* Cluster::Pick(const Route& route) {
  if (route.kind != Route::Kind::kSlot) return AnyMaster();
  return owner_[static_cast<std::size_t>(route.slot)].load(std::memory_order_acquire);
}

absl::StatusOr<Route> Cluster::RouteOrAsk(const Request& request, const CallLimits& limits) {
  absl::StatusOr<Route> route = RouteOf(request.command(), request.what());
  if (!route.ok() || route->kind != Route::Kind::kAskServer) return route;
  return AskServer(request, limits);
}

absl::StatusOr<Route> Cluster::AskServer(const Request& request, const CallLimits& limits) {
  // The command's own words, behind COMMAND GETKEYS.
  const std::string_view command = request.command();
  const std::size_t header = command.find("\r\n") + 2;
  const std::int64_t words = ParseInt64(command.substr(1, header - 3)).value_or(0);
  Request ask = Request::CommandKeysOf(words, command.substr(header));
  ask.set_retry_safe(true);
  CallProgress progress;
  const absl::StatusOr<Reply> reply = TryAll(ask, limits, progress, {}).reply;
  KeysRoute keys(request.what());
  if (!reply.ok()) {
    if (reply.status().message().find("has no key arguments") != absl::string_view::npos) {
      return keys.route();
    }
    return Annotate(reply.status(),
                    StrCat(request.what(), " not sent, since its keys are unknown"));
  }
  for (const Reply& key : reply->items()) {
    if (!keys.Add(key.text())) return keys.status();
  }
  return keys.route();
}

Node* Cluster::Learn(const Redirect& redirect) {
  Node* to;
  bool guest;
  {
    MutexLock lock(mutex_);
    const auto in = [](const auto& list, const auto& one) {
      return std::find(list.begin(), list.end(), one) != list.end();
    };
    if (!in(topology_.masters, redirect.to) && !in(topology_.others, redirect.to)) return nullptr;
    to = &NodeAt(redirect.to);
    if (!redirect.ask) {
      owner_[static_cast<std::size_t>(redirect.slot)].store(to, std::memory_order_release);
      // What the map says now was never installed, so the next answer is news even if it is the
      // old.
      topology_.owner[static_cast<std::size_t>(redirect.slot)] = kNobody;
    }
    guest = !in(masters_, to) && !in(guests_, to);
    if (guest) guests_.push_back(to);
  }
  if (guest) TellServingChanged();
  return to;
}

Attempt Cluster::TryAll(Request& request, const CallLimits& limits, CallProgress& progress,
                        const Replicas& replicas) {
  using Verdict = Attempt::Verdict;
  const absl::StatusOr<Route> route = RouteOrAsk(request, limits);
  if (!route.ok()) return {Verdict::kFinal, CallFailure(route.status(), progress)};
  progress.reach = kReach;
  progress.router = this;
  Node* node = Pick(*route);
  int hops = 0;
  const auto fail = [&](absl::Status why) {
    return Attempt{Verdict::kFinal, CallFailure(why, progress)};
  };
  while (true) {
    if (node == nullptr) {
      const int seen = version();
      Stale();
      if (!AwaitNews(seen, limits, kLook)) return fail(NobodyServes(request, route->slot));
      node = Pick(*route);
      continue;
    }
    Attempt attempt = node->Try(request, limits, progress, replicas);
    const bool asking = request.asking();
    switch (attempt.verdict) {
      case Verdict::kFinal:
        return attempt;
      case Verdict::kAgain:
        if (!coord::IsUnavailable(attempt.reply.status())) continue;  // the same, otherwise put
        Stale();
        break;
      case Verdict::kPause:
        Stale();
        // TRYAGAIN follows an ASK each time while a slot moves, which may take long: no circle.
        hops = 0;
        if (!PauseForServer(limits)) return fail(attempt.reply.status());
        break;
      case Verdict::kElsewhere: {
        const std::string error = attempt.reply->text();
        const std::optional<Redirect> redirect = ReadRedirect(error, AddressOf(*node));
        const bool slow = ++hops > kQuickHops;
        if (!redirect || hops > kMostHops) {
          return fail(MakeStatus(
              absl::StatusCode::kUnavailable,
              StrCat(request.what(), " at ", node->name(),
                     ": the server says: ", error.substr(0, 512),
                     redirect ? StrCat("; given up after ", hops, " redirections") : std::string()),
              kUnavailable));
        }
        const int seen = version();
        Node* const to = Learn(*redirect);
        if (!redirect->ask || to == nullptr) Stale();
        request.SetAsking(redirect->ask && to != nullptr);
        if (to != nullptr) {
          node = to;
          if (slow && !PauseForServer(limits)) return fail(NobodyServes(request, route->slot));
          continue;
        }
        // Perhaps a node that is new: until the list has it nothing goes anywhere, so it is no hop.
        --hops;
        if (!AwaitNews(seen, limits, kLook)) {
          return fail(MakeStatus(absl::StatusCode::kUnavailable,
                                 StrCat(request.what(), " at ", node->name(),
                                        ": the server says: ", error.substr(0, 512),
                                        ", which is not in the Cluster's own list of nodes"),
                                 kUnavailable));
        }
        break;
      }
      case Verdict::kUnreached: {
        const int seen = version();
        Stale();
        if (asking) request.SetAsking(false);
        const bool given_up = node->record().refusing() && Pick(*route) == node;
        if (given_up || !AwaitNews(seen, limits, kLook)) {
          attempt.verdict = Verdict::kFinal;
          return attempt;
        }
        break;
      }
    }
    if (asking) request.SetAsking(false);
    node = Pick(*route);
  }
}

absl::StatusOr<Reply> Cluster::Execute(Request& request, const CallLimits& limits,
                                       CallTrace* trace) {
  CallProgress progress{trace};
  return TryAll(request, limits, progress, {}).reply;
}

absl::StatusOr<Node::Acknowledged> Cluster::ExecuteReplicated(Request& request,
                                                              const Replicas& replicas,
                                                              const CallLimits& limits,
                                                              CallTrace* trace) {
  CallProgress progress{trace};
  Attempt attempt = TryAll(request, limits, progress, replicas);
  if (!attempt.reply.ok()) return attempt.reply.status();
  return Node::Acknowledged{*std::move(attempt.reply), attempt.replicas};
}

// ---- For the background thread ----

Node* Cluster::NodeFor(const Request& request) {
  const absl::StatusOr<Route> route = RouteOf(request.command(), request.what());
  if (!route.ok() || route->kind == Route::Kind::kAskServer) return nullptr;
  Node* const node = Pick(*route);
  if (node == nullptr) Stale();
  return node;
}

Node* Cluster::Follow(Node& from, Request& request, std::string_view error) {
  const std::optional<Redirect> redirect = ReadRedirect(error, AddressOf(from));
  if (!redirect) return nullptr;
  Node* const to = Learn(*redirect);
  if (!redirect->ask || to == nullptr) Stale();
  request.SetAsking(redirect->ask && to != nullptr);
  return to;
}

void Cluster::Unreached(Node&) { Stale(); }

std::string Cluster::ChannelOf(std::string_view tag) const {
  if (!sharded_channels_.load()) return data_.channel;
  // "<prefix>wake:<id>" is the process's own; here it is one for each hash tag.
  return StrCat(prefix_, "{", tag, "}:", std::string_view(data_.channel).substr(prefix_.size()));
}

std::shared_ptr<Ear> Cluster::EarOf(std::string_view tag, bool make) {
  const std::string channel = ChannelOf(tag);
  const auto serving = [this, tag] {
    return Route{Route::Kind::kSlot, SlotOf(StrCat(prefix_, "{", tag, "}:"))};
  };
  if (!sharded_channels_.load()) {
    return std::make_shared<ProcessEar>(channel, *background_, patience_,
                                        [this, route = serving()] { return Pick(route); });
  }
  std::shared_ptr<ShardEar> ear;
  bool made = false;
  {
    MutexLock lock(ears_mutex_);
    const auto it = ears_.find(channel);
    if (it != ears_.end()) ear = it->second;
    if (ear == nullptr && !make) return nullptr;
    if (ear == nullptr) {
      const auto retire = [this](ShardEar& idle) {
        MutexLock retire_lock(ears_mutex_);
        if (idle.used()) return false;
        ears_.erase(idle.channel());
        return true;
      };
      ear = std::make_shared<ShardEar>(
          channel, *background_, *data_.clock, [this, route = serving()] { return Pick(route); },
          retire);
      ears_.emplace(channel, ear);
      made = true;
    }
    ear->Use(1);
  }
  if (made) background_->Add(ear);
  return std::make_shared<ShardEarUse>(std::move(ear));
}

void Cluster::OnPush(const Reply& push) {
  if (push.items().size() != 3 || push.items()[0].text() != "sunsubscribe") return;
  std::shared_ptr<ShardEar> ear;
  {
    MutexLock lock(ears_mutex_);
    const auto it = ears_.find(push.items()[1].text());
    if (it != ears_.end()) ear = it->second;
  }
  if (ear == nullptr) return;  // as it asked
  Stale();
  ear->Unsubscribed();
}

void Cluster::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
  for (const auto& [name, node] : nodes_) node->Close();
}

// Without a lock, which one of the parent's threads may have held.
void Cluster::CloseDescriptorsInChild() {
  const std::size_t made = made_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < made; ++i) all_[i].load()->CloseDescriptorsInChild();
}

}  // namespace coord::internal
