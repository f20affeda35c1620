#include "coord/deployment/background.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/wire/wait_any.h"

namespace coord::internal {
namespace {

// The waits below run on a clock that stands still while the machine sleeps; after waking, nobody
// is told of a lost lease later than this.
constexpr absl::Duration kLongestWait = absl::Seconds(1);

// Where there are several nodes, dialling one gets so long, whoever waits: over a long way, with
// TLS, less may never be enough, and it is a small part of what leases leave for their renewal.
constexpr absl::Duration kLeastDial = absl::Milliseconds(500);

constexpr int kMostHops = 5;

}  // namespace

void Background::Stop() {
  std::thread thread;
  std::stop_source interrupt(std::nostopstate);
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    ended_.request_stop();
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

Background::Link& Background::LinkTo(Node& node) {
  for (const auto& link : links_) {
    if (&link->node == &node) return *link;
  }
  return *links_.emplace_back(std::make_unique<Link>(node));
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
    const absl::Time now = clock_.Now();
    for (std::size_t i = 0; i < links_.size(); ++i) {  // settling may add links
      Link& link = *links_[i];
      while (!link.in_flight.empty() && link.in_flight.front()->exchange->done()) {
        const std::unique_ptr<Batch> batch = std::move(link.in_flight.front());
        link.in_flight.pop_front();
        Settle(link, *batch);
      }
      NoticeBreak(link);
    }
    if (BreakLate(now)) continue;
    TickDue(now);
    absl::Time next = now + kLongestWait;
    for (std::size_t i = 0; i < links_.size(); ++i) {
      Send(*links_[i], interrupt);
      for (auto& batch : links_[i]->in_flight) next = std::min(next, batch->give_up);
    }
    Wait(next, interrupt);
  }
  for (auto& link : links_) {
    for (auto& batch : link->in_flight) link->connection->Abandon(*batch->exchange);
    link->in_flight.clear();
  }
}

bool Background::BreakLate(absl::Time now) {
  bool broke = false;
  for (auto& link : links_) {
    for (auto& batch : link->in_flight) {
      if (now < batch->give_up || link->broken()) continue;
      const absl::Status why = MakeStatus(absl::StatusCode::kUnavailable,
                                          StrCat(link->node.name(), " did not answer in time"));
      link->node.record().Late(why);
      link->connection->Break(why);
      broke = true;
    }
  }
  return broke;
}

void Background::NoticeBreak(Link& link) {
  // Exchanges of a broken connection are done, and are settled before it is let go of.
  if (link.connection == nullptr || !link.connection->broken() || !link.in_flight.empty()) return;
  link.connection = nullptr;
  (void)link.node.shared().Current();  // it may have broken too, which callers would find later
  std::vector<std::shared_ptr<Beat>> beats;
  {
    MutexLock lock(mutex_);
    for (auto& [when, beat] : schedule_) {
      if (beat->asked_ == &link.node || beat->asked_ == nullptr) beats.push_back(beat);
    }
  }
  for (auto& beat : beats) {
    beat->LinkBroken();
    Reschedule(*beat);
  }
}

void Background::TickDue(absl::Time now) {
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
  for (auto& beat : due) {
    if (std::optional<Beat::Ask> ask = beat->Tick(now)) {
      Node* const node = ask->to != nullptr ? ask->to : router_.NodeFor(ask->request);
      Question question{beat, std::move(ask->request), now + ask->patience};
      if (node != nullptr) {
        beat->asked_ = node;
        LinkTo(*node).outgoing.push_back(std::move(question));
      } else {
        std::vector<Question> one;
        one.push_back(std::move(question));
        Refuse(std::move(one),
               MakeStatus(absl::StatusCode::kUnavailable,
                          "no node of the Cluster serves that slot at present", kUnavailable));
        continue;
      }
    }
    Reschedule(*beat);
  }
}

void Background::Refuse(std::vector<Question> questions, const absl::Status& why) {
  const absl::Time now = clock_.Now();
  for (Question& question : questions) {
    question.beat->Answer(why, now, now);
    Reschedule(*question.beat);
  }
}

void Background::Send(Link& link, const std::stop_token& interrupt) {
  if (link.outgoing.empty()) return;
  std::vector<Question> questions = std::exchange(link.outgoing, {});
  absl::Time until = questions.front().give_up;
  for (const Question& question : questions) until = std::min(until, question.give_up);
  CallLimits limits;
  {
    MutexLock lock(mutex_);
    if (!schedule_.empty()) until = std::min(until, schedule_.begin()->first);
    planned_ = until;  // who must be served sooner than a connection can be made interrupts that
    connecting_ = true;
    limits = {ToSteady(until), interrupt};
    if (links_.size() > 1) limits = {DeadlineAfter(kLeastDial), ended_.get_token()};
  }
  absl::StatusOr<std::shared_ptr<Connection>> connection =
      link.node.background().Get(limits, Channel::Patience::kIfDue);
  {
    MutexLock lock(mutex_);
    planned_ = absl::InfinitePast();
    connecting_ = false;
  }
  if (!connection.ok()) {
    absl::Status why = connection.status();
    // That somebody else must be served first is no answer.
    if (why.code() == absl::StatusCode::kCancelled) {
      why = MakeStatus(absl::StatusCode::kUnavailable,
                       StrCat("no connection to ", link.node.name(), " yet"), kUnavailable);
    } else {
      router_.Unreached(link.node);
    }
    Refuse(std::move(questions), why);
    return;
  }
  if (*connection != link.connection) {
    // A new one, on which each script in the batch may be new too; SCRIPT LOAD in the handshake
    // does for all but users without that right, and those are healed by the next batch.
    if (link.connection != nullptr) {
      // Who disconnects takes a connection away first and breaks it then. It is gone for us either
      // way, and who asked over it must hear of that before anything goes over the new one.
      link.connection->Break(
          MakeStatus(absl::StatusCode::kUnavailable,
                     StrCat("the connection to ", link.node.name(), " was given up for another"),
                     kOutcomeUnknown | kUnavailable));
    }
    for (auto& batch : link.in_flight) Settle(link, *batch);
    link.in_flight.clear();
    NoticeBreak(link);
    link.connection = *std::move(connection);
    link.known.clear();
  }
  auto batch = std::make_unique<Batch>();
  std::size_t replies = 0;
  for (Question& question : questions) {
    // As in any batch, no script may be healed behind the backs of others: the first use of each
    // on a connection carries its text.
    if (question.request.is_script() && link.known.insert(question.request.what()).second) {
      question.request.UseEval();
    }
    batch->bytes += question.request.bytes();
    if (batch->first_size == 0) batch->first_size = batch->bytes.size();
    batch->give_up = std::min(batch->give_up, question.give_up);
    replies += question.request.replies();
  }
  batch->questions = std::move(questions);
  batch->replies.resize(replies);
  batch->exchange = std::make_unique<Exchange>(batch->bytes, batch->first_size, batch->replies);
  batch->sent = clock_.Now();
  link.connection->Submit(*batch->exchange);
  link.in_flight.push_back(std::move(batch));
}

void Background::Settle(Link& link, Batch& batch) {
  std::size_t at = 0;
  for (Question& question : batch.questions) {
    at += question.request.replies();
    const absl::Status& failed = batch.exchange->status();
    if (failed.ok()) {
      SettleOne(link, std::move(question), std::move(batch.replies[at - 1]), batch.sent);
    } else {
      SettleOne(link, std::move(question), failed, batch.sent);
    }
  }
  if (batch.exchange->status().ok()) {
    link.node.record().Answered();
    link.node.record().latency().Add(clock_.Now() - batch.sent);
  }
}

void Background::SettleOne(Link& link, Question question, absl::StatusOr<Reply> reply,
                           absl::Time sent) {
  const absl::Time now = clock_.Now();
  if (reply.ok() && reply->is_error()) {
    const std::string text = reply->text();
    const std::string_view code = ErrorCode(text);
    absl::Status failed = ServerError(text, link.node.name());
    if (code == "NOSCRIPT") {
      link.known.clear();
      failed = MakeStatus(absl::StatusCode::kUnavailable, FromAbsl(failed.message()), kUnavailable);
    } else if ((code == "MOVED" || code == "ASK") && question.hops < kMostHops) {
      if (Node* const node = router_.Follow(link.node, question.request, text)) {
        ++question.hops;
        question.beat->asked_ = node;
        LinkTo(*node).outgoing.push_back(std::move(question));
        return;
      }
    }
    reply = std::move(failed);
  }
  question.beat->Answer(std::move(reply), sent, now);
  Reschedule(*question.beat);
}

void Background::Wait(absl::Time until, const std::stop_token& interrupt) {
  Link* only = nullptr;
  bool several = false;
  for (auto& link : links_) {
    if (!link->outgoing.empty()) return;  // redirected meanwhile
    if (link->in_flight.empty() && link->connection == nullptr) continue;
    several = several || only != nullptr;
    only = link.get();
  }
  {
    MutexLock lock(mutex_);
    if (stopping_ || interrupt.stop_requested()) return;
    // What was placed while we looked is seen here.
    if (!schedule_.empty()) until = std::min(until, schedule_.begin()->first);
    planned_ = until;
    if (only == nullptr) {
      Doze(until, interrupt);
      return;
    }
  }
  if (several) {
    WaitForSeveral(until, interrupt);
  } else {
    WaitForOne(*only, until, interrupt);
  }
}

void Background::WaitForOne(Link& link, absl::Time until, const std::stop_token& interrupt) {
  const CallLimits limits{ToSteady(until), interrupt};
  if (!link.in_flight.empty()) {
    link.connection->Wait(*link.in_flight.front()->exchange, limits);
    return;
  }
  if (link.broken()) return;
  const SteadyTime quiet_until = wakes_.quiet_until();
  const bool quiet = !wakes_.wanted() && !Passed(quiet_until);
  if (!quiet) {
    delivered_.store(false, std::memory_order_relaxed);
    // After a message he who was told has no need of us; if others do, we are here again at once.
    if (link.connection->Listen(limits, delivered_) != Connection::ListenResult::kTaken) return;
  }
  MutexLock lock(mutex_);
  if (quiet) {
    const auto rest = absl::FromChrono(quiet_until - std::chrono::steady_clock::now());
    until = std::min(until, clock_.Now() + rest);
    // One who came to want it before we hold the lock has not found us asleep.
    if (wakes_.wanted()) return;
  }
  Doze(until, interrupt);
}

void Background::WaitForSeveral(absl::Time until, const std::stop_token& interrupt) {
  SteadyTime deadline = ToSteady(until);
  // See WaitForOne: those who have just waited read for themselves.
  const SteadyTime quiet_until = wakes_.quiet_until();
  const bool quiet = !wakes_.wanted() && !Passed(quiet_until);
  if (quiet) deadline = std::min(deadline, quiet_until);
  WaitAny any;
  for (auto& link : links_) {
    if (!link->in_flight.empty()) {
      any.Add(*link->connection, *link->in_flight.front()->exchange);
    } else if (link->connection != nullptr && !quiet) {
      any.AddListener(*link->connection);
    }
  }
  std::size_t which;
  any.Next({deadline, interrupt}, &which);
}

void Background::Doze(absl::Time until, const std::stop_token& interrupt) {
  const SteadyTime deadline = ToSteady(until);
  while (!stopping_ && !interrupt.stop_requested() && planned_ >= until &&
         std::chrono::steady_clock::now() < deadline) {
    if (!changed_.WaitUntil(mutex_, deadline)) break;
  }
}

SteadyTime Background::ToSteady(absl::Time when) const {
  return DeadlineAfter(when - clock_.Now());
}

}  // namespace coord::internal
