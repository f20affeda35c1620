#include "coord/id_generator.h"

#include <array>
#include <atomic>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::MutexLock;
using internal::Quoted;
using internal::StrCat;

absl::Status CheckOptions(const IdGeneratorOptions& options) {
  if (options.block >= 1 && options.block <= kMaxIdBlock) return absl::OkStatus();
  return internal::InvalidArgument(
      StrCat("block is ", options.block, "; it must be 1 to ", kMaxIdBlock));
}

}  // namespace

// The block in use is one word: which block it is, and how many of it are left. It only ever
// decreases in its lower half and increases in its upper, so it never has the same value twice, and
// whoever exchanges it has read the end of the very same block in between.
struct IdGenerator::State {
  static constexpr int kLeftBits = 21;
  static constexpr std::uint64_t kLeftMask = (std::uint64_t{1} << kLeftBits) - 1;

  State(Client the_client, std::string_view the_name, IdGeneratorOptions the_options)
      : client(std::move(the_client)),
        session(internal::SessionOf(client)),
        name(the_name),
        options(the_options),
        key(session.Key("id generator", name, "ids")) {}

  std::optional<std::int64_t> Take() {
    std::uint64_t now = word.load(std::memory_order_acquire);
    while ((now & kLeftMask) != 0) {
      const std::int64_t last =
          ends[(now >> kLeftBits) % ends.size()].load(std::memory_order_relaxed);
      if (word.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
        return last - static_cast<std::int64_t>(now & kLeftMask) + 1;
      }
    }
    return std::nullopt;
  }

  // By the one who refills, when nothing is left.
  void Put(std::int64_t last) {
    const std::uint64_t number = (word.load(std::memory_order_relaxed) >> kLeftBits) + 1;
    ends[number % ends.size()].store(last, std::memory_order_relaxed);
    word.store((number << kLeftBits) | static_cast<std::uint64_t>(options.block),
               std::memory_order_release);
  }

  absl::StatusOr<std::int64_t> Lease(std::int64_t floor, const internal::CallLimits& limits) {
    absl::StatusOr<Reply> reply = session.Execute(
        internal::Bind(internal::kCounterLease, {*key}, {StrCat(options.block), StrCat(floor)}),
        limits);
    if (!reply.ok()) return reply.status();
    const std::optional<std::int64_t> last = internal::ParseInt64(reply->text());
    if (!last || *last - options.block < floor) {
      return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                  StrCat("counter_lease answered ", reply->ToDebugString()));
    }
    return *last;
  }

  const Client client;
  internal::Session& session;
  const std::string name;
  const IdGeneratorOptions options;
  const absl::StatusOr<std::string> key;

  std::atomic<std::uint64_t> word{0};
  std::array<std::atomic<std::int64_t>, 2> ends{};  // of this block and the one before

  internal::Mutex mutex;
  internal::CondVar changed;
  bool leasing ABSL_GUARDED_BY(mutex) = false;
  std::int64_t had ABSL_GUARDED_BY(mutex) = 0;  // the end of the last block
};

IdGenerator::IdGenerator(Client client, std::string_view name, IdGeneratorOptions options)
    : state_(std::make_shared<State>(std::move(client), name, options)) {}

absl::StatusOr<std::int64_t> IdGenerator::Next(CallOptions call) const {
  State& state = *state_;
  // A forked child has a copy of the block, and perhaps of a lock that nobody will open.
  if (state.session.forked()) return state.session.Usable();
  if (const auto id = state.Take()) return *id;
  if (!state.key.ok()) return state.key.status();
  if (absl::Status status = CheckOptions(state.options); !status.ok()) return status;
  absl::StatusOr<internal::CallLimits> limits = state.session.Limits(call);
  if (!limits.ok()) return limits.status();

  const auto wake = [&state] {
    MutexLock lock(state.mutex);
    state.changed.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits->stop.stop_possible()) on_stop.emplace(limits->stop, wake);
  while (true) {
    std::int64_t floor = 0;
    {
      MutexLock lock(state.mutex);
      while (true) {
        if (const auto id = state.Take()) return *id;
        if (!state.leasing) break;
        const bool stopped = limits->stop.stop_requested();
        if (stopped || internal::Passed(limits->deadline)) {
          return internal::MakeStatus(
              stopped ? absl::StatusCode::kCancelled : absl::StatusCode::kDeadlineExceeded,
              StrCat("id generator ", Quoted(state.name),
                     ": another thread's request for a block was not answered in time"));
        }
        state.changed.WaitUntil(state.mutex, limits->deadline);
      }
      state.leasing = true;
      floor = state.had;
    }
    const absl::StatusOr<std::int64_t> last = state.Lease(floor, *limits);
    std::optional<std::int64_t> id;
    {
      MutexLock lock(state.mutex);
      state.leasing = false;
      if (last.ok()) {
        state.had = *last;
        state.Put(*last);
        // Before others can empty it.
        id = state.Take();
      }
      state.changed.NotifyAll();
    }
    if (!last.ok()) {
      return internal::Annotate(last.status(), StrCat("id generator ", Quoted(state.name)));
    }
    if (id) return *id;
  }
}

}  // namespace coord
