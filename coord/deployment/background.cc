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

Background::~Background() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    thread.swap(thread_);
  }
  Poke(absl::InfinitePast());
  if (thread.joinable()) thread.join();
}

void Background::Flush(absl::Duration patience) {
  const SteadyTime until = DeadlineAfter(patience);
  const auto owed = [](const std::shared_ptr<Beat>& beat) { return beat->owed(); };
  MutexLock lock(mutex_);
  while (std::any_of(beats_.begin(), beats_.end(), owed) && removed_.WaitUntil(mutex_, until)) {
  }
}

bool Background::Add(std::shared_ptr<Beat> beat) {
  const absl::Time when = beat->NextTick();
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
    added.place_ = beats_.insert(beats_.end(), std::move(beat));
    added.added_ = true;
    if (when >= planned_) return true;  // the thread looks soon enough
  }
  Poke(when);
  return true;
}

void Background::Remove(Beat& beat) {
  std::shared_ptr<Beat> removed;  // destroyed outside the lock
  MutexLock lock(mutex_);
  if (!beat.added_) return;
  beat.added_ = false;
  removed = std::move(*beat.place_);
  beats_.erase(beat.place_);
  if (removed->owed()) removed_.NotifyAll();
}

void Background::Poke(absl::Time when) {
  std::stop_source interrupt(std::nostopstate);
  {
    MutexLock lock(mutex_);
    if (when >= planned_ && !stopping_) return;
    planned_ = when;
    interrupt = interrupt_;
    changed_.NotifyAll();
  }
  interrupt.request_stop();
}

void Background::Close() {
  std::list<std::shared_ptr<Beat>> beats;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    beats = beats_;
  }
  for (auto& beat : beats) beat->Closed();
}

void Background::Run() {
  while (true) {
    std::stop_token interrupt;
    {
      MutexLock lock(mutex_);
      if (stopping_) break;
      interrupt_ = std::stop_source();
      interrupt = interrupt_.get_token();
      planned_ = absl::InfinitePast();  // we are looking right now; whoever is added next is seen
                                        // or changes planned_
    }
    const absl::Time now = node_.clock().Now();
    while (!in_flight_.empty() && in_flight_.front()->exchange->done()) {
      Settle(*in_flight_.front());
      in_flight_.pop_front();
    }
    if (!in_flight_.empty() && now >= in_flight_.front()->give_up) {
      in_flight_.front()->connection->Break(
          MakeStatus(absl::StatusCode::kUnavailable,
                     StrCat(node_.name(), " did not answer a renewal in time")));
      continue;
    }
    absl::Time next = std::min(TickAll(now, interrupt), now + kLongestWait);
    if (!in_flight_.empty()) next = std::min(next, in_flight_.front()->give_up);
    Wait(next, interrupt);
  }
  for (auto& batch : in_flight_) batch->connection->Abandon(*batch->exchange);
  in_flight_.clear();
}

absl::Time Background::TickAll(absl::Time now, const std::stop_token& interrupt) {
  std::vector<std::shared_ptr<Beat>> beats;
  {
    MutexLock lock(mutex_);
    beats.assign(beats_.begin(), beats_.end());
  }
  auto batch = std::make_unique<Batch>();
  batch->give_up = absl::InfiniteFuture();
  absl::Time next = absl::InfiniteFuture();
  for (auto& beat : beats) {
    if (beat->NextTick() <= now) {
      if (std::optional<Beat::Ask> ask = beat->Tick(now)) {
        // As in any batch: no script that must be healed behind the others' backs. One script
        // serves all here in practice.
        if (batch->beats.empty()) ask->request.UseEval();
        batch->bytes += ask->request.bytes();
        if (batch->beats.empty()) batch->first_size = batch->bytes.size();
        batch->beats.push_back(beat);
        batch->give_up = std::min(batch->give_up, now + ask->patience);
      }
    }
    next = std::min(next, beat->NextTick());
  }
  if (!batch->beats.empty()) Send(std::move(batch), next, interrupt);
  return next;
}

void Background::Send(std::unique_ptr<Batch> batch, absl::Time until,
                      const std::stop_token& interrupt) {
  const CallLimits limits{ToSteady(std::min(until, batch->give_up)), interrupt};
  absl::StatusOr<std::shared_ptr<Connection>> connection = node_.background().Get(limits);
  if (!connection.ok()) {
    const absl::Time now = node_.clock().Now();
    for (auto& beat : batch->beats) beat->Answer(connection.status(), now, now);
    return;
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
    }
    if (failed.ok()) {
      batch.beats[i]->Answer(std::move(batch.replies[i]), batch.sent, now);
    } else {
      batch.beats[i]->Answer(std::move(failed), batch.sent, now);
    }
  }
}

void Background::Wait(absl::Time until, const std::stop_token& interrupt) {
  {
    MutexLock lock(mutex_);
    if (stopping_ || interrupt.stop_requested()) return;
    planned_ = until;
    // What was added while we looked has set no earlier plan than InfinitePast, so ask again before
    // sleeping long.
    for (const auto& beat : beats_) planned_ = std::min(planned_, beat->NextTick());
    until = planned_;
    if (in_flight_.empty()) {
      const SteadyTime deadline = ToSteady(until);
      while (!stopping_ && !interrupt.stop_requested() && planned_ >= until &&
             std::chrono::steady_clock::now() < deadline) {
        if (!changed_.WaitUntil(mutex_, deadline)) break;
      }
      return;
    }
  }
  Batch& front = *in_flight_.front();
  front.connection->Wait(*front.exchange, CallLimits{ToSteady(until), interrupt});
}

SteadyTime Background::ToSteady(absl::Time when) const {
  return DeadlineAfter(when - node_.clock().Now());
}

}  // namespace coord::internal
