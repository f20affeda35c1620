#include "coord/wire/wait_any.h"

#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>

namespace coord::internal {
namespace {

// How long a poll may last that nobody could end, because the system gave no descriptor for a bell.
constexpr std::chrono::milliseconds kDeafPoll{5};

}  // namespace

Bell::Bell() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Bell::Ring() {
  rung_.store(true);
  if (fd_.get() >= 0) eventfd_write(fd_.get(), 1);
}

bool Bell::Clear() {
  eventfd_t ignored;
  if (fd_.get() >= 0) eventfd_read(fd_.get(), &ignored);
  return rung_.exchange(false);
}

// ---- The connection's side ----

bool Connection::Join(Exchange& exchange) {
  MutexLock lock(mutex_);
  if (write_blocked_) {
    write_blocked_ = false;
    Flush();
  }
  return TryLead(exchange);
}

void Connection::HangBell(Exchange& exchange, int bell) {
  MutexLock lock(mutex_);
  exchange.bell_ = bell;
}

bool Connection::TakeRole(Exchange& exchange) {
  MutexLock lock(mutex_);
  std::uint32_t lead = Exchange::kLead;
  return exchange.state_.compare_exchange_strong(lead, Exchange::kAwake);
}

bool Connection::Serve(Exchange& exchange) {
  while (true) {
    switch (DeliverBuffered(exchange)) {
      case Delivery::kLeft:
        return false;
      case Delivery::kMore:
        break;
      case Delivery::kDry:
        return true;
    }
  }
}

void Connection::FlushNow() {
  MutexLock lock(mutex_);
  Flush();
}

void Connection::Leave(Exchange& exchange, bool reading) {
  WakeList wake{};
  {
    MutexLock lock(mutex_);
    exchange.waiting_ = false;
    exchange.bell_ = -1;
    std::uint32_t lead = Exchange::kLead;
    if (exchange.state_.compare_exchange_strong(lead, Exchange::kAwake)) reading = true;
    if (reading) PassRole(wake);
  }
  Wake(wake);
}

// ---- The caller's side ----

WaitAny::~WaitAny() {
  for (Slot& slot : slots_) {
    if (!slot.joined) continue;
    // One that was read for us needs the connection's lock once more, so that whoever did has let
    // go of the bell.
    if (slot.reading || slot.belled || !slot.exchange->done()) {
      slot.connection->Leave(*slot.exchange, slot.reading);
    }
  }
}

void WaitAny::Add(Connection& connection, Exchange& exchange) {
  slots_.push_back({&connection, &exchange});
  unjoined_ = true;
}

void WaitAny::AddListener(Connection& connection) {
  Exchange& nothing = nothings_.emplace_back(std::string_view(), 0, std::span<Reply>());
  slots_.push_back({&connection, &nothing, /*listens=*/true});
  unjoined_ = true;
}

bool WaitAny::Done(const Slot& slot) {
  return slot.exchange->done() || (slot.listens && slot.connection->broken());
}

const std::shared_ptr<Bell>& WaitAny::bell() {
  if (bell_ == nullptr) bell_ = std::make_shared<Bell>();
  return bell_;
}

// In the order of addresses, as everywhere that takes several roles.
void WaitAny::JoinAll() {
  unjoined_ = false;
  std::vector<Slot*> fresh;
  fresh.reserve(slots_.size());
  for (Slot& slot : slots_) {
    if (!slot.joined) fresh.push_back(&slot);
  }
  std::stable_sort(fresh.begin(), fresh.end(), [](const Slot* a, const Slot* b) {
    return std::less<>()(a->connection, b->connection);
  });
  for (Slot* slot : fresh) {
    slot->joined = true;
    if (Done(*slot)) continue;
    slot->reading = slot->connection->Join(*slot->exchange);
    if (slot->reading) {
      // An earlier reader may have left something behind.
      slot->reading = slot->connection->Serve(*slot->exchange);
    } else if (!slot->exchange->done()) {
      slot->belled = true;
      slot->connection->HangBell(*slot->exchange, bell()->fd());
    }
  }
}

bool WaitAny::FindDone(std::size_t* which) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.returned) continue;
    if (!slot.reading && slot.exchange->state_.load(std::memory_order_acquire) == Exchange::kLead &&
        slot.connection->TakeRole(*slot.exchange)) {
      slot.reading = slot.connection->Serve(*slot.exchange);
    }
    if (!Done(slot)) continue;
    if (slot.reading) {  // it was failed by another thread
      slot.reading = false;
      slot.connection->Leave(*slot.exchange, true);
    }
    slot.returned = true;
    *which = i;
    return true;
  }
  return false;
}

WaitAny::Result WaitAny::Next(const CallLimits& limits, std::size_t* which) {
  if (unjoined_) JoinAll();
  if (FindDone(which)) return Result::kDone;
  std::optional<std::stop_callback<std::function<void()>>> on_stop;
  if (limits.stop.stop_possible()) {
    on_stop.emplace(limits.stop, [ring = bell()] { ring->Ring(); });
  }
  bool spun = false;
  while (true) {
    if (limits.stop.stop_requested()) return Result::kStopped;
    if (!spun) {
      // What came may have been for others, such as the reply to a call that was given up: ours is
      // behind it, and near.
      spun = !Spin(limits);
      if (FindDone(which)) return Result::kDone;
      if (!spun && !Passed(limits.deadline)) continue;
    }
    bool rung = false;
    if (LieDown()) rung = Poll(limits.deadline);
    GetUp();
    if (FindDone(which)) return Result::kDone;
    if (limits.stop.stop_requested()) return Result::kStopped;
    if (rung) return Result::kRung;
    if (Passed(limits.deadline)) return Result::kDeadline;
  }
}

// As a lone reader does: asking again and again for a short time is cheaper than being woken.
bool WaitAny::Spin(const CallLimits& limits) {
  Slot* first = nullptr;
  for (Slot& slot : slots_) {
    if (slot.reading) {
      first = &slot;
      break;
    }
  }
  if (first == nullptr || !first->connection->spin().ShouldSpin()) return false;
  const SteadyTime until = std::min(
      limits.deadline, std::chrono::steady_clock::now() + first->connection->spin().budget());
  // The judge is the reader's: it hears how it went before the role is passed on.
  SpinJudge* judge = &first->connection->spin();
  bool progress = false;
  do {
    sched_yield();
    for (Slot& slot : slots_) {
      if (!slot.reading) {
        progress = progress || (slot.joined && !slot.returned && Done(slot));
        continue;
      }
      if (slot.connection->flush_wanted()) slot.connection->FlushNow();
      if (slot.connection->ReceiveNow()) {
        progress = true;
        if (&slot == first && judge != nullptr) {
          judge->Record(true);
          judge = nullptr;
        }
        slot.reading = slot.connection->Serve(*slot.exchange);
      }
      progress = progress || Done(slot);
    }
  } while (!progress && std::chrono::steady_clock::now() < until);
  if (judge != nullptr) judge->Record(progress);
  return progress;
}

bool WaitAny::LieDown() {
  for (Slot& slot : slots_) {
    if (slot.returned || slot.reading) continue;
    std::uint32_t awake = Exchange::kAwake;
    if (!slot.exchange->state_.compare_exchange_strong(awake, Exchange::kAsleep)) return false;
  }
  return true;
}

void WaitAny::GetUp() {
  for (Slot& slot : slots_) {
    if (slot.returned || slot.reading) continue;
    std::uint32_t asleep = Exchange::kAsleep;
    slot.exchange->state_.compare_exchange_strong(asleep, Exchange::kAwake);
  }
}

bool WaitAny::Poll(SteadyTime deadline) {
  fds_.clear();
  bool deaf = false;
  if (bell_ != nullptr) {
    fds_.push_back({bell_->fd(), POLLIN, 0});
    deaf = bell_->fd() < 0;
  }
  const std::size_t bells = fds_.size();
  for (Slot& slot : slots_) {
    if (!slot.reading) continue;
    fds_.resize(fds_.size() + 2);
    slot.connection->BeforePoll(std::span<pollfd, 2>(fds_.data() + fds_.size() - 2, 2));
  }
  if (deaf) deadline = std::min(deadline, std::chrono::steady_clock::now() + kDeafPoll);
  // What a socket has already is not news to poll.
  bool pending = false;
  for (const Slot& slot : slots_) pending = pending || (slot.reading && slot.connection->Pending());
  if (pending) deadline = std::chrono::steady_clock::now();
  timespec left{};
  if (deadline != SteadyTime::max()) {
    const auto ns = std::max<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now(),
                                                       std::chrono::nanoseconds(0));
    left = {static_cast<time_t>(ns.count() / 1'000'000'000),
            static_cast<long>(ns.count() % 1'000'000'000)};
  }
  const int n =
      ppoll(fds_.data(), fds_.size(), deadline == SteadyTime::max() ? nullptr : &left, nullptr);
  if (n <= 0) {
    for (pollfd& fd : fds_) fd.revents = 0;
  }
  std::size_t at = bells;
  for (Slot& slot : slots_) {
    if (!slot.reading) continue;
    const std::span<const pollfd, 2> mine(fds_.data() + at, 2);
    at += 2;
    slot.connection->AfterPoll(mine);
    const bool readable =
        (mine[0].revents & (POLLIN | POLLERR | POLLHUP)) != 0 || slot.connection->Pending();
    if (readable && slot.connection->ReceiveNow()) {
      slot.reading = slot.connection->Serve(*slot.exchange);
    }
  }
  return bells != 0 && (deaf || (fds_[0].revents & POLLIN)) && bell_->Clear();
}

}  // namespace coord::internal
