// The reader's part of the shared connection: receiving, handing out replies, passing the role on.
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/wire/connection.h"

namespace coord::internal {
namespace {

// A reader serves others at most this much in one turn after its own reply is there.
constexpr std::size_t kTurnReplies = 64;
constexpr std::size_t kReceiveSize = 16 * 1024;

timespec TimeLeft(SteadyTime deadline) {
  const auto left = std::max<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now(),
                                                       std::chrono::nanoseconds(0));
  return {static_cast<time_t>(left.count() / 1'000'000'000),
          static_cast<long>(left.count() % 1'000'000'000)};
}

// With RESP3 a subscription is confirmed by a push, in the place of a reply.
bool AnswersACommand(const Reply& push) {
  return !push.items().empty() &&
         (push.items()[0].text() == "subscribe" || push.items()[0].text() == "ssubscribe");
}

}  // namespace

Connection::WaitResult Connection::Lead(Exchange& exchange, const CallLimits& limits) {
  WaitResult result = WaitResult::kDone;
  bool more = true;
  while (true) {
    if (more) {
      const Delivery delivery = DeliverBuffered(exchange);
      if (delivery == Delivery::kLeft) return WaitResult::kDone;
      more = delivery == Delivery::kMore;
      if (exchange.enough_ != nullptr && exchange.enough_->load()) break;
      if (more) continue;
    }
    if (exchange.done() || broken()) break;  // another thread has failed the connection
    if (exchange.kicked_.load()) {
      result = WaitResult::kStopped;
      break;
    }
    if (Receive(limits.deadline)) {
      more = true;
    } else if (Passed(limits.deadline)) {
      result = WaitResult::kDeadline;
      break;
    }
  }
  WakeList wake{};
  {
    MutexLock lock(mutex_);
    PassRole(wake);
    // Between the last look and this lock another thread may have failed the connection.
    if (exchange.done()) result = WaitResult::kDone;
  }
  Wake(wake);
  return result;
}

bool Connection::Receive(SteadyTime deadline) {
  const std::span<char> room = parser_.Prepare(kReceiveSize);
  ssize_t n = -EAGAIN;
  if (spin_.ShouldSpin()) {
    const SteadyTime until = std::min(deadline, std::chrono::steady_clock::now() + spin_.budget());
    do {
      if (deferred_.load(std::memory_order_relaxed) != 0) {
        MutexLock lock(mutex_);
        Flush();
      }
      // Whoever else could run on this CPU goes first: another caller, or the server itself.
      sched_yield();
      n = socket_->Recv(room);
    } while (n == -EAGAIN && std::chrono::steady_clock::now() < until);
    spin_.Record(n != -EAGAIN);
  }
  if (n == -EAGAIN) {
    if (!socket_->Pending()) PollOnce(deadline);
    n = socket_->Recv(room);
  }
  return TakeReceived(n);
}

bool Connection::ReceiveNow() {
  bool any = false;
  do {
    if (!TakeReceived(socket_->Recv(parser_.Prepare(kReceiveSize)))) break;
    any = true;
  } while (socket_->Pending());
  return any;
}

bool Connection::TakeReceived(ssize_t n) {
  if (n > 0) {
    parser_.Commit(static_cast<std::size_t>(n));
    return true;
  }
  if (n == -EAGAIN) return false;
  const absl::Status failure = n < 0 ? socket_->Failure() : absl::OkStatus();
  WakeList wake{};
  {
    MutexLock lock(mutex_);
    if (!failure.ok()) Fail(failure, wake);
    Fail(MakeStatus(absl::StatusCode::kUnavailable,
                    n == 0 ? StrCat("connection to ", peer_, " was closed by the server")
                           : StrCat("connection to ", peer_,
                                    " broke: ", std::strerror(static_cast<int>(-n)))),
         wake);
  }
  Wake(wake);
  return false;
}

void Connection::BeforePoll(std::span<pollfd, 2> fds) {
  bool blocked;
  {
    MutexLock lock(mutex_);
    Flush();
    blocked = write_blocked_;
    polling_.store(true, std::memory_order_relaxed);
  }
  fds[0] = {socket_->fd(), static_cast<short>(blocked ? POLLIN | POLLOUT : POLLIN), 0};
  fds[1] = {wake_fd_.get(), POLLIN, 0};
}

void Connection::AfterPoll(std::span<const pollfd, 2> fds) {
  polling_.store(false, std::memory_order_relaxed);
  if (fds[1].revents & POLLIN) {
    eventfd_t ignored;
    eventfd_read(wake_fd_.get(), &ignored);
  }
  if ((fds[0].events & POLLOUT) && (fds[0].revents & (POLLOUT | POLLERR | POLLHUP))) {
    MutexLock lock(mutex_);
    write_blocked_ = false;
    Flush();
  }
}

void Connection::PollOnce(SteadyTime deadline) {
  pollfd fds[2];
  BeforePoll(fds);
  const timespec left = deadline == SteadyTime::max() ? timespec{} : TimeLeft(deadline);
  const int n = ppoll(fds, 2, deadline == SteadyTime::max() ? nullptr : &left, nullptr);
  if (n <= 0) fds[0].revents = fds[1].revents = 0;
  AfterPoll(fds);
}

Connection::Delivery Connection::DeliverBuffered(const Exchange& exchange) {
  parsed_.clear();
  bool more = true;
  absl::Status error;
  while (parsed_.size() < kTurnReplies) {
    parsed_.emplace_back();
    const RespParser::Outcome outcome = parser_.Next(parsed_.back());
    if (outcome == RespParser::Outcome::kReply) {
      if (parsed_.back().kind() == Reply::Kind::kPush && !AnswersACommand(parsed_.back())) {
        Reply push = std::move(parsed_.back());
        parsed_.pop_back();
        if (on_push_) on_push_(std::move(push));
      }
      continue;
    }
    parsed_.pop_back();
    more = false;
    if (outcome == RespParser::Outcome::kError) error = parser_.error();
    break;
  }
  if (parsed_.empty() && error.ok()) return Delivery::kDry;
  bool left = false;
  WakeList wake{};
  {
    MutexLock lock(mutex_);
    Deliver(parsed_, wake);
    if (!error.ok()) {
      Fail(MakeStatus(
               absl::StatusCode::kDataLoss,
               StrCat(peer_, " does not speak the Redis protocol: ", FromAbsl(error.message()))),
           wake);
    }
    // In the same turn at the lock, and the next reader in the same wake as those who are served.
    left = exchange.done();
    if (left) PassRole(wake);
  }
  Wake(wake);
  if (left) return Delivery::kLeft;
  return more ? Delivery::kMore : Delivery::kDry;
}

void Connection::Deliver(std::span<Reply> replies, WakeList& wake) {
  for (Reply& reply : replies) {
    if (in_flight_.empty()) {
      Fail(MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat(peer_, " answered what was not asked: ", reply.ToDebugString(64))),
           wake);
      return;
    }
    Entry& entry = in_flight_.front();
    if (Exchange* exchange = entry.exchange) {
      exchange->replies_[exchange->received_++] = std::move(reply);
    }
    if (--entry.remaining > 0) continue;
    if (entry.exchange != nullptr) Finish(*entry.exchange, wake);
    in_flight_.pop_front();
  }
}

// The longest waiting goes next: its reply comes first.
void Connection::PassRole(WakeList& wake) {
  for (Entry& entry : in_flight_) {
    if (entry.exchange == nullptr || !entry.exchange->waiting_) continue;
    entry.exchange->waiting_ = false;
    if (entry.exchange->state_.exchange(Exchange::kLead) == Exchange::kAsleep) {
      if (entry.exchange->bell_ >= 0) {
        eventfd_write(entry.exchange->bell_, 1);
      } else {
        Rouse(entry.exchange->bed_, wake);
      }
    }
    return;
  }
  reading_ = false;
  Flush();  // there is nobody left to leave it to
}

}  // namespace coord::internal
