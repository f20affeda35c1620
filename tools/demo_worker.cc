// What the processes of `coord demo` do: the parts of the scenes that run in processes of their
// own.
#include "tools/demo_worker.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"
#include "coord/capped_list.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/json_document.h"
#include "coord/mutex.h"
#include "coord/quorum.h"
#include "coord/rate_limiter.h"
#include "coord/rw_mutex.h"
#include "tools/demo.h"
#include "tools/demo_cache.h"
#ifdef COORD_HAS_HTTP
#include "tools/demo_fetch.h"
#endif

namespace coord::tools {
namespace {

void Sleep(absl::Duration duration) {
  timespec left = absl::ToTimespec(duration);
  while (nanosleep(&left, &left) != 0) {
  }
}

std::int64_t Token(const Lease& lease) { return static_cast<std::int64_t>(lease.token().value()); }

// Takes the lock again and again until it is told to end.
absl::Status TakeTurns(const Mutex& mutex, const Post& post) {
  while (!post.Dismissed()) {
    post.Log("ask");
    absl::StatusOr<Lease> lease = mutex.Acquire(absl::Seconds(20));
    if (!lease.ok()) return lease.status();
    post.Log("enter", {Token(*lease)});
    Sleep(kSection);
    // Left before the lock is given back, so that whoever writes "enter" in between was not alone.
    post.Log("leave", {Token(*lease), lease->valid() ? 1 : 0});
    const absl::Status status = lease->Release();
    // Seen to be wrong, which the report is to say; the scene goes on.
    if (IsLost(status)) {
      post.Log("lost");
    } else if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

// Waits for the lock; comes, and goes when `stays` has returned.
template <typename Stays>
absl::Status Visit(const Post& post, absl::StatusOr<Lease> lease, Stays stays) {
  if (!lease.ok()) return lease.status();
  post.Log("enter", {Token(*lease)});
  if (absl::Status status = stays(*lease); !status.ok()) return status;
  post.Log("leave", {Token(*lease), lease->valid() ? 1 : 0});
  return lease->Release();
}

absl::Status GoAtOnce(const Lease&) { return absl::OkStatus(); }

// Until it is told to go, or killed.
auto StayWith(const Post& post) {
  return [&post](const Lease& lease) -> absl::Status {
    while (!post.Dismissed()) {
      if (!lease.valid()) return absl::InternalError("lost the lock that it renews");
      Sleep(absl::Milliseconds(5));
    }
    return absl::OkStatus();
  };
}

absl::Status Hold(const Client& client, const WorkerTask& task, const Post& post) {
  const Mutex mutex(client, task.name, {.ttl = kKilledTtl});
  return Visit(post, mutex.Acquire(absl::Seconds(5)), StayWith(post));
}

absl::Status Follow(const Client& client, const WorkerTask& task, const Post& post) {
  const Mutex mutex(client, task.name, {.ttl = kKilledTtl});
  return Visit(post, mutex.Acquire(absl::Seconds(20)), GoAtOnce);
}

absl::Status Read(const Client& client, const WorkerTask& task, const Post& post) {
  const RwMutex mutex(client, task.name);
  return Visit(post, mutex.AcquireShared(absl::Seconds(20)), StayWith(post));
}

absl::Status Write(const Client& client, const WorkerTask& task, const Post& post) {
  const RwMutex mutex(client, task.name);
  return Visit(post, mutex.Acquire(absl::Seconds(20)), GoAtOnce);
}

absl::Status Take(const Client& client, const WorkerTask& task, const Post& post) {
  const RateLimiter limiter(client, SharedLimit());
  std::int64_t allowed = 0;
  for (std::int64_t i = 0; i < task.number; ++i) {
    const absl::StatusOr<RateDecision> decision = limiter.Take(task.name);
    if (!decision.ok()) return decision.status();
    if (decision->allowed) ++allowed;
  }
  post.Log("taken", {allowed, task.number});
  return absl::OkStatus();
}

absl::Status Push(const Client& client, const WorkerTask& task, const Post& post) {
  const CappedList list(client, task.name, {.max_items = kListCap, .ttl = kKeysLive});
  for (std::int64_t i = 1; i <= task.number; ++i) {
    const absl::StatusOr<PushResult> pushed =
        list.Push(absl::StrFormat("event %d of %c", i, task.letter));
    if (!pushed.ok()) return pushed.status();
    post.Log("push", {i, pushed->sequence, pushed->length, pushed->evicted});
  }
  return absl::OkStatus();
}

// Looks at the list until it is told to end.
absl::Status Observe(const Client& client, const WorkerTask& task, const Post& post) {
  const CappedList list(client, task.name, {.max_items = kListCap});
  std::int64_t looks = 0;
  std::size_t longest = 0;
  while (!post.Dismissed()) {
    const absl::StatusOr<std::vector<std::string>> items = list.Range();
    if (!items.ok()) return items.status();
    longest = std::max(longest, items->size());
    ++looks;
  }
  post.Log("seen", {looks, static_cast<std::int64_t>(longest)});
  return absl::OkStatus();
}

absl::Status Claim(const Client& client, const WorkerTask& task, const Post& post) {
  const JsonDocument job(client, task.name);
  const absl::StatusOr<CasResult> claimed = job.CompareAndSetFields(
      {{"/status", R"("queued")"}},
      {{"/status", R"("running")"}, {"/owner", absl::StrFormat(R"("%c")", task.letter)}});
  if (!claimed.ok()) return claimed.status();
  post.Log("claim", {claimed->applied() ? 1 : 0, claimed->current == R"("running")" ? 1 : 0});
  return absl::OkStatus();
}

absl::Status Count(const Client& client, const WorkerTask& task, const Post& post) {
  const Counter counter(client, task.name);
  std::int64_t last = 0;
  for (std::int64_t i = 0; i < task.number; ++i) {
    const absl::StatusOr<CounterResult> result = counter.Add(1, {.ttl = kKeysLive});
    if (!result.ok()) return result.status();
    last = result->value;
  }
  post.Log("counted", {task.number, last});
  return absl::OkStatus();
}

// Of both limits at once.
absl::Status TakeBoth(const Client& client, const WorkerTask& task, const Post& post) {
  const std::vector<LimitedKey> limits = {{OwnLimit(), OwnName(task.name, task.letter)},
                                          {SharedLimit(), task.name}};
  std::int64_t allowed = 0;
  for (std::int64_t i = 0; i < task.number; ++i) {
    const absl::StatusOr<RateDecision> decision = RateLimiter::TakeAll(client, limits);
    if (!decision.ok()) return decision.status();
    if (decision->allowed) ++allowed;
  }
  post.Log("taken", {allowed, task.number});
  return absl::OkStatus();
}

// Reads on from the item with that number until one says that it is the end.
absl::Status Tail(const Client& client, const WorkerTask& task, const Post& post) {
  const CappedList list(client, task.name, {.max_items = kListCap});
  std::int64_t at = task.number;
  return list.Follow(at, [&](const ListSlice& slice) {
    at += slice.missed;
    std::int64_t jumps = 0;
    for (const ListItem& item : slice.items) jumps += item.sequence == ++at ? 0 : 1;
    post.Log("read", {slice.missed, static_cast<std::int64_t>(slice.items.size()), jumps});
    return slice.items.empty() || slice.items.back().value != "end";
  });
}

absl::Status TakeOver(const Client& client, const WorkerTask& task, const Post& post) {
  const absl::StatusOr<CasResult> claimed =
      JsonDocument(client, task.name)
          .Apply({.when = {{{"/status", R"("queued")"}},
                           {{"/status", R"("running")"},
                            {"/seen", absl::StrFormat("%d", kStaleBefore),
                             JsonTest::Operator::kLess}}},
                  .set = {{"/owner", absl::StrFormat(R"("%c")", task.letter)},
                          {"/seen", absl::StrFormat("%d", kStaleBefore + 1)}}});
  if (!claimed.ok()) return claimed.status();
  post.Log("claim", {claimed->applied() ? 1 : 0});
  return absl::OkStatus();
}

// Until it is told to end, whatever becomes of the connection.
absl::Status AddThrough(const Client& client, const WorkerTask& task, const Post& post) {
  const Counter once(client, task.name);
  const Counter plain(client, task.name + "-plain");
  std::int64_t counted = 0, failed = 0, known = 0, unknown = 0;
  while (!post.Dismissed()) {
    const auto id = OperationId::New();
    (once.Add(1, {.ttl = kKeysLive, .operation_id = id}).ok() ? counted : failed) += 1;
    const absl::StatusOr<CounterResult> result = plain.Add(1, {.ttl = kKeysLive});
    if (result.ok()) {
      ++known;
    } else if (IsOutcomeUnknown(result.status())) {
      ++unknown;
    }
  }
  post.Log("added", {counted, failed, known, unknown});
  return absl::OkStatus();
}

absl::Status Perform(const Client& client, const WorkerTask& task, const Post& post) {
  if (task.role == "turns") return TakeTurns(Mutex(client, task.name), post);
  if (task.role == "hold") return Hold(client, task, post);
  if (task.role == "follow") return Follow(client, task, post);
  if (task.role == "read") return Read(client, task, post);
  if (task.role == "write") return Write(client, task, post);
  if (task.role == "take") return Take(client, task, post);
  if (task.role == "push") return Push(client, task, post);
  if (task.role == "observe") return Observe(client, task, post);
  if (task.role == "claim") return Claim(client, task, post);
  if (task.role == "count") return Count(client, task, post);
  if (task.role == "take-both") return TakeBoth(client, task, post);
  if (task.role == "tail") return Tail(client, task, post);
  if (task.role == "take-over") return TakeOver(client, task, post);
  if (task.role == "add-through") return AddThrough(client, task, post);
  if (task.role == "ask-together") return AskTogether(client, task, post);
  if (task.role == "ask-source") return AskSource(client, task, post);
#ifdef COORD_HAS_HTTP
  if (task.role == "fetch") return FetchPage(client, task, post);
#endif
  return absl::InvalidArgumentError(absl::StrFormat("no such role: %s", task.role));
}

absl::Status PerformBeforeSeveral(const Program& program, const WorkerTask& task, Post& post) {
  const absl::StatusOr<Quorum> quorum = program.ConnectQuorum();
  if (!quorum.ok()) return quorum.status();
  if (task.role != "turns") {
    return absl::InvalidArgumentError(absl::StrFormat("not with several servers: %s", task.role));
  }
  return post.WaitForGo() ? TakeTurns(Mutex(*quorum, task.name), post) : absl::OkStatus();
}

absl::Status PerformBeforeOne(const Program& program, const WorkerTask& task, Post& post) {
  ClientOptions options;
  // By its name the connection is found that is to be cut.
  options.client_name =
      task.role == "add-through" ? task.name : absl::StrFormat("demo-%c", task.letter);
  const absl::StatusOr<Client> client = program.Connect(options);
  if (!client.ok()) return client.status();
  return post.WaitForGo() ? Perform(*client, task, post) : absl::OkStatus();
}

}  // namespace

int RunWorker(const Program& program, const WorkerTask& task) {
  Post post(task.letter);
  const absl::Status status = program.quorum() ? PerformBeforeSeveral(program, task, post)
                                               : PerformBeforeOne(program, task, post);
  if (status.ok()) return kExitOk;
  post.LogError(status);
  return kExitError;
}

}  // namespace coord::tools
