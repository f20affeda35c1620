#include "coord/deployment/background.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// The waits below run on a clock that stands still while the machine sleeps; after waking, nobody
// is told of a lost lease later than this.
constexpr absl::Duration kLongestWait = absl::Seconds(1);

}  // namespace

void Background::Stop() {
  std::thread thread;
  std::stop_source interrupt(std::nostopstate);
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    thread.swap(thread_);
    interrupt = Interrupt(absl::InfinitePast());
  }
  interrupt.request_stop();
  if (thread.joinable()) thread.join();
}

void Background::Flush(absl::Duration patience) {
  const SteadyTime until = DeadlineAfter(patience);
  MutexLock lock(mutex_);
  while (owed_ > 0 && removed_.WaitUntil(mutex_, until)) {
  }
}

bool Background::Add(std::shared_ptr<Beat> beat) {
  std::stop_source interrupt(std::nostopstate);
  {
    MutexLock lock(mutex_);
    if (stopping_ || closed_) return false;
    if (!thread_.joinable()) {
      // The program's signals are for the program's own threads.
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      try {
        thread_ = std::thread([this] { Run(); });
      } catch (const std::system_error&) {
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      if (!thread_.joinable()) return false;
    }
    Beat& added = *beat;
    if (added.added_) return true;
    if (added.owed()) ++owed_;
    added.place_ = schedule_.emplace(absl::InfiniteFuture(), std::move(beat));
    added.added_ = true;
    interrupt = Place(added);
  }
  interrupt.request_stop();
  return true;
}

void Background::Remove(Beat& beat) {
  std::shared_ptr<Beat> removed;  // destroyed outside the lock
  MutexLock lock(mutex_);
  if (!beat.added_) return;
  beat.added_ = false;
  removed = std::move(beat.place_->second);
  schedule_.erase(beat.place_);
  if (removed->owed()) {
    --owed_;
    removed_.NotifyAll();
  }
}

void Background::Reschedule(Beat& beat) {
  std::stop_source interrupt(std::nostopstate);
  {
    MutexLock lock(mutex_);
    interrupt = Place(beat);
  }
  interrupt.request_stop();
}

void Background::Look() {
  std::stop_source interrupt(std::nostopstate);
  {
    MutexLock lock(mutex_);
    interrupt = Interrupt(absl::InfinitePast());
  }
  interrupt.request_stop();
}

std::stop_source Background::Place(Beat& beat) {
  if (!beat.added_) return std::stop_source(std::nostopstate);
  const absl::Time when = beat.NextTick();
  if (when != beat.place_->first) {
    Schedule::node_type node = schedule_.extract(beat.place_);
    node.key() = when;
    beat.place_ = schedule_.insert(std::move(node));
  }
  return Interrupt(when);
}

std::stop_source Background::Interrupt(absl::Time when) {
  if (when >= planned_ && !stopping_) return std::stop_source(std::nostopstate);
  // Who wants to ask at once wants the connection, too.
  if (connecting_ && when == absl::InfinitePast() && !stopping_) {
    return std::stop_source(std::nostopstate);
  }
  planned_ = when;
  changed_.NotifyAll();
  return interrupt_;
}

void Background::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

void Background::TellClosed() {
  std::vector<std::shared_ptr<Beat>> beats;
  {
    MutexLock lock(mutex_);
    for (auto& [when, beat] : schedule_) beats.push_back(beat);
  }
  for (auto& beat : beats) {
    beat->Closed();
    Reschedule(*beat);
  }
}

void Background::Run() {
  while (true) {
    std::stop_token interrupt;
    {
      MutexLock lock(mutex_);
      if (stopping_) break;
      interrupt_ = std::stop_source();
      interrupt = interrupt_.get_token();
      planned_ = absl::InfinitePast();  // we are looking right now, and once more before we sleep
    }
    const absl::Time now = node_.clock().Now();
    while (!in_flight_.empty() && in_flight_.front()->exchange->done()) {
      Settle(*in_flight_.front());
      in_flight_.pop_front();
    }
    NoticeBreak();
    bool broke = false;
    for (auto& batch : in_flight_) {
      if (now < batch->give_up || batch->connection->broken()) continue;
      batch->connection->Break(MakeStatus(absl::StatusCode::kUnavailable,
                                          StrCat(node_.name(), " did not answer in time")));
      broke = true;
    }
    if (broke) continue;
    TickDue(now, interrupt);
    absl::Time next = now + kLongestWait;
    for (auto& batch : in_flight_) next = std::min(next, batch->give_up);
    Wait(next, interrupt);
  }
  for (auto& batch : in_flight_) batch->connection->Abandon(*batch->exchange);
  in_flight_.clear();
}

void Background::NoticeBreak() {
  if (link_ == nullptr || !link_->broken()) return;
  link_ = nullptr;
  std::vector<std::shared_ptr<Beat>> beats;
  {
    MutexLock lock(mutex_);
    for (auto& [when, beat] : schedule_) beats.push_back(beat);
  }
  for (auto& beat : beats) {
    beat->LinkBroken();
    Reschedule(*beat);
  }
}

void Background::TickDue(absl::Time now, const std::stop_token& interrupt) {
  std::vector<std::shared_ptr<Beat>> due;
  {
    MutexLock lock(mutex_);
    for (auto it = schedule_.begin(); it != schedule_.end(); ++it) {
      if (it->first - it->second->slack() > now) break;
      due.push_back(it->second);
    }
    // What is only convenient is no reason to wake up for.
    if (due.empty() || due.front()->place_->first > now) return;
  }
  auto batch = std::make_unique<Batch>();
  batch->give_up = absl::InfiniteFuture();
  for (auto& beat : due) {
    if (std::optional<Beat::Ask> ask = beat->Tick(now)) {
      batch->beats.push_back(beat);
      // As in any batch, no script may be healed behind the backs of others: the first use of each
      // on a connection carries its text.
      if (ask->request.is_script() && known_.insert(ask->request.what()).second) {
        ask->request.UseEval();
      }
      batch->bytes += ask->request.bytes();
      if (batch->first_size == 0) batch->first_size = batch->bytes.size();
      batch->give_up = std::min(batch->give_up, now + ask->patience);
    }
    Reschedule(*beat);
  }
  if (!batch->beats.empty()) Send(std::move(batch), interrupt);
}

void Background::Send(std::unique_ptr<Batch> batch, const std::stop_token& interrupt) {
  absl::Time until = batch->give_up;
  {
    MutexLock lock(mutex_);
    if (!schedule_.empty()) until = std::min(until, schedule_.begin()->first);
    planned_ = until;  // who must be served sooner than a connection can be made interrupts that
    connecting_ = true;
  }
  const CallLimits limits{ToSteady(until), interrupt};
  absl::StatusOr<std::shared_ptr<Connection>> connection = node_.background().Get(limits);
  {
    MutexLock lock(mutex_);
    planned_ = absl::InfinitePast();
    connecting_ = false;
  }
  if (!connection.ok()) {
    known_.clear();  // nothing of the batch has become known
    const absl::Time now = node_.clock().Now();
    absl::Status why = connection.status();
    // That somebody else must be served first is no answer.
    if (why.code() == absl::StatusCode::kCancelled) {
      why = MakeStatus(absl::StatusCode::kUnavailable,
                       StrCat("no connection to ", node_.name(), " yet"), kUnavailable);
    }
    for (auto& beat : batch->beats) {
      beat->Answer(why, now, now);
      Reschedule(*beat);
    }
    return;
  }
  if (*connection != link_) {
    // A new one, on which each script in the batch may be new too; SCRIPT LOAD in the handshake
    // does for all but users without that right, and those are healed by the next batch.
    NoticeBreak();
    link_ = *connection;
  }
  batch->connection = *std::move(connection);
  batch->replies.resize(batch->beats.size());
  batch->exchange = std::make_unique<Exchange>(batch->bytes, batch->first_size, batch->replies);
  batch->sent = node_.clock().Now();
  batch->connection->Submit(*batch->exchange);
  in_flight_.push_back(std::move(batch));
}

void Background::Settle(Batch& batch) {
  const absl::Time now = node_.clock().Now();
  for (std::size_t i = 0; i < batch.beats.size(); ++i) {
    absl::Status failed = batch.exchange->status();
    if (failed.ok() && batch.replies[i].is_error()) {
      failed = ServerError(batch.replies[i].text(), node_.name());
      if (ErrorCode(batch.replies[i].text()) == "NOSCRIPT") {
        known_.clear();
        failed =
            MakeStatus(absl::StatusCode::kUnavailable, FromAbsl(failed.message()), kUnavailable);
      }
    }
    if (failed.ok()) {
      batch.beats[i]->Answer(std::move(batch.replies[i]), batch.sent, now);
    } else {
      batch.beats[i]->Answer(std::move(failed), batch.sent, now);
    }
    Reschedule(*batch.beats[i]);
  }
}

void Background::Wait(absl::Time until, const std::stop_token& interrupt) {
  {
    MutexLock lock(mutex_);
    if (stopping_ || interrupt.stop_requested()) return;
    // What was placed while we looked is seen here.
    if (!schedule_.empty()) until = std::min(until, schedule_.begin()->first);
    planned_ = until;
    if (in_flight_.empty() && (link_ == nullptr || link_->broken())) {
      if (link_ == nullptr) Doze(until, interrupt);
      return;
    }
  }
  const CallLimits limits{ToSteady(until), interrupt};
  if (!in_flight_.empty()) {
    Batch& front = *in_flight_.front();
    front.connection->Wait(*front.exchange, limits);
    return;
  }
  const SteadyTime quiet_until = wakes_.quiet_until();
  const bool quiet = !wakes_.wanted() && !Passed(quiet_until);
  if (!quiet) {
    delivered_.store(false, std::memory_order_relaxed);
    // After a message he who was told has no need of us; if others do, we are here again at once.
    if (link_->Listen(limits, delivered_) != Connection::ListenResult::kTaken) return;
  }
  MutexLock lock(mutex_);
  if (quiet) {
    const auto rest = absl::FromChrono(quiet_until - std::chrono::steady_clock::now());
    until = std::min(until, node_.clock().Now() + rest);
    // One who came to want it before we hold the lock has not found us asleep.
    if (wakes_.wanted()) return;
  }
  Doze(until, interrupt);
}

void Background::Doze(absl::Time until, const std::stop_token& interrupt) {
  const SteadyTime deadline = ToSteady(until);
  while (!stopping_ && !interrupt.stop_requested() && planned_ >= until &&
         std::chrono::steady_clock::now() < deadline) {
    if (!changed_.WaitUntil(mutex_, deadline)) break;
  }
}

SteadyTime Background::ToSteady(absl::Time when) const {
  return DeadlineAfter(when - node_.clock().Now());
}

}  // namespace coord::internal
