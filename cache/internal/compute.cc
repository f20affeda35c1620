#include "cache/internal/compute.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/cord.h"
#include "cache/internal/early_refresh.h"
#include "cache/internal/factory_result.h"
#include "cache/internal/flight_lease.h"
#include "cache/internal/observed.h"
#include "cache/internal/single_flight.h"
#include "cache/internal/workers.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {

struct ComputeContextAccess {
  static void Prepare(ComputeContext& context, std::stop_token stop,
                      std::function<absl::Status(std::string_view)> add_tag) {
    context.stop_ = std::move(stop);
    context.add_tag_ = std::move(add_tag);
  }
  static const std::optional<coord::Ttl>& TtlOf(const ComputeContext& context) {
    return context.ttl_;
  }
  static bool Stores(const ComputeContext& context) { return context.store_; }
};

namespace internal {
namespace {

using Flights = SingleFlight;
using Handle = SingleFlight::Handle;
using Made = absl::StatusOr<std::optional<std::string>>;

// As Annotate, for statuses of the user's own: what else they carry stays.
absl::Status About(std::string_view key, const absl::Status& status) {
  absl::Status annotated(status.code(),
                         ToAbsl(StrCat("making ", Quoted(key), ": ", FromAbsl(status.message()))));
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    annotated.SetPayload(type, payload);
  });
  return annotated;
}

absl::Status CheckOptions(const CacheCore& core, const ComputeOptions& options) {
  const auto wrong = [](std::string_view what) { return InvalidArgument(what); };
  if (options.stale_for < absl::ZeroDuration() || options.stale_for == absl::InfiniteDuration()) {
    return wrong("stale_for must be zero or more, and end some time");
  }
  if (options.soft_timeout < absl::ZeroDuration() || options.hard_timeout < absl::ZeroDuration()) {
    return wrong("the timeouts of a factory must not be negative");
  }
  if (!(options.early_refresh >= 0)) return wrong("early_refresh must be zero or more");
  for (const coord::Ttl& ttl : {options.ttl, options.null_ttl.value_or(coord::Ttl())}) {
    if (ttl.is_default()) continue;
    if (const auto length = core.Length(ttl, {}, /*jitter=*/false); !length.ok()) {
      return length.status();
    }
  }
  if (!options.across_processes) return absl::OkStatus();
  return core.Server("across_processes").status();
}

bool Unbounded(const ComputeOptions& options) {
  return options.soft_timeout == absl::InfiniteDuration() &&
         options.hard_timeout == absl::InfiniteDuration();
}

Made CallFactory(const Compute::Factory& factory, ComputeContext& context) {
  try {
    return factory(context);
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("the factory threw: ") + error.what());
  } catch (...) {
    return absl::InternalError("the factory threw something that is no std::exception");
  }
}

}  // namespace

struct Compute::State {
  explicit State(CacheCore& owner) : core(&owner) {}
  // Null when the last handle of the cache has gone inside a factory, of which this is the thread.
  CacheCore* core;
  SingleFlight flights;
};

namespace {

// What a flight is to do.
template <typename State>
struct Job {
  std::shared_ptr<State> state;
  std::string prefix;
  std::string key;
  std::string full;
  ComputeOptions options;
  coord::Ttl type_ttl;
  const Compute::Factory* factory = nullptr;
  std::optional<Compute::Factory> owned;  // of one that may outlive its caller
  bool anew = false;                      // whatever is there
  bool uncached = false;                  // the cache could not be reached
  bool look = false;                      // it may be there by now
  std::string refused;                    // a payload that who asks cannot decode
  // Of an early refresh: how long the value lived on.
  std::optional<absl::Duration> seen_left;

  CacheCore& core() const { return *state->core; }
  bool background() const { return seen_left.has_value(); }

  void Own() {
    owned = *factory;
    factory = &*owned;
  }

  // What is in the cache by now, if that will do.
  std::optional<Landing> Look() const {
    absl::StatusOr<Read> read = core().ReadOne(
        prefix, full, {options.tags, options.call},
        background() || options.early_refresh > 0 || options.stale_for > absl::ZeroDuration());
    if (!read.ok() || read->state == Read::State::kMiss || read->stale) return std::nullopt;
    const bool null = read->state == Read::State::kNull;
    if (!null && !refused.empty() && read->payload == refused) return std::nullopt;
    if (background() && read->left.left() <= *seen_left) return std::nullopt;
    return Landing{null, /*made=*/false, std::move(read->payload)};
  }

  // Runs the factory and stores what it makes.
  absl::StatusOr<Landing> Make(const Handle& flight, const FlightLease* lease) const {
    using Access = ComputeContextAccess;
    bool store = !uncached;
    Generations tags;
    if (store) {
      absl::StatusOr<Generations> current =
          core().CurrentGenerations(prefix, options.tags, options.call);
      if (current.ok()) {
        tags = *std::move(current);
      } else if (core().FallsBack(current.status())) {
        store = false;
      } else {
        return About(key, current.status());
      }
    }
    ComputeContext context;
    Access::Prepare(context, flight->stop().get_token(), [&](std::string_view tag) {
      if (!store) return absl::OkStatus();
      const std::string name(tag);
      absl::StatusOr<Generations> current =
          core().CurrentGenerations(prefix, {&name, 1}, options.call);
      if (!current.ok()) {
        // Without its tag it could not be invalidated.
        store = false;
        return current.status();
      }
      for (auto& added : *current) {
        // What was read first is what vouches for all that came after it.
        const bool known = std::any_of(tags.begin(), tags.end(),
                                       [&](const auto& one) { return one.first == added.first; });
        if (!known) tags.push_back(std::move(added));
      }
      return absl::OkStatus();
    });
    Observed observed(core(), CacheOperation::kCompute, key);
    const absl::Time began = core().clock().Now();
    Made made = CallFactory(*factory, context);
    if (state->core == nullptr) return made.ok() ? Landed(*std::move(made)) : Err(made.status());
    const absl::Duration cost = core().clock().Now() - began;
    (void)observed.End(made.status());
    if (!made.ok()) return Err(made.status());
    store = store && Access::Stores(context) && !state->flights.overtaken(flight);
    if (store && lease != nullptr && !lease->valid()) {
      // Another has taken over, and may have stored what is newer.
      if (std::optional<Landing> found = Look()) return *std::move(found);
      store = false;
    }
    if (store) {
      if (absl::Status stored = Store(*made, Access::TtlOf(context), std::move(tags), cost);
          !stored.ok()) {
        core().Report(Annotate(stored, StrCat("storing ", Quoted(key))));
      }
      // Whoever wrote the key while this was on its way need not have come later: a miss is right.
      if (state->flights.overtaken(flight)) {
        if (auto removed = core().backend().Delete(full, options.call); !removed.ok()) {
          core().Report(Annotate(removed.status(), StrCat("taking back ", Quoted(key))));
        }
      }
    }
    return Landed(*std::move(made));
  }

  absl::StatusOr<Landing> Err(const absl::Status& status) const {
    absl::Status failed = About(key, status);
    failed.SetPayload(kFromFactory, absl::Cord());
    return failed;
  }

  Landing Landed(std::optional<std::string> bytes) const {
    Landing landing{/*null=*/false, /*made=*/true, {}};
    const auto is_null = state->core == nullptr ? nullptr : core().is_null();
    landing.null = !bytes.has_value() || (is_null != nullptr && is_null(*bytes));
    if (bytes.has_value()) landing.payload = *std::move(bytes);
    return landing;
  }

  absl::Status Store(const std::optional<std::string>& bytes, const std::optional<coord::Ttl>& said,
                     Generations tags, absl::Duration cost) const {
    coord::Ttl ttl = options.ttl;
    if (!bytes.has_value() && options.null_ttl.has_value()) ttl = *options.null_ttl;
    absl::StatusOr<absl::Duration> length =
        core().Length(said.value_or(ttl), type_ttl, /*jitter=*/true);
    if (!length.ok()) return length.status();
    EnvelopeFields fields;
    fields.tags = std::move(tags);
    fields.stale_for = options.stale_for;
    // Only where somebody may ask for it: plain entries stay plain bytes.
    if (options.early_refresh > 0 || options.stale_for > absl::ZeroDuration()) {
      fields.cost = std::max(absl::Milliseconds(1), absl::Ceil(cost, absl::Milliseconds(1)));
      if (*length != absl::InfiniteDuration()) fields.ttl = *length;
    }
    return core()
        .Store(full, bytes, std::move(fields), *length, SetIf::kAlways, options.call)
        .status();
  }

  // The same among all processes. nullopt: an early refresh that another process has begun, and
  // nobody waits for.
  std::optional<absl::StatusOr<Landing>> MakeAcross(const Handle& flight) const {
    absl::StatusOr<const Client*> client = core().Server("across_processes");
    if (!client.ok()) return client.status();
    const std::stop_token stop = flight->stop().get_token();
    FlightLease lease(**client, full, options.takeover_after);
    absl::StatusOr<bool> ours = lease.Try(options.call);
    absl::Status trouble = ours.status();
    if (ours.ok() && !*ours) {
      if (background() && state->flights.Withdraw(flight)) return std::nullopt;
      trouble = lease.AwaitOthers(stop);
      if (trouble.ok()) {
        if (std::optional<Landing> found = Look()) return *std::move(found);
        trouble = lease.Take(stop);
      }
    }
    if (!trouble.ok()) {
      const bool not_asked = trouble.code() == absl::StatusCode::kInvalidArgument;
      if (not_asked || stop.stop_requested()) return About(key, trouble);
      core().Report(Annotate(
          trouble, StrCat("no lock for ", Quoted(key), ", so this process computes on its own")));
      return Make(flight, nullptr);
    }
    std::optional<absl::StatusOr<Landing>> result;
    if (std::optional<Landing> found = Look()) {
      result = *std::move(found);
    } else {
      const std::stop_callback lost(lease.lost(), [&] { flight->stop().request_stop(); });
      result = Make(flight, &lease);
    }
    if (absl::Status released = lease.Release(options.call); !released.ok()) {
      if (state->core != nullptr && !IsLost(released)) {
        core().Report(Annotate(released, StrCat("releasing the lock for ", Quoted(key))));
      }
    }
    return result;
  }

  std::optional<absl::StatusOr<Landing>> Outcome(const Handle& flight) const {
    if (!anew && !uncached) {
      if (options.across_processes) return MakeAcross(flight);
      if (look) {
        if (std::optional<Landing> found = Look()) return *std::move(found);
      }
    }
    return Make(flight, nullptr);
  }

  // Of a flight that this thread has begun.
  void Fly(const Handle& flight) const {
    std::optional<absl::StatusOr<Landing>> outcome;
    try {
      outcome = Outcome(flight);
    } catch (const std::exception& error) {
      outcome = About(key, absl::InternalError(error.what()));
    }
    if (!outcome.has_value()) return;
    // Before it lands: afterwards there may be no cache any more.
    if (!outcome->ok() && state->core != nullptr && !state->flights.Awaited(flight)) {
      core().Report(outcome->status());
    }
    state->flights.Land(flight, *std::move(outcome));
  }
};

// A flight that an executor was given: if it is dropped, nobody shall wait for it.
template <typename State>
struct Passenger {
  Passenger(std::shared_ptr<State> owner, Handle what)
      : state(std::move(owner)), flight(std::move(what)) {}
  Passenger(const Passenger&) = delete;
  Passenger& operator=(const Passenger&) = delete;
  ~Passenger() {
    state->flights.Cancel(
        flight, MakeStatus(absl::StatusCode::kInternal, "the executor has dropped the factory"));
  }
  const std::shared_ptr<State> state;
  const Handle flight;
};

// Has it run by a worker.
template <typename State>
void Launch(Job<State> job, const Handle& flight) {
  job.Own();
  const std::shared_ptr<State> state = job.state;
  auto shared = std::make_shared<Job<State>>(std::move(job));
  shared->factory = &*shared->owned;
  state->flights.SetRun(flight, [shared = std::move(shared), flight] { shared->Fly(flight); });
  auto passenger = std::make_shared<Passenger<State>>(state, flight);
  // When closed it is dropped like any other.
  (void)state->core->workers().Post([passenger = std::move(passenger)] {
    if (auto run = passenger->state->flights.TakeRun(passenger->flight)) run();
  });
}

// Runs it here, or has it run, and waits as long as this caller waits. nullopt: he has left.
template <typename State>
std::optional<SingleFlight::Result> FlyAndAwait(Job<State> job, const Flights::Ticket& ticket,
                                                SteadyTime deadline, const std::stop_token& stop,
                                                bool content) {
  const std::shared_ptr<State> state = job.state;
  Flights& flights = state->flights;
  if (ticket.leads && Unbounded(job.options)) {
    if (flights.Begin(ticket.flight)) {
      const std::stop_callback given_up(stop, [&] { flights.GiveUp(ticket.flight); });
      job.Fly(ticket.flight);
    }
    return flights.Await(ticket.flight, SteadyTime::max(), {}, content);
  }
  if (ticket.leads) Launch(std::move(job), ticket.flight);
  if (!Passed(deadline) && state->core->workers().Inside()) {
    if (auto run = flights.TakeRun(ticket.flight)) run();
  }
  return flights.Await(ticket.flight, deadline, stop, content);
}

absl::Status Late(std::string_view key, absl::Duration timeout) {
  return MakeStatus(absl::StatusCode::kDeadlineExceeded,
                    StrCat("making ", Quoted(key), " takes longer than ", ToText(timeout)));
}
absl::Status Stopped(std::string_view key) {
  return MakeStatus(absl::StatusCode::kCancelled,
                    StrCat("stopped while waiting for ", Quoted(key)));
}

Read Arrived(Landing landing) {
  Read read;
  read.state = landing.null ? Read::State::kNull : Read::State::kHit;
  read.payload = std::move(landing.payload);
  return read;
}

absl::StatusOr<Read> Counted(Read read, CacheEvent& event, bool hit) {
  ++(hit ? event.hits : event.misses);
  if (read.state == Read::State::kNull) ++event.nulls;
  if (read.stale) ++event.stale;
  return read;
}

// How often one who has joined what others had given up on tries again.
constexpr int kMostAttempts = 5;

}  // namespace

Compute::Compute(CacheCore& core) : state_(std::make_shared<State>(core)) {}

Compute::~Compute() {
  Close();
  state_->core = nullptr;
}

absl::StatusOr<Read> Compute::GetOrCompute(
    std::string_view prefix, std::string_view key, const Factory& factory,
    const ComputeOptions& options, coord::Ttl type_ttl,
    absl::FunctionRef<absl::Status(std::string_view)> decodes, CacheEvent& event) {
  const std::shared_ptr<State> state = state_;
  CacheCore& core = *state->core;
  absl::StatusOr<std::string> full = CacheCore::KeyUnder(prefix, key);
  if (!full.ok()) return full.status();
  if (absl::Status valid = CheckOptions(core, options); !valid.ok()) return valid;
  const bool want_age = options.early_refresh > 0 || options.stale_for > absl::ZeroDuration();
  Job<State> job{state,
                 std::string(prefix),
                 std::string(key),
                 *full,
                 options,
                 type_ttl,
                 &factory,
                 {},
                 false,
                 false,
                 false,
                 {},
                 {}};
  // Only waiting ends with the caller's stop token: what is made is for all.
  job.options.call.stop = {};

  const SteadyTime hard = DeadlineAfter(options.hard_timeout);
  for (int attempt = 1;; ++attempt) {
    const std::uint64_t mark = state->flights.Mark(*full);
    std::optional<Read> stale;
    absl::StatusOr<Read> read = core.ReadOne(prefix, *full, {options.tags, options.call}, want_age);
    job.uncached = !read.ok();
    if (!read.ok()) {
      if (!core.FallsBack(read.status())) return read.status();
      event.fell_back = true;
      if (std::optional<std::string> given =
              core.AskFallback(CacheOperation::kGetOrCompute, key, read.status())) {
        Read instead = Arrived({core.is_null()(*given), false, *std::move(given)});
        if (instead.state == Read::State::kNull || decodes(instead.payload).ok()) {
          return Counted(std::move(instead), event, /*hit=*/true);
        }
      }
    } else if (read->state == Read::State::kHit && !decodes(read->payload).ok()) {
      if (attempt == 1) ++event.undecodable;
      job.refused = std::move(read->payload);
    } else if (read->state != Read::State::kMiss && read->stale) {
      stale = *std::move(read);
    } else if (read->state != Read::State::kMiss) {
      const absl::Duration left = read->left.left() - read->fields.stale_for;
      if (options.early_refresh > 0 && read->left.kind() == TimeLeft::Kind::kExpires &&
          RefreshesEarly(read->fields.cost, options.early_refresh, left, core.Random())) {
        if (const Handle flight = state->flights.Background(*full, mark)) {
          job.seen_left = read->left.left();
          Launch(std::move(job), flight);
        }
      }
      return Counted(*std::move(read), event, /*hit=*/true);
    } else if (!read->problem.ok() && attempt == 1) {
      ++event.undecodable;
    }

    absl::StatusOr<Flights::Ticket> ticket = state->flights.Join(*full, mark);
    if (!ticket.ok()) return ticket.status();
    job.look = ticket->landed_since;
    const SteadyTime until =
        stale.has_value() ? std::min(hard, DeadlineAfter(options.soft_timeout)) : hard;
    std::optional<Flights::Result> result =
        FlyAndAwait(job, *ticket, until, options.call.stop, stale.has_value());
    if (!result.has_value() && options.call.stop.stop_requested()) return Stopped(key);
    if (result.has_value() && result->ok()) {
      Landing& landing = **result;
      if (!landing.null) {
        if (absl::Status decoded = decodes(landing.payload); !decoded.ok()) {
          if (!landing.made && attempt < kMostAttempts) {
            job.refused = std::move(landing.payload);
            continue;
          }
          return MakeStatus(absl::StatusCode::kDataLoss,
                            StrCat("the value that was made for ", Quoted(key), ": ",
                                   FromAbsl(decoded.message())));
        }
      }
      return Counted(Arrived(std::move(landing)), event, /*hit=*/false);
    }
    if (result.has_value() && ticket->given_up && attempt < kMostAttempts) continue;
    if (stale.has_value()) return Counted(*std::move(stale), event, /*hit=*/true);
    ++event.misses;
    return result.has_value() ? result->status() : Late(key, options.hard_timeout);
  }
}

absl::StatusOr<Read> Compute::Refresh(std::string_view prefix, std::string_view key,
                                      const Factory& factory, const ComputeOptions& options,
                                      coord::Ttl type_ttl) {
  const std::shared_ptr<State> state = state_;
  absl::StatusOr<std::string> full = CacheCore::KeyUnder(prefix, key);
  if (!full.ok()) return full.status();
  if (absl::Status valid = CheckOptions(*state->core, options); !valid.ok()) return valid;
  Job<State> job{state,
                 std::string(prefix),
                 std::string(key),
                 *full,
                 options,
                 type_ttl,
                 &factory,
                 {},
                 true,
                 false,
                 false,
                 {},
                 {}};
  job.options.call.stop = {};
  absl::StatusOr<Flights::Ticket> ticket = state->flights.Supersede(*full);
  if (!ticket.ok()) return ticket.status();
  std::optional<Flights::Result> result =
      FlyAndAwait(std::move(job), *ticket, DeadlineAfter(options.hard_timeout), options.call.stop,
                  /*content=*/false);
  if (!result.has_value()) {
    return options.call.stop.stop_requested() ? Stopped(key) : Late(key, options.hard_timeout);
  }
  if (!result->ok()) return result->status();
  return Arrived(**std::move(result));
}

void Compute::Overtaken(std::string_view full) { state_->flights.Overtake(full); }

void Compute::Close() { state_->flights.Close(); }

}  // namespace internal
}  // namespace coord
