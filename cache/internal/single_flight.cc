#include "cache/internal/single_flight.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

absl::Status Closed() {
  return MakeStatus(absl::StatusCode::kFailedPrecondition, "the cache is closed");
}

}  // namespace

std::size_t SingleFlight::Bucket(std::string_view key) const {
  return std::hash<std::string_view>()(key) % landings_.size();
}

std::uint64_t SingleFlight::Mark(std::string_view key) const {
  return landings_[Bucket(key)].load();
}

bool SingleFlight::Inside(std::string_view key) const {
  const auto self = std::this_thread::get_id();
  return std::any_of(all_.begin(), all_.end(), [&](const Handle& flight) {
    return flight->begun_ && flight->thread_ == self && flight->key_ == key;
  });
}

absl::StatusOr<SingleFlight::Ticket> SingleFlight::New(std::string_view key) {
  if (closed_) return Closed();
  if (Inside(key)) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("the factory of ", Quoted(key), " asks for that key itself"));
  }
  Ticket ticket{Handle(new Flight(key)), /*leads=*/true};
  open_.insert_or_assign(std::string(key), ticket.flight);
  open_count_.store(open_.size());
  all_.push_back(ticket.flight);
  return ticket;
}

absl::StatusOr<SingleFlight::Ticket> SingleFlight::Join(std::string_view key, std::uint64_t mark) {
  MutexLock lock(mutex_);
  const auto found = closed_ || Inside(key) ? open_.end() : open_.find(ToAbsl(key));
  if (found != open_.end()) {
    ++found->second->waiting_;
    return Ticket{found->second, /*leads=*/false, /*landed_since=*/false, found->second->given_up_};
  }
  absl::StatusOr<Ticket> ticket = New(key);
  if (!ticket.ok()) return ticket;
  ticket->flight->waiting_ = 1;
  ticket->landed_since = landings_[Bucket(key)].load() != mark;
  return ticket;
}

absl::StatusOr<SingleFlight::Ticket> SingleFlight::Supersede(std::string_view key) {
  MutexLock lock(mutex_);
  if (const auto found = open_.find(ToAbsl(key));
      !closed_ && !Inside(key) && found != open_.end()) {
    found->second->overtaken_ = true;
  }
  absl::StatusOr<Ticket> ticket = New(key);
  if (ticket.ok()) ticket->flight->waiting_ = 1;
  return ticket;
}

SingleFlight::Handle SingleFlight::Background(std::string_view key, std::uint64_t mark) {
  MutexLock lock(mutex_);
  if (open_.contains(ToAbsl(key)) || landings_[Bucket(key)].load() != mark) return nullptr;
  absl::StatusOr<Ticket> ticket = New(key);
  if (!ticket.ok()) return nullptr;
  ticket->flight->wanted_ = true;
  return ticket->flight;
}

void SingleFlight::Overtake(std::string_view key) {
  if (open_count_.load() == 0) return;
  MutexLock lock(mutex_);
  const auto found = open_.find(ToAbsl(key));
  if (found == open_.end()) return;
  found->second->overtaken_ = true;
  open_.erase(found);
  open_count_.store(open_.size());
}

bool SingleFlight::overtaken(const Handle& flight) const {
  MutexLock lock(mutex_);
  return flight->overtaken_;
}

bool SingleFlight::Begin(const Handle& flight) {
  MutexLock lock(mutex_);
  if (flight->begun_ || flight->result_.has_value()) return false;
  flight->begun_ = true;
  flight->thread_ = std::this_thread::get_id();
  return true;
}

void SingleFlight::SetRun(const Handle& flight, std::function<void()> run) {
  MutexLock lock(mutex_);
  // One that Close has cancelled meanwhile keeps nothing alive.
  if (!flight->result_.has_value()) flight->run_ = std::move(run);
}

std::function<void()> SingleFlight::TakeRun(const Handle& flight) {
  MutexLock lock(mutex_);
  if (flight->begun_ || flight->result_.has_value() || !flight->run_) return nullptr;
  flight->begun_ = true;
  flight->thread_ = std::this_thread::get_id();
  return std::exchange(flight->run_, nullptr);
}

void SingleFlight::Remove(const Handle& flight) {
  if (const auto found = open_.find(ToAbsl(flight->key_));
      found != open_.end() && found->second == flight) {
    open_.erase(found);
    open_count_.store(open_.size());
  }
  if (const auto found = std::find(all_.begin(), all_.end(), flight); found != all_.end()) {
    all_.erase(found);
  }
  landed_.NotifyAll();
}

void SingleFlight::Cancel(const Handle& flight, const absl::Status& why) {
  std::function<void()> run;  // ends outside the lock, with the factory that it holds
  MutexLock lock(mutex_);
  if (flight->begun_ || flight->result_.has_value()) return;
  run = std::exchange(flight->run_, nullptr);
  flight->result_ = why;
  Remove(flight);
  flight->changed_.NotifyAll();
}

bool SingleFlight::Withdraw(const Handle& flight) {
  MutexLock lock(mutex_);
  if (flight->waiting_ > 0 || flight->result_.has_value()) return false;
  flight->result_ = absl::CancelledError("");
  Remove(flight);
  return true;
}

bool SingleFlight::Awaited(const Handle& flight) const {
  MutexLock lock(mutex_);
  return flight->waiting_ > 0;
}

void SingleFlight::Land(const Handle& flight, Result result) {
  MutexLock lock(mutex_);
  if (flight->result_.has_value()) return;
  flight->result_ = std::move(result);
  landings_[Bucket(flight->key_)].fetch_add(1);
  Remove(flight);
  flight->changed_.NotifyAll();
}

std::optional<SingleFlight::Result> SingleFlight::Await(const Handle& flight, SteadyTime deadline,
                                                        const std::stop_token& stop, bool content) {
  bool stopped = false;
  bool landed = false;
  {
    const std::stop_callback wake(stop, [&] {
      MutexLock lock(mutex_);
      flight->changed_.NotifyAll();
    });
    MutexLock lock(mutex_);
    while (!(landed = flight->result_.has_value())) {
      stopped = stop.stop_requested();
      if (stopped || Passed(deadline)) break;
      if (deadline == SteadyTime::max()) {
        flight->changed_.Wait(mutex_);
      } else {
        (void)flight->changed_.WaitUntil(mutex_, deadline);
      }
    }
  }
  // Once it is there it does not change, so it can be copied without the lock.
  if (landed) return *flight->result_;
  Leave(*flight, content && !stopped);
  return std::nullopt;
}

void SingleFlight::GiveUp(const Handle& flight) { Leave(*flight, /*content=*/false); }

void SingleFlight::Leave(Flight& flight, bool content) {
  {
    MutexLock lock(mutex_);
    --flight.waiting_;
    flight.wanted_ |= content;
    if (flight.waiting_ > 0 || flight.wanted_ || flight.result_.has_value()) return;
    flight.given_up_ = true;
  }
  // Runs what the factory has registered, so not under the lock.
  flight.stop_.request_stop();
}

void SingleFlight::Close() {
  std::vector<Handle> under_way;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    under_way = all_;
  }
  for (const Handle& flight : under_way) {
    Cancel(flight, Closed());
    flight->stop_.request_stop();
  }
  const auto self = std::this_thread::get_id();
  MutexLock lock(mutex_);
  while (std::any_of(all_.begin(), all_.end(), [&](const Handle& flight) {
    return !flight->begun_ || flight->thread_ != self;
  })) {
    landed_.Wait(mutex_);
  }
}

}  // namespace coord::internal
