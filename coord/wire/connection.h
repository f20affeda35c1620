// One connection shared by all callers, who take turns at serving it; no thread of its own.
//
// A caller adds its bytes to the output and a slot for its replies. Whoever finds nobody writing
// writes all that is there. Of those who wait, one is the reader: it receives, hands each reply to
// its slot in order, wakes that caller, and passes the role on when its own reply has come. A
// caller that is alone sends and receives by itself, with no other thread involved.
//
// A caller that gives up leaves its slot behind as abandoned: the late reply is dropped, never
// given to the next command. A broken stream or a protocol error fails every slot; byte offsets
// decide between "not sent" and "outcome unknown".
#ifndef COORD_WIRE_CONNECTION_H_
#define COORD_WIRE_CONNECTION_H_

#include <poll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "coord/internal/deadline.h"
#include "coord/internal/sync.h"
#include "coord/reply.h"
#include "coord/wire/resp.h"
#include "coord/wire/socket.h"
#include "coord/wire/spin.h"

namespace coord::internal {

// One batch of commands in flight. Owned by the caller, who keeps it in place from Submit until it
// is done or abandoned.
class Exchange {
 public:
  // `bytes` holds replies.size() commands, the first of them `first_size` bytes long. Both are
  // borrowed.
  Exchange(std::string_view bytes, std::size_t first_size, std::span<Reply> replies)
      : bytes_(bytes), first_size_(first_size), replies_(replies) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  bool done() const { return state_.load(std::memory_order_acquire) == kDone; }
  // Once done: OK when every reply is there; else why not, with IsOutcomeUnknown unless none of the
  // commands can have run.
  const absl::Status& status() const { return status_; }
  // Once done with a failure: no command of the batch can have run.
  bool not_sent() const { return not_sent_; }

 private:
  friend class Connection;
  friend class WaitAny;
  enum State : std::uint32_t { kAwake, kAsleep, kLead, kDone };

  std::string_view bytes_;
  std::size_t first_size_;
  std::span<Reply> replies_;
  std::size_t received_ = 0;
  std::uint32_t bed_ = 0;  // where its caller sleeps; see Connection::beds_
  absl::Status status_;
  bool not_sent_ = false;
  bool waiting_ = false;  // guarded by the connection: a thread stands in Wait and can be given the
                          // reader's role
  std::atomic<std::uint32_t> state_{kAwake};
  int bell_ = -1;  // guarded by the connection: an eventfd to write to instead of waking the bed
  std::atomic<bool> kicked_{false};
  const std::atomic<bool>* enough_ = nullptr;  // of Listen
};

class Connection {
 public:
  // Takes what the server says without being asked (RESP3 pushes). Called by whichever thread
  // reads, with no lock held; must not block or call back.
  using PushHandler = std::function<void(Reply)>;

  // Broken from the start when the system gives no descriptor for it.
  Connection(std::unique_ptr<Socket> socket, std::string peer, SpinJudge spin,
             RespLimits limits = {}, PushHandler on_push = {});
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Queues the batch and writes what can be written now. Never blocks. On a broken connection the
  // exchange is done at once.
  void Submit(Exchange& exchange);

  enum class WaitResult { kDone, kDeadline, kStopped };
  // Waits for a submitted exchange. After kDeadline or kStopped it is still in flight: Wait again,
  // or Abandon.
  WaitResult Wait(Exchange& exchange, const CallLimits& limits);

  // Submit and Wait in one, with fewer turns at the lock.
  WaitResult Run(Exchange& exchange, const CallLimits& limits);

  enum class ListenResult { kEnough, kDeadline, kStopped, kBroken, kTaken };
  // Reads pushes until the push handler, which runs in this thread meanwhile, has set `enough`, or
  // the limits end it. kTaken: somebody else reads, at once.
  ListenResult Listen(const CallLimits& limits, const std::atomic<bool>& enough);

  // Lets go of an exchange; it may be destroyed afterwards. True when none of its commands can have
  // run or will run (its bytes were taken out of the output).
  bool Abandon(Exchange& exchange);

  bool broken() const { return broken_flag_.load(std::memory_order_acquire); }
  // Why, in words; only once broken.
  absl::Status broken_status();
  // Fails everything in flight; later submissions fail as not sent.
  void Break(const absl::Status& why);

  // ---- For WaitAny, where one thread waits for exchanges on several connections ----

  // Takes the reader's role, if it is free: then true, and Serve until that says that it is gone,
  // or Leave. If not, the exchange is told by its bell when it is done or given the role.
  bool Join(Exchange& exchange);
  void HangBell(Exchange& exchange, int bell);
  // A follower that was given the role takes it. False when it was not, or is done.
  bool TakeRole(Exchange& exchange);
  // As reader: receives without waiting. False when there is nothing, or the connection has
  // just failed.
  bool ReceiveNow();
  // As reader: whether ReceiveNow would receive what poll does not know of.
  bool Pending() { return socket_->Pending(); }
  // As reader: hands out what has been received. False once the exchange is done and the role
  // passed on.
  bool Serve(Exchange& exchange);
  // As reader: what to poll, after which AfterPoll must be called.
  void BeforePoll(std::span<pollfd, 2> fds);
  void AfterPoll(std::span<const pollfd, 2> fds);
  // Does not wait for the exchange any more, which stays in flight; passes the role on. Afterwards
  // nobody writes to the bell.
  void Leave(Exchange& exchange, bool reading);
  // The reader's.
  SpinJudge& spin() { return spin_; }
  bool flush_wanted() const { return deferred_.load(std::memory_order_relaxed) != 0; }
  void FlushNow();

  const std::string& peer() const { return peer_; }
  int descriptor() const { return socket_->fd(); }

 private:
  struct Entry {
    Exchange* exchange;                   // null once abandoned
    std::size_t remaining;                // replies still to come
    std::uint64_t begin, first_end, end;  // offsets in the stream of all bytes ever queued
  };
  // Whom to wake once the lock is let go: for each word, the bits.
  static constexpr std::uint32_t kBeds = 128;
  using WakeList = std::array<std::uint32_t, kBeds / 32>;

  // A server closes what has been idle for its `timeout`, and what is then sent is lost without a
  // trace of whether it ran: so after a rest we look first.
  void CheckAfterRest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Queues and writes; on a broken connection the exchange is done at once.
  void Accept(Exchange& exchange) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(Exchange& exchange) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Flushes, or leaves it to a reader who is awake and will do so before it waits.
  void FlushOrDefer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the reader's role if it is free; else marks the exchange as waiting for its turn.
  bool TryLead(Exchange& exchange) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  WaitResult WaitAfterTry(Exchange& exchange, const CallLimits& limits, bool lead);
  // Serves the connection until the exchange is done or the limits end it. The role is given up on
  // return.
  WaitResult Lead(Exchange& exchange, const CallLimits& limits);
  WaitResult Sleep(Exchange& exchange, SteadyTime deadline);
  // Receives once, waiting if there is nothing. False: look at the limits again.
  bool Receive(SteadyTime deadline);
  bool TakeReceived(ssize_t n);
  void PollOnce(SteadyTime deadline);
  // Parses what has been received, up to a turn's limit, and hands it out.
  enum class Delivery {
    kDry,   // nothing whole is left
    kMore,  // perhaps there is more
    kLeft,  // the exchange is done, and the role is passed on or free
  };
  Delivery DeliverBuffered(const Exchange& exchange);
  void Deliver(std::span<Reply> replies, WakeList& wake) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PassRole(WakeList& wake) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const absl::Status& why, WakeList& wake) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Finish(Exchange& exchange, WakeList& wake);
  static void Rouse(std::uint32_t bed, WakeList& wake);
  void Wake(const WakeList& wake);
  void Kick(Exchange& exchange);

  // Constant after construction.
  const std::unique_ptr<Socket> socket_;
  const std::string peer_;
  const PushHandler on_push_;
  const UniqueFd wake_fd_;  // stands in the reader's poll

  // Where callers sleep: a word for 32, which counts the wakes; a bit for each. They are given out
  // in the order of the commands, so the callers of one batch of replies share a word or two. Two
  // callers far apart may share a bit: one is then woken for nothing.
  std::array<std::atomic<std::uint32_t>, kBeds / 32> beds_{};

  // The reader's alone; the role passes under mutex_.
  RespParser parser_;
  std::vector<Reply> parsed_;
  SpinJudge spin_;

  Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_blocked_ ABSL_GUARDED_BY(mutex_) = false;  // the rest waits for POLLOUT
  std::atomic<bool> polling_{
      false};  // the reader sleeps; set under mutex_, when nothing is left to flush
  std::atomic<std::size_t> deferred_{
      0};  // how many submissions were left to the reader; changed under mutex_
  std::uint32_t next_bed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Entry> in_flight_ ABSL_GUARDED_BY(mutex_);
  std::string output_ ABSL_GUARDED_BY(mutex_);  // not yet taken by a writer
  std::string sending_;                         // the writer's, or under mutex_ when nobody writes
  std::size_t sending_at_ = 0;                  // as sending_
  std::uint64_t queued_ ABSL_GUARDED_BY(mutex_) = 0;  // offset of the end of output_
  SteadyTime last_use_ ABSL_GUARDED_BY(mutex_) = std::chrono::steady_clock::now();
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> broken_flag_{false};
};

}  // namespace coord::internal

#endif  // COORD_WIRE_CONNECTION_H_
