// The client's one background thread: keeps leases alive, asks and listens for those who wait,
// tells holders when leases are lost, and withdraws what was given up.
//
// It owns each node's second connection, so that a large reply elsewhere cannot delay a renewal,
// and it never blocks on one beyond the next moment at which somebody must be told something (but
// for dialling: see kLeastDial). No user code runs on it.
#ifndef COORD_DEPLOYMENT_BACKGROUND_H_
#define COORD_DEPLOYMENT_BACKGROUND_H_

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/node.h"
#include "coord/deployment/wakes.h"
#include "coord/internal/sync.h"
#include "coord/wire/request.h"

namespace coord::internal {

// Something that needs attention from time to time, on the clock of the client. But for NextTick,
// its methods are called by the background thread with no lock held.
class Beat {
 public:
  virtual ~Beat() = default;

  // When it next wants Tick; InfiniteFuture for not at present. Called under the schedule's lock,
  // so it must not call Background.
  virtual absl::Time NextTick() = 0;
  // It may as well be ticked so much earlier, in one batch with others.
  virtual absl::Duration slack() const { return absl::ZeroDuration(); }

  struct Ask {
    Request request;
    absl::Duration
        patience;        // without an answer for so long, the connection is given up and made anew
    Node* to = nullptr;  // null: the node that serves its keys
  };
  // That moment has come. What it asks goes into one pipelined batch with what others ask.
  virtual std::optional<Ask> Tick(absl::Time now) = 0;

  // How the request ended; `sent` is the clock just before it was handed over. An error reply of
  // the server is a status.
  virtual void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) = 0;

  // The connection over which it asked last is gone, and with it perhaps messages. NextTick is
  // asked anew.
  virtual void LinkBroken() {}

  // The client was closed: nothing will be sent for it any more. By the thread that closes.
  virtual void Closed() = 0;

  // Somebody else waits in vain if it is not sent, so a client that closes gives it a moment.
  virtual bool owed() const { return false; }

 private:
  friend class Background;
  std::multimap<absl::Time, std::shared_ptr<Beat>>::iterator place_;
  bool added_ = false;
  const Node* asked_ = nullptr;  // the thread's own: where it asked last
};

// Which node serves what beats ask. Thread-safe; nodes live as long as it does.
class Router {
 public:
  virtual ~Router() = default;
  // Null: none does at present.
  virtual Node* NodeFor(const Request& request) = 0;
  // `from` has refused a request with a redirection. Learns from it; the node that the request, as
  // it may have been changed, goes to now, or null when it cannot be followed.
  virtual Node* Follow(Node& from, Request& request, std::string_view error) = 0;
  // No connection to it could be had, or it does not answer.
  virtual void Unreached(Node& node) = 0;
};

class Background {
 public:
  Background(const Clock& clock, Router& router, Wakes& wakes)
      : clock_(clock), router_(router), wakes_(wakes) {}
  ~Background() { Stop(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Thread-safe. The first call starts the thread; false when the system gives none, or the client
  // was closed.
  bool Add(std::shared_ptr<Beat> beat);
  void Remove(Beat& beat);
  // Its NextTick has changed.
  void Reschedule(Beat& beat);
  // Who read the messages has ended, and others wait for some; or found the link broken.
  void Look();
  // By who reads: there was a message for somebody.
  void Delivered() { delivered_.store(true, std::memory_order_relaxed); }
  // Tells every beat that the client was closed.
  void TellClosed();
  // Takes no more beats.
  void Close();
  // Ends the thread and waits for it. Until then beats may call back.
  void Stop();
  // Waits up to `patience` until nothing is owed.
  void Flush(absl::Duration patience);

 private:
  using Schedule = std::multimap<absl::Time, std::shared_ptr<Beat>>;

  // What somebody wants to know, on its way to the node that can tell.
  struct Question {
    std::shared_ptr<Beat> beat;
    Request request;
    absl::Time give_up;
    int hops = 0;  // redirections followed
  };
  struct Batch {
    std::vector<Question> questions;
    std::string bytes;
    std::size_t first_size = 0;
    std::vector<Reply> replies;
    std::unique_ptr<Exchange> exchange;
    absl::Time sent;
    absl::Time give_up = absl::InfiniteFuture();
  };
  // The way to one node.
  struct Link {
    explicit Link(Node& to) : node(to) {}
    Node& node;
    std::shared_ptr<Connection> connection;  // the one used last
    absl::flat_hash_set<std::string> known;  // scripts that have been used on it
    std::deque<std::unique_ptr<Batch>> in_flight;
    std::vector<Question> outgoing;
    bool broken() const { return connection == nullptr || connection->broken(); }
  };

  void Run();
  Link& LinkTo(Node& node);
  // Ticks what is due, and puts what they ask with the links that it goes over.
  void TickDue(absl::Time now);
  void Send(Link& link, const std::stop_token& interrupt);
  // Nobody can be asked: says so.
  void Refuse(std::vector<Question> questions, const absl::Status& why);
  void Settle(Link& link, Batch& batch);
  // Answers it, unless it has to be asked elsewhere.
  void SettleOne(Link& link, Question question, absl::StatusOr<Reply> reply, absl::Time sent);
  // Gives up connections that do not answer. True when there was one.
  bool BreakLate(absl::Time now);
  // Tells those who used it once when the connection that was used last is gone.
  void NoticeBreak(Link& link);
  void Wait(absl::Time until, const std::stop_token& interrupt);
  void WaitForOne(Link& link, absl::Time until, const std::stop_token& interrupt);
  void WaitForSeveral(absl::Time until, const std::stop_token& interrupt);
  // Sleeps without reading.
  void Doze(absl::Time until, const std::stop_token& interrupt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts it where NextTick says, and returns whom to interrupt if that is sooner than planned.
  std::stop_source Place(Beat& beat) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::stop_source Interrupt(absl::Time when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SteadyTime ToSteady(absl::Time when) const;

  const Clock& clock_;
  Router& router_;
  Wakes& wakes_;
  std::atomic<bool> delivered_{false};

  std::stop_source ended_;  // ends what the thread does for long

  // The thread's own.
  std::vector<std::unique_ptr<Link>> links_;

  Mutex mutex_;
  CondVar changed_;
  CondVar removed_;
  Schedule schedule_ ABSL_GUARDED_BY(mutex_);
  int owed_ ABSL_GUARDED_BY(mutex_) = 0;  // how many of them are owed
  std::stop_source interrupt_ ABSL_GUARDED_BY(mutex_);
  absl::Time planned_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // when the thread looks next
  bool connecting_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_BACKGROUND_H_
