#include "coord/deployment/key_watch.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// After a failure that passes by itself, and after a refusal (a right may be granted meanwhile).
constexpr absl::Duration kRetry = absl::Milliseconds(50);
constexpr absl::Duration kRefusedRetry = absl::Seconds(5);

bool SpeaksResp3(const Reply& hello) {
  if (hello.kind() != Reply::Kind::kMap) return false;
  const auto fields = hello.items();
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    if (fields[i].text() == "proto") return fields[i + 1].integer() >= 3;
  }
  return false;
}

}  // namespace

std::vector<std::string> CoveringPrefixes(std::vector<std::string> prefixes) {
  std::sort(prefixes.begin(), prefixes.end());
  std::vector<std::string> covering;
  for (std::string& prefix : prefixes) {
    // In this order, whatever covers it comes right before what it covers.
    if (covering.empty() || !prefix.starts_with(covering.back())) {
      covering.push_back(std::move(prefix));
    }
  }
  return covering;
}

// The tracking of one server. Its state is guarded by the watch's mutex.
class KeyWatch::Link final : public Beat {
 public:
  Link(KeyWatch& watch, Node& node) : watch_(watch), node_(node) {}

  absl::Time NextTick() override {
    MutexLock lock(watch_.mutex_);
    return asking_ || watch_.closed_ ? absl::InfiniteFuture() : ask_at_;
  }

  std::optional<Ask> Tick(absl::Time now) override {
    MutexLock lock(watch_.mutex_);
    if (asking_ || watch_.closed_ || retired_ || now < ask_at_) return std::nullopt;
    if (step_ == Step::kTracking && version_ != watch_.wanted_.version) step_ = Step::kOff;
    if (watch_.wanted_.prefixes.empty() && step_ != Step::kOff) {
      StartOver();
      ask_at_ = absl::InfiniteFuture();
      return std::nullopt;
    }
    asking_ = true;
    crossed_ = false;
    std::vector<std::string_view> words;
    switch (step_) {
      case Step::kHello:
        // Over RESP2 a server tracks, and tells nobody.
        words = {"HELLO"};
        break;
      case Step::kOff:
        words = {"CLIENT", "TRACKING", "OFF"};
        break;
      case Step::kOn:
        version_ = watch_.wanted_.version;
        words = {"CLIENT", "TRACKING", "ON", "BCAST"};
        for (const std::string& prefix : watch_.wanted_.prefixes) {
          if (prefix.empty()) continue;  // without any: all keys
          words.insert(words.end(), {"PREFIX", prefix});
        }
        break;
      case Step::kTracking:
        words = {"PING"};
        break;
    }
    return Ask{Request::Command(words), kPatience, &node_};
  }

  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override {
    MutexLock lock(watch_.mutex_);
    asking_ = false;
    if (retired_) return;
    if (std::exchange(crossed_, false)) {
      // Perhaps it went over the next connection, on which nothing has been asked before it.
      StartOver();
      return;
    }
    if (!reply.ok()) return Failed(reply.status(), now);
    ask_at_ = absl::InfinitePast();
    switch (step_) {
      case Step::kHello:
        if (!SpeaksResp3(*reply)) {
          return Failed(MakeStatus(absl::StatusCode::kFailedPrecondition,
                                   StrCat(node_.name(),
                                          " speaks no RESP3 with us, so it cannot tell of changes "
                                          "to keys")),
                        now);
        }
        step_ = Step::kOff;
        return;
      case Step::kOff:
        step_ = Step::kOn;
        return;
      case Step::kOn:
        step_ = Step::kTracking;
        [[fallthrough]];
      case Step::kTracking:
        alive_ = sent;
        if (tracking()) ask_at_ = sent + kPeriod;
        watch_.Refresh();
        return;
    }
  }

  void LinkBroken() override {
    MutexLock lock(watch_.mutex_);
    if (retired_) return;
    StartOver();
    watch_.Gap(MakeStatus(absl::StatusCode::kUnavailable,
                          StrCat("the connection to ", node_.name(),
                                 " over which it tells of changes to keys was lost"),
                          kUnavailable));
  }

  void Closed() override {
    MutexLock lock(watch_.mutex_);
    watch_.Gap(MakeStatus(absl::StatusCode::kFailedPrecondition, "the client is closed"));
    watch_.closed_ = true;
  }

  // ---- Under the watch's mutex ----

  bool tracking() const { return step_ == Step::kTracking && version_ == watch_.wanted_.version; }
  absl::Time alive() const { return alive_; }
  // From the first question on. To be followed by Background::Reschedule.
  void StartOver() {
    step_ = Step::kHello;
    ask_at_ = absl::InfinitePast();
    crossed_ = asking_;
  }
  // Other prefixes are wanted. To be followed by Background::Reschedule.
  void Hurry() { ask_at_ = absl::InfinitePast(); }
  void Retire() { retired_ = true; }

 private:
  enum class Step { kHello, kOff, kOn, kTracking };

  void Failed(const absl::Status& why, absl::Time now) {
    StartOver();
    ask_at_ = now + (coord::IsUnavailable(why) ? kRetry : kRefusedRetry);
    watch_.Gap(why);
  }

  KeyWatch& watch_;
  Node& node_;
  Step step_ = Step::kHello;
  bool asking_ = false;
  bool crossed_ = false;  // the link broke, or all began anew, while a question was under way
  bool retired_ = false;
  std::uint64_t version_ = 0;  // of the prefixes that were asked for last
  absl::Time alive_ = absl::InfinitePast();
  absl::Time ask_at_ = absl::InfinitePast();
};

void KeyWatch::Gap(absl::Status why) {
  if (!closed_) trouble_ = std::move(why);  // there is no other trouble after that
  const std::uint64_t now = epoch_.load(std::memory_order_relaxed);
  if (IsActive(now)) epoch_.store(now + 1, std::memory_order_release);
}

void KeyWatch::Flushed() {
  MutexLock lock(mutex_);
  const std::uint64_t now = epoch_.load(std::memory_order_relaxed);
  // The servers go on telling, so the next epoch is active at once.
  if (IsActive(now)) epoch_.store(now + 2, std::memory_order_release);
}

void KeyWatch::Refresh() {
  if (closed_ || changing_ > 0 || links_.empty() || wanted_.prefixes.empty()) return;
  absl::Time oldest = absl::InfiniteFuture();
  for (const auto& [node, link] : links_) {
    if (!link->tracking()) return;
    oldest = std::min(oldest, link->alive());
  }
  vouched_until_.store(absl::ToUnixNanos(oldest + kVouches), std::memory_order_relaxed);
  const std::uint64_t now = epoch_.load(std::memory_order_relaxed);
  if (IsActive(now)) return;
  trouble_ = absl::OkStatus();
  epoch_.store(now + 1, std::memory_order_release);
}

absl::Status KeyWatch::trouble() const {
  MutexLock lock(mutex_);
  return trouble_;
}

void KeyWatch::RecomputeWanted() {
  std::vector<std::string> all;
  for (const auto& [listener, prefixes] : listening_) {
    all.insert(all.end(), prefixes.begin(), prefixes.end());
  }
  std::vector<std::string> covering = CoveringPrefixes(std::move(all));
  if (covering == wanted_.prefixes) return;
  wanted_.prefixes = std::move(covering);
  ++wanted_.version;
  Gap(absl::OkStatus());
  for (const auto& [node, link] : links_) link->Hurry();
}

void KeyWatch::Add(Listener& listener, std::vector<std::string> prefixes) {
  {
    MutexLock lock(listeners_mutex_);
    listeners_.push_back(&listener);
  }
  {
    MutexLock lock(mutex_);
    listening_[&listener] = std::move(prefixes);
    RecomputeWanted();
  }
  Rearrange();
}

void KeyWatch::Remove(Listener& listener) {
  {
    MutexLock lock(listeners_mutex_);
    std::erase(listeners_, &listener);
  }
  {
    MutexLock lock(mutex_);
    listening_.erase(&listener);
    RecomputeWanted();
  }
  Rearrange();
}

void KeyWatch::Rearrange() {
  MutexLock arranging(arranging_);
  const std::vector<Node*> nodes = deployment_.Serving();
  std::vector<std::shared_ptr<Link>> here, gone;
  bool wanted;
  {
    MutexLock lock(mutex_);
    wanted = !listening_.empty() && !closed_;
    for (auto it = links_.begin(); it != links_.end();) {
      const auto link = it++;
      if (std::find(nodes.begin(), nodes.end(), link->first) != nodes.end()) continue;
      link->second->Retire();
      gone.push_back(std::move(link->second));
      links_.erase(link);
    }
    for (Node* node : nodes) {
      std::shared_ptr<Link>& link = links_[node];
      if (link == nullptr) {
        link = std::make_shared<Link>(*this, *node);
        Gap(absl::OkStatus());
      }
      here.push_back(link);
    }
  }
  // Somebody must read what the servers say.
  if (std::exchange(wants_, wanted) != wanted) wakes_.Want(wanted ? 1 : -1);
  for (const auto& link : here) {
    background_.Add(link);
    background_.Reschedule(*link);
  }
  for (const auto& link : gone) background_.Remove(*link);
  background_.Look();
}

void KeyWatch::ServersChanged() {
  {
    MutexLock lock(mutex_);
    if (listening_.empty()) return;
    ++changing_;
    Gap(MakeStatus(absl::StatusCode::kUnavailable, "other servers serve the keys now",
                   kUnavailable));
    for (const auto& [node, link] : links_) link->StartOver();
  }
  Rearrange();
  MutexLock lock(mutex_);
  --changing_;
}

bool KeyWatch::Deliver(const Reply& push) {
  const auto items = push.items();
  if (items.size() != 2 || items[0].text() != "invalidate") return false;
  if (!items[1].is_array()) {
    Flushed();
    return true;
  }
  MutexLock lock(listeners_mutex_);
  for (const Reply& key : items[1].items()) {
    for (Listener* listener : listeners_) listener->OnInvalidate(key.text());
  }
  return true;
}

}  // namespace coord::internal
