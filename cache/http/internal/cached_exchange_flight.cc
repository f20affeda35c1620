// Who asks the origin when many want the same; see cached_exchange.cc for what needs no asking.
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "cache/http/internal/cached_exchange.h"
#include "cache/http/internal/origin_turn.h"
#include "cache/http/internal/storing.h"
#include "cache/http/internal/url.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::Annotate;
using coord::internal::Landing;
using coord::internal::MakeStatus;
using coord::internal::StrCat;

// What a flight brings to those who follow: one of these, and behind the first the encoded
// response.
constexpr char kShared = 'S';
constexpr char kOriginFailed = 'F';  // it answered, and that it cannot
constexpr char kNothing = 'N';       // what it brought is for its leader alone

// How many refreshes may wait or be under way.
constexpr int kMostRefreshes = 256;

// A flight that ends in any case, so that nobody waits for nothing.
class Pilot {
 public:
  Pilot(coord::internal::SingleFlight& flights, coord::internal::SingleFlight::Handle flight)
      : flights_(flights), flight_(std::move(flight)) {}
  ~Pilot() { Land(Landing{.null = true, .made = true, .payload = {kNothing}}); }
  Pilot(const Pilot&) = delete;
  Pilot& operator=(const Pilot&) = delete;

  void Land(coord::internal::SingleFlight::Result result) {
    flights_.Land(flight_, std::move(result));
  }
  void Share(const StoredResponse& stored) {
    std::string payload(1, kShared);
    payload += EncodeStored(stored);
    Land(Landing{.null = false, .made = true, .payload = std::move(payload)});
  }

 private:
  coord::internal::SingleFlight& flights_;
  const coord::internal::SingleFlight::Handle flight_;
};

// A refresh that an executor was given: if that drops it, nobody shall wait for it.
class Passenger {
 public:
  // Counted by `aboard`.
  Passenger(coord::internal::SingleFlight& flights, coord::internal::SingleFlight::Handle flight,
            std::atomic<int>& aboard)
      : flights_(flights), flight_(std::move(flight)), aboard_(aboard) {
    ++aboard_;
  }
  ~Passenger() {
    flights_.Cancel(flight_, absl::CancelledError("the refresh was dropped"));
    --aboard_;
  }
  Passenger(const Passenger&) = delete;
  Passenger& operator=(const Passenger&) = delete;

 private:
  coord::internal::SingleFlight& flights_;
  const coord::internal::SingleFlight::Handle flight_;
  std::atomic<int>& aboard_;
};

}  // namespace

absl::StatusOr<CachedExchange::Parts> CachedExchange::Lead(const Hop& hop, Looked looked,
                                                           const Flights::Ticket& ticket,
                                                           absl::Time began) {
  const Flights::Handle& flight = ticket.flight;
  if (!flights_.Begin(flight)) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition, "the session is closed");
  }
  Pilot pilot(flights_, flight);

  // Somebody may have brought it since this call looked.
  const auto look_again = [&]() -> std::optional<absl::StatusOr<Parts>> {
    Looked again = Look(hop, looked.primary);
    if (again.away || again.flight() != looked.flight()) return std::nullopt;
    looked = std::move(again);
    if (looked.found.response == nullptr) return std::nullopt;
    const StoredResponse& stored = *looked.found.response;
    const bool fresh = looked.verdict->use == Use::kServe;
    if (!fresh && (stored.received < began || !Shareable(hop, stored))) return std::nullopt;
    pilot.Share(stored);
    return Answer(hop, Served(hop, looked), /*to_sink=*/true);
  };
  if (ticket.landed_since) {
    if (auto brought = look_again()) return *std::move(brought);
  }

  std::stop_source either;
  const std::stop_callback by_caller(hop.stop, [&] { either.request_stop(); });
  const std::stop_callback by_close(closing_.get_token(), [&] { either.request_stop(); });
  OriginTurn turn(store_.backend(), looked.found.key, hop.timeout, options_.backend_timeout);
  absl::StatusOr<bool> ours = turn.Try();
  if (!ours.ok()) {
    Report(Annotate(ours.status(), StrCat("no lock for ", UrlForMessages(hop.url),
                                          ", so this process asks on its own")));
  } else {
    const absl::Status waited =
        *ours ? absl::OkStatus()
              : turn.AwaitOthers(coord::internal::TimeUntil(hop.deadline) / 2, either.get_token());
    // Also where it was ours at once: another process may have had it, and come to an end, since
    // this one looked.
    if (waited.ok() && turn.shared()) {
      if (auto brought = look_again()) return *std::move(brought);
    }
  }

  Asked asked = Ask(hop, looked);
  if (asked.shared != nullptr) {
    notes_.Forget(looked.found.key);
    pilot.Share(*asked.shared);
  } else if (!asked.failure.ok()) {
    // Of one who waits less long than others do, the end is his own.
    const bool hasty = asked.failure.code() == absl::StatusCode::kDeadlineExceeded &&
                       hop.timeout < options_.transport.timeout;
    pilot.Land(hasty ? absl::CancelledError("its time was up") : asked.failure);
  } else if (asked.origin_failed) {
    pilot.Land(Landing{.null = true, .made = true, .payload = {kOriginFailed}});
  } else if (hop.method != "HEAD" || looked.found.response == nullptr ||
             looked.found.response->method == "HEAD") {
    // A HEAD's answer says nothing about what a GET's may be used for.
    notes_.Note(looked.found.key);
  }
  return std::move(asked.response);
}

bool CachedExchange::Shareable(const Hop& hop, const StoredResponse& stored) const {
  const std::optional<std::vector<std::string>> vary = VaryNames(stored.headers);
  if (!vary.has_value()) return false;
  if (store_.keys().SelectingFields(*vary, hop.headers) != stored.selecting) return false;
  Demand demand = hop.demand;
  demand.always_revalidate = false;  // that is what has just been done
  const Verdict verdict = Judge(stored, demand, store_.Now());
  if (verdict.use != Use::kRevalidate) return true;
  // It was never fresh, and yet is what the origin says at this moment (section 4: requests may be
  // collapsed), unless somebody wants a word of his own.
  const CacheControl said = ParseCacheControl(stored.headers, /*request=*/false);
  const CacheControl& asked = hop.demand.control;
  return (stored.by_caller || !said.no_cache) && !asked.no_cache && !asked.max_age.has_value() &&
         !asked.min_fresh.has_value();
}

std::optional<absl::StatusOr<CachedExchange::Parts>> CachedExchange::Follow(
    const Hop& hop, const Looked& looked, const Flights::Ticket& ticket) {
  const std::optional<Flights::Result> result =
      flights_.Await(ticket.flight, hop.deadline, hop.stop, /*content=*/false);
  if (!result.has_value()) {
    const bool stopped = hop.stop.stop_requested();
    const absl::Status gave_up =
        MakeStatus(stopped ? absl::StatusCode::kCancelled : absl::StatusCode::kDeadlineExceeded,
                   StrCat(hop.method, " ", UrlForMessages(hop.url), ": ",
                          stopped ? "stopped" : "no answer in time",
                          " while waiting for another call that asks the origin"));
    if (stopped) return gave_up;
    return Failed(hop, looked, gave_up, /*sent=*/false, /*sink_used=*/false).response;
  }
  if (!result->ok()) {
    // Its leader's own limits are not this caller's.
    const absl::StatusCode code = result->status().code();
    if (code != absl::StatusCode::kUnavailable && code != absl::StatusCode::kFailedPrecondition &&
        code != absl::StatusCode::kDeadlineExceeded) {
      return std::nullopt;
    }
    if (closing_.stop_requested()) return result->status();
    return Failed(hop, looked, result->status(), /*sent=*/false, /*sink_used=*/false).response;
  }
  const Landing& landing = **result;
  if (landing.payload.starts_with(kShared)) {
    absl::StatusOr<StoredResponse> stored =
        DecodeStored(std::string_view(landing.payload).substr(1));
    if (stored.ok() && Shareable(hop, *stored)) {
      Looked brought = looked;
      brought.found.response = std::make_shared<StoredResponse>(*std::move(stored));
      const Parts parts = Served(hop, brought);
      parts->stale = false;
      parts->cache_status =
          StrCat("coord; fwd=", looked.found.response == nullptr ? "miss" : "stale", "; collapsed");
      return Answer(hop, parts, /*to_sink=*/true);
    }
    return std::nullopt;  // another variant, perhaps
  }
  if (landing.payload.starts_with(kOriginFailed) && looked.verdict.has_value() &&
      looked.verdict->on_error) {
    return Failed(hop, looked, MakeStatus(absl::StatusCode::kUnavailable, "the origin failed"),
                  /*sent=*/false, /*sink_used=*/false)
        .response;
  }
  return Ask(hop, looked).response;
}

void CachedExchange::RefreshBehind(const Hop& hop, const Looked& looked, std::uint64_t mark) {
  // Each holds a response; whoever asks for this one next may have better luck.
  if (refreshing_.load() >= kMostRefreshes) return;
  Flights::Handle flight = flights_.Background(looked.flight(), mark);
  if (flight == nullptr) return;  // somebody is at it
  auto passenger = std::make_shared<Passenger>(flights_, flight, refreshing_);
  Hop own = hop;
  own.method = looked.found.response->method;  // a HEAD may have been answered by a GET's
  own.sink = nullptr;
  own.stop = {};
  // It is about what is cached, not about what the caller has.
  own.headers.Remove("If-None-Match");
  own.headers.Remove("If-Modified-Since");
  workers_.Post([this, own = std::move(own), looked, flight, passenger]() mutable {
    if (std::chrono::steady_clock::now() >= begins_until_.load()) return;
    if (!flights_.Begin(flight)) return;
    Pilot pilot(flights_, flight);
    own.deadline = coord::internal::DeadlineAfter(own.timeout);
    OriginTurn turn(store_.backend(), looked.found.key, own.timeout, options_.backend_timeout);
    const absl::StatusOr<bool> ours = turn.Try();
    if (ours.ok() && !*ours) return;  // another process is at it
    // It may have been refreshed just before the turn became ours.
    const Looked again = Look(own, looked.primary);
    if (again.found.response != nullptr &&
        again.found.response->received > looked.found.response->received) {
      pilot.Share(*again.found.response);
      return;
    }
    const Asked asked = Ask(own, looked);
    if (asked.shared != nullptr) {
      pilot.Share(*asked.shared);
    } else if (!asked.failure.ok()) {
      Report(Annotate(asked.failure, "refreshing a stale response"));
      pilot.Land(asked.failure);
    }
  });
}

}  // namespace coord::http::internal
