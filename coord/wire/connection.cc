#include "coord/wire/connection.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include "coord/internal/futex.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// With this many in flight, one write for several commands is worth more than the soonest write for
// each.
constexpr std::size_t kDeferDepth = 16;
// But the peer should have something to do while the others of us come back.
constexpr std::size_t kDeferMost = 8;
// A connection nobody has used for so long may have been closed.
constexpr std::chrono::milliseconds kRest{500};
// Output buffers beyond this are given back after use.
constexpr std::size_t kKeptBuffer = 256 * 1024;

}  // namespace

Connection::Connection(std::unique_ptr<Socket> socket, std::string peer, SpinJudge spin,
                       RespLimits limits, PushHandler on_push)
    : socket_(std::move(socket)),
      peer_(std::move(peer)),
      on_push_(std::move(on_push)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      parser_(limits),
      spin_(spin) {
  if (wake_fd_.get() >= 0) return;
  // It would work, but nobody could interrupt its reader, for as long as it lasts.
  const int error = errno;
  WakeList wake{};
  MutexLock lock(mutex_);
  Fail(MakeStatus(absl::StatusCode::kUnavailable,
                  StrCat("no descriptor to wake the reader of a connection to ", peer_,
                         " with: ", std::strerror(error))),
       wake);
}

Connection::~Connection() = default;

void Connection::Enqueue(Exchange& exchange) {
  Entry entry;
  entry.exchange = &exchange;
  entry.remaining = exchange.replies_.size();
  entry.begin = queued_;
  entry.first_end = queued_ + exchange.first_size_;
  entry.end = queued_ + exchange.bytes_.size();
  queued_ = entry.end;
  output_.append(exchange.bytes_);
  exchange.bed_ = next_bed_++ % kBeds;
  in_flight_.push_back(entry);
}

// The caller holds the lock; it is let go while the kernel copies.
void Connection::Flush() {
  if (writing_ || write_blocked_) return;  // whoever writes takes ours along
  writing_ = true;
  deferred_.store(0, std::memory_order_relaxed);
  while (broken_.ok()) {
    if (sending_at_ == sending_.size()) {
      sending_at_ = 0;
      if (sending_.capacity() > kKeptBuffer) std::string().swap(sending_);
      sending_.clear();
      if (output_.empty()) break;
      sending_.swap(output_);
    }
    mutex_.Unlock();
    const ssize_t n = socket_->Send(std::string_view(sending_).substr(sending_at_));
    mutex_.Lock();
    if (n > 0) {
      sending_at_ += static_cast<std::size_t>(n);
    } else if (n == -EAGAIN) {
      // The peer takes no more until somebody reads what it has to say, which may be up to us: the
      // reader's poll watches both directions and goes on with the rest.
      write_blocked_ = true;
      if (reading_) eventfd_write(wake_fd_.get(), 1);
      break;
    } else {
      writing_ = false;  // the kernel took none of the rest
      WakeList wake{};
      const absl::Status failure = socket_->Failure();
      if (!failure.ok()) Fail(failure, wake);
      Fail(MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("connection to ", peer_,
                             " broke while sending: ", std::strerror(static_cast<int>(-n)))),
           wake);
      Wake(wake);
    }
  }
  writing_ = false;
}

// On a busy connection most callers come back in a row, just woken by the reader of their replies,
// and a system call for each would cost more than all the rest. The reader flushes before every
// look at the socket.
void Connection::FlushOrDefer() {
  if (reading_ && !polling_.load(std::memory_order_relaxed) && in_flight_.size() > kDeferDepth &&
      deferred_.load(std::memory_order_relaxed) < kDeferMost) {
    deferred_.fetch_add(1, std::memory_order_relaxed);
  } else {
    Flush();
  }
}

void Connection::CheckAfterRest() {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now - std::exchange(last_use_, now) < kRest || !socket_->PeerClosed()) return;
  WakeList wake{};
  Fail(MakeStatus(absl::StatusCode::kUnavailable,
                  StrCat("connection to ", peer_, " was closed by the server while it was idle")),
       wake);
  Wake(wake);
}

void Connection::Accept(Exchange& exchange) {
  if (in_flight_.empty()) CheckAfterRest();
  if (broken_.ok()) {
    Enqueue(exchange);
    FlushOrDefer();
    return;
  }
  exchange.not_sent_ = true;
  exchange.status_ =
      MakeStatus(absl::StatusCode::kUnavailable, FromAbsl(broken_.message()), kUnavailable);
  exchange.state_.store(Exchange::kDone, std::memory_order_release);
}

void Connection::Submit(Exchange& exchange) {
  MutexLock lock(mutex_);
  Accept(exchange);
}

bool Connection::TryLead(Exchange& exchange) {
  if (exchange.done()) return false;
  if (reading_) {
    exchange.waiting_ = true;
    return false;
  }
  reading_ = true;
  return true;
}

Connection::WaitResult Connection::Wait(Exchange& exchange, const CallLimits& limits) {
  bool lead;
  {
    MutexLock lock(mutex_);
    if (write_blocked_) {
      // Perhaps there is room by now; if not, the reader's poll sees to it.
      write_blocked_ = false;
      Flush();
    }
    lead = TryLead(exchange);
  }
  return WaitAfterTry(exchange, limits, lead);
}

Connection::WaitResult Connection::Run(Exchange& exchange, const CallLimits& limits) {
  bool lead;
  {
    MutexLock lock(mutex_);
    Accept(exchange);
    lead = TryLead(exchange);
  }
  return WaitAfterTry(exchange, limits, lead);
}

Connection::ListenResult Connection::Listen(const CallLimits& limits,
                                            const std::atomic<bool>& enough) {
  Exchange nothing({}, 0, {});
  nothing.enough_ = &enough;
  {
    MutexLock lock(mutex_);
    if (!broken_.ok()) return ListenResult::kBroken;
    if (!TryLead(nothing)) return ListenResult::kTaken;
  }
  const WaitResult result = WaitAfterTry(nothing, limits, true);
  if (enough.load()) return ListenResult::kEnough;
  if (broken()) return ListenResult::kBroken;
  return result == WaitResult::kDeadline ? ListenResult::kDeadline : ListenResult::kStopped;
}

Connection::WaitResult Connection::WaitAfterTry(Exchange& exchange, const CallLimits& limits,
                                                bool lead) {
  if (exchange.done()) return WaitResult::kDone;
  std::optional<std::stop_callback<std::function<void()>>> on_stop;
  if (limits.stop.stop_possible()) {
    on_stop.emplace(limits.stop, [this, &exchange] { Kick(exchange); });
  }
  WaitResult result = WaitResult::kDone;
  if (!lead) {
    result = Sleep(exchange, limits.deadline);
    if (result == WaitResult::kDone && !exchange.done()) lead = true;  // given the role
  }
  if (lead) result = Lead(exchange, limits);
  on_stop.reset();
  exchange.kicked_.store(false, std::memory_order_relaxed);
  return result;
}

// Returns kDone when the exchange is done or when it has been given the reader's role (then it is
// not done).
Connection::WaitResult Connection::Sleep(Exchange& exchange, SteadyTime deadline) {
  const std::atomic<std::uint32_t>& bed = beds_[exchange.bed_ / 32];
  const std::uint32_t bit = 1u << (exchange.bed_ % 32);
  WaitResult result = WaitResult::kDone;
  while (true) {
    // Read before we say that we sleep: a wake that follows changes it, and the kernel then does
    // not let us lie down.
    const std::uint32_t wakes = bed.load();
    std::uint32_t state = exchange.state_.load(std::memory_order_acquire);
    if (state == Exchange::kDone) return result;
    if (state == Exchange::kLead) break;
    state = Exchange::kAwake;
    if (!exchange.state_.compare_exchange_strong(state, Exchange::kAsleep)) continue;
    // Kick sets its mark before it looks whether we sleep, and we look for the mark after saying
    // that we do.
    if (!exchange.kicked_.load()) {
      FutexWait(bed, wakes, bit, deadline);
    }
    state = Exchange::kAsleep;
    exchange.state_.compare_exchange_strong(state, Exchange::kAwake);
    if (exchange.kicked_.load()) {
      result = WaitResult::kStopped;
      break;
    }
    if (Passed(deadline)) {
      result = WaitResult::kDeadline;
      break;
    }
  }
  WakeList wake{};
  {
    MutexLock lock(mutex_);
    exchange.waiting_ = false;
    const std::uint32_t state = exchange.state_.load(std::memory_order_relaxed);
    if (state == Exchange::kDone) return WaitResult::kDone;
    if (state == Exchange::kLead) {
      exchange.state_.store(Exchange::kAwake, std::memory_order_relaxed);
      if (result == WaitResult::kDone) return result;
      PassRole(wake);  // the role came as we were leaving
    }
  }
  Wake(wake);
  return result;
}

void Connection::Kick(Exchange& exchange) {
  exchange.kicked_.store(true);
  std::uint32_t state = Exchange::kAsleep;
  if (exchange.state_.compare_exchange_strong(state, Exchange::kAwake)) {
    WakeList wake{};
    Rouse(exchange.bed_, wake);
    Wake(wake);
  }
  eventfd_write(wake_fd_.get(), 1);  // it may be the reader, in poll
}

// After this the exchange belongs to its caller again and may be gone.
void Connection::Finish(Exchange& exchange, WakeList& wake) {
  const std::uint32_t bed = exchange.bed_;
  const int bell = exchange.bell_;
  if (exchange.state_.exchange(Exchange::kDone, std::memory_order_acq_rel) == Exchange::kAsleep) {
    // Its owner takes our lock before the bell goes, and we still hold that.
    if (bell >= 0) {
      eventfd_write(bell, 1);
    } else {
      Rouse(bed, wake);
    }
  }
}

void Connection::Rouse(std::uint32_t bed, WakeList& wake) { wake[bed / 32] |= 1u << (bed % 32); }

void Connection::Wake(const WakeList& wake) {
  for (std::size_t i = 0; i < wake.size(); ++i) {
    if (wake[i] == 0) continue;
    beds_[i].fetch_add(1);
    FutexWake(beds_[i], wake[i]);
  }
}

bool Connection::Abandon(Exchange& exchange) {
  MutexLock lock(mutex_);
  if (exchange.done()) return exchange.not_sent_;
  const auto entry = std::find_if(in_flight_.begin(), in_flight_.end(),
                                  [&](const Entry& e) { return e.exchange == &exchange; });
  if (entry == in_flight_.end()) return false;
  const std::uint64_t untaken = queued_ - output_.size();  // where output_ begins
  if (entry->begin < untaken) {
    entry->exchange = nullptr;
    return false;
  }
  // No writer has it yet: take the bytes back, and the outcome is certain.
  const std::uint64_t size = entry->end - entry->begin;
  output_.erase(static_cast<std::size_t>(entry->begin - untaken), static_cast<std::size_t>(size));
  queued_ -= size;
  for (auto later = in_flight_.erase(entry); later != in_flight_.end(); ++later) {
    later->begin -= size;
    later->first_end -= size;
    later->end -= size;
  }
  return true;
}

// What a writer has in its hands counts as sent while it writes: it may be with the peer already.
void Connection::Fail(const absl::Status& why, WakeList& wake) {
  if (!broken_.ok()) return;
  broken_ = why;
  broken_flag_.store(true, std::memory_order_release);
  socket_->Shutdown();
  if (reading_) eventfd_write(wake_fd_.get(), 1);
  const std::uint64_t untaken = queued_ - output_.size();
  const std::uint64_t handed = writing_ ? untaken : untaken - (sending_.size() - sending_at_);
  const std::string reason(FromAbsl(why.message()));
  for (Entry& entry : in_flight_) {
    Exchange* exchange = entry.exchange;
    if (exchange == nullptr) continue;
    exchange->not_sent_ = handed < entry.first_end && exchange->received_ == 0;
    exchange->status_ = exchange->not_sent_
                            ? MakeStatus(why.code() == absl::StatusCode::kUnauthenticated
                                             ? why.code()
                                             : absl::StatusCode::kUnavailable,
                                         reason, kUnavailable)
                            : MakeStatus(why.code(), reason, kUnavailable | kOutcomeUnknown);
    Finish(*exchange, wake);
  }
  in_flight_.clear();
  output_.clear();
}

void Connection::Break(const absl::Status& why) {
  WakeList wake{};
  {
    MutexLock lock(mutex_);
    Fail(why, wake);
  }
  Wake(wake);
}

absl::Status Connection::broken_status() {
  MutexLock lock(mutex_);
  return broken_;
}

}  // namespace coord::internal
