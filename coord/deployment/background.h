// The client's one background thread: keeps leases alive, asks and listens for those who wait,
// tells holders when leases are lost, and withdraws what was given up.
//
// It owns the node's second connection, so that a large reply elsewhere cannot delay a renewal, and
// it never blocks on that connection beyond the next moment at which somebody must be told
// something. No user code runs on it.
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
        patience;  // without an answer for so long, the connection is given up and made anew
  };
  // That moment has come. What it asks goes into one pipelined batch with what others ask.
  virtual std::optional<Ask> Tick(absl::Time now) = 0;

  // How the request ended; `sent` is the clock just before it was handed over. An error reply of
  // the server is a status.
  virtual void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) = 0;

  // The connection is gone, and with it perhaps messages. NextTick is asked anew.
  virtual void LinkBroken() {}

  // The client was closed: nothing will be sent for it any more. By the thread that closes.
  virtual void Closed() = 0;

  // Somebody else waits in vain if it is not sent, so a client that closes gives it a moment.
  virtual bool owed() const { return false; }

 private:
  friend class Background;
  std::multimap<absl::Time, std::shared_ptr<Beat>>::iterator place_;
  bool added_ = false;
};

class Background {
 public:
  Background(Node& node, Wakes& wakes) : node_(node), wakes_(wakes) {}
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

  struct Batch {
    std::shared_ptr<Connection> connection;
    std::vector<std::shared_ptr<Beat>> beats;
    std::string bytes;
    std::size_t first_size = 0;
    std::vector<Reply> replies;
    std::unique_ptr<Exchange> exchange;
    absl::Time sent;
    absl::Time give_up;
  };

  void Run();
  // Ticks what is due and sends what they ask.
  void TickDue(absl::Time now, const std::stop_token& interrupt);
  void Send(std::unique_ptr<Batch> batch, const std::stop_token& interrupt);
  void Settle(Batch& batch);
  // Tells everybody once when the connection that was used last is gone.
  void NoticeBreak();
  void Wait(absl::Time until, const std::stop_token& interrupt);
  // Sleeps without reading.
  void Doze(absl::Time until, const std::stop_token& interrupt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts it where NextTick says, and returns whom to interrupt if that is sooner than planned.
  std::stop_source Place(Beat& beat) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::stop_source Interrupt(absl::Time when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SteadyTime ToSteady(absl::Time when) const;

  Node& node_;
  Wakes& wakes_;
  std::atomic<bool> delivered_{false};

  // The thread's own.
  std::deque<std::unique_ptr<Batch>> in_flight_;
  std::shared_ptr<Connection> link_;        // the connection used last
  absl::flat_hash_set<std::string> known_;  // scripts that have been used on it

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
