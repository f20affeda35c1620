// The client's one background thread: keeps leases alive, tells holders when they are lost, and
// withdraws what was given up.
//
// It owns the node's second connection, so that a large reply elsewhere cannot delay a renewal, and
// it never blocks on that connection beyond the next moment at which somebody must be told
// something. No user code runs on it.
#ifndef COORD_DEPLOYMENT_BACKGROUND_H_
#define COORD_DEPLOYMENT_BACKGROUND_H_

#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/node.h"
#include "coord/internal/sync.h"
#include "coord/wire/request.h"

namespace coord::internal {

// Something that needs attention from time to time, on the clock of the client. Its methods are
// called by the background thread with no lock held.
class Beat {
 public:
  virtual ~Beat() = default;

  // When it next wants Tick; InfiniteFuture for not at present.
  virtual absl::Time NextTick() = 0;

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

  // The client was closed: nothing will be sent for it any more. By the thread that closes.
  virtual void Closed() = 0;

  // Somebody else waits in vain if it is not sent, so a client that closes gives it a moment.
  virtual bool owed() const { return false; }

 private:
  friend class Background;
  std::list<std::shared_ptr<Beat>>::iterator place_;
  bool added_ = false;
};

class Background {
 public:
  explicit Background(Node& node) : node_(node) {}
  ~Background();  // ends the thread and waits for it
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Thread-safe. The first call starts the thread; false when the system gives none.
  bool Add(std::shared_ptr<Beat> beat);
  void Remove(Beat& beat);
  // A beat may want its Tick earlier than it did.
  void Poke(absl::Time when);
  // Tells every beat that the client was closed, and takes no more.
  void Close();
  // Waits up to `patience` until nothing is owed.
  void Flush(absl::Duration patience);

 private:
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
  // Ticks what is due; returns when the next one is.
  absl::Time TickAll(absl::Time now, const std::stop_token& interrupt);
  void Send(std::unique_ptr<Batch> batch, absl::Time until, const std::stop_token& interrupt);
  void Settle(Batch& batch);
  void Wait(absl::Time until, const std::stop_token& interrupt);
  SteadyTime ToSteady(absl::Time when) const;

  Node& node_;
  std::deque<std::unique_ptr<Batch>> in_flight_;  // the thread's own

  Mutex mutex_;
  CondVar changed_;
  CondVar removed_;
  std::list<std::shared_ptr<Beat>> beats_ ABSL_GUARDED_BY(mutex_);
  std::stop_source interrupt_ ABSL_GUARDED_BY(mutex_);
  absl::Time planned_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // when the thread looks next
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_BACKGROUND_H_
