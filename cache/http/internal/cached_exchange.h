// One hop through the cache: what RFC 9111 section 4 decides, who asks the origin when many want
// the same, what is stored and what is forgotten.
#ifndef COORD_CACHE_HTTP_INTERNAL_CACHED_EXCHANGE_H_
#define COORD_CACHE_HTTP_INTERNAL_CACHED_EXCHANGE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/http/internal/hop.h"
#include "cache/http/internal/origin_exchange.h"
#include "cache/http/internal/response_parts.h"
#include "cache/http/internal/response_store.h"
#include "cache/http/internal/transport.h"
#include "cache/http/internal/uncacheable_notes.h"
#include "cache/http/response.h"
#include "cache/http/session_options.h"
#include "cache/internal/single_flight.h"
#include "cache/internal/workers.h"
#include "coord/internal/sync.h"

namespace coord::http::internal {

// In the process, askers of one key share a flight (coord::internal::SingleFlight); of the leaders
// in several processes one has the OriginTurn. A flight brings what may be shared, or the word that
// nothing may: then each asks for himself, and for a minute nobody waits for that key.
//
// Requests that want their own answer (refresh, no-cache, a sink, conditions of their own) neither
// wait nor are waited for.
//
// Thread-safe.
class CachedExchange {
 public:
  // All borrowed. `options` checked.
  CachedExchange(const SessionOptions& options, Transport& transport, const ResponseStore& store);
  // As Close.
  ~CachedExchange();
  CachedExchange(const CachedExchange&) = delete;
  CachedExchange& operator=(const CachedExchange&) = delete;

  // What is answered; its history and time are the caller's to fill in.
  using Parts = std::shared_ptr<ResponseParts>;
  absl::StatusOr<Parts> Run(const Hop& hop);

  // Waits for refreshes that are under way, and for those that begin within a time limit of the
  // transport's; later ones are dropped.
  void Drain();
  // Ends what waits; Transport::Close ends what asks.
  void Close();

 private:
  using Flights = coord::internal::SingleFlight;
  using Found = ResponseStore::Found;
  // What became of asking the origin.
  struct Asked {
    absl::StatusOr<Parts> response = absl::UnknownError("");
    // For those who follow.
    std::shared_ptr<const StoredResponse> shared;
    absl::Status failure;        // the origin could not be asked
    bool origin_failed = false;  // it answered that it cannot
  };

  // What the hop's primary key leads to; nothing where the backend is away.
  struct Looked {
    std::string primary;
    // How often something was made invalid, as far as this key is concerned, before it was looked
    // for: what was asked for before and comes after is not stored, and nobody who comes after
    // joins such a flight.
    std::uint64_t generation = 0;
    Found found;
    bool away = false;
    std::optional<Verdict> verdict;  // of what was found

    std::string flight() const;
  };
  Looked Look(const Hop& hop, const std::string& primary) const;

  absl::StatusOr<Parts> Past(const Hop& hop, std::string_view why);
  absl::StatusOr<Parts> Head(const Hop& hop);
  absl::StatusOr<Parts> Through(const Hop& hop, const std::string& primary);
  // What may be answered without asking the origin. Takes it out of `looked`.
  std::optional<absl::StatusOr<Parts>> FromCache(const Hop& hop, Looked& looked,
                                                 std::uint64_t mark);
  absl::StatusOr<Parts> Lead(const Hop& hop, Looked looked, const Flights::Ticket& ticket,
                             absl::Time began);
  std::optional<absl::StatusOr<Parts>> Follow(const Hop& hop, const Looked& looked,
                                              const Flights::Ticket& ticket);
  // Whether what somebody else's exchange has just brought may be used for this hop.
  bool Shareable(const Hop& hop, const StoredResponse& stored) const;
  void RefreshBehind(const Hop& hop, const Looked& looked, std::uint64_t mark);

  Asked Ask(const Hop& hop, const Looked& looked);
  // A 304 that confirms what was found.
  Asked Freshen(const Hop& hop, const Looked& looked, const OriginAnswer& answer);
  // A HEAD's answer, where a GET's was looked for; `primary` is its own key.
  Asked TakeHead(const Hop& hop, const Looked& looked, const std::string& primary,
                 OriginAnswer answer);
  // Anything else.
  Asked Take(const Hop& hop, const Looked& looked, OriginAnswer answer);
  Asked Failed(const Hop& hop, const Looked& looked, absl::Status error, bool sent, bool sink_used);
  // Unless there is a reason why not; which one, and empty: it is stored. Otherwise what is there
  // goes, where it `replaces` that.
  std::string_view Store(const Hop& hop, const Looked& looked,
                         const std::shared_ptr<StoredResponse>& made, std::string_view why_not,
                         bool replaces);
  std::atomic<std::uint64_t>& Generation(std::string_view primary) const;
  void Invalidate(const Hop& hop, int status, const Headers& response);

  absl::StatusOr<Parts> Answer(const Hop& hop, Parts parts, bool to_sink) const;
  Parts Served(const Hop& hop, const Looked& looked) const;
  // Says of parts that were made of what is stored how they are served.
  Parts Told(const Hop& hop, Parts parts, absl::Time now) const;
  void Report(const absl::Status& problem) const;
  ExchangeRules Rules(const Hop& hop, const Looked& looked) const;

  const SessionOptions& options_;
  Transport& transport_;
  const ResponseStore& store_;
  const std::shared_ptr<const std::vector<std::string>> secret_names_;
  Flights flights_;
  UncacheableNotes notes_;
  std::atomic<int> refreshing_{0};
  // By the hash of primary keys: so many that changes elsewhere seldom count for a key.
  mutable std::array<std::atomic<std::uint64_t>, 4096> generations_ = {};
  std::stop_source closing_;
  std::atomic<coord::internal::SteadyTime> begins_until_{coord::internal::SteadyTime::max()};
  coord::internal::Workers workers_;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_CACHED_EXCHANGE_H_
