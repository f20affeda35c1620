// How long something is cached.
//
//   cache.Set("user:1", user, absl::Minutes(5));
//   cache.Set("user:1", user, coord::Ttl::Never());
//   absl::StatusOr<absl::Duration> ttl = coord::ParseTtl("2h30m");
#ifndef COORD_CACHE_TTL_H_
#define COORD_CACHE_TTL_H_

#include <string>
#include <string_view>
#include <typeindex>
#include <typeinfo>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord {

// A plain value. Makes no claim about its length: what breaks the rules (zero, negative, above ten
// years, a moment that has passed) is refused where it is used, as kInvalidArgument, before
// anything is sent.
class Ttl {
 public:
  enum class Kind {
    kDefault,  // what the cache says for the type of the value, else for all
    kNever,    // until it is removed or evicted
    kAfter,
    kAt,
  };

  Ttl() = default;  // Default
  // NOLINTNEXTLINE: a duration is the common case.
  Ttl(absl::Duration length) : kind_(Kind::kAfter), length_(length) {}
  static Ttl Default() { return Ttl(); }
  static Ttl Never() { return Ttl(Kind::kNever); }
  static Ttl After(absl::Duration length) { return Ttl(length); }
  // By the calendar of this host.
  static Ttl At(absl::Time moment) {
    Ttl ttl(Kind::kAt);
    ttl.moment_ = moment;
    return ttl;
  }

  Kind kind() const { return kind_; }
  bool is_default() const { return kind_ == Kind::kDefault; }
  absl::Duration length() const { return length_; }  // of kAfter
  absl::Time moment() const { return moment_; }      // of kAt

  // From `now` on: whole milliseconds, rounded up; InfiniteDuration for kNever. kInvalidArgument
  // when it breaks the rules, and for kDefault, which only a cache can resolve.
  absl::StatusOr<absl::Duration> Resolve(absl::Time now) const;

  // For people: "2h30m", "never", "default".
  std::string ToString() const;

  friend bool operator==(const Ttl&, const Ttl&) = default;

 private:
  explicit Ttl(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kDefault;
  absl::Duration length_ = absl::ZeroDuration();
  absl::Time moment_ = absl::InfinitePast();
};

// "2h30m", "1d", "1500ms": one or more of a whole number and a unit (d, h, m, s, ms), the larger
// unit first and each at most once, added up. kInvalidArgument, with what was expected, for
// everything else: empty, negative, zero in all, no unit, blanks, garbage behind it, more than ten
// years.
absl::StatusOr<absl::Duration> ParseTtl(std::string_view text);

// As ParseTtl reads it, in the largest units: "1d2h", "90s" as "1m30s". Rounded up to milliseconds.
// What ParseTtl refuses is written all the same, for messages: "0s", "-5s", "never" for
// InfiniteDuration.
std::string FormatTtl(absl::Duration length);

// `length` changed by a random part of up to `share` of it to either side, so that what was cached
// together does not expire together. `share` and `random` are from 0 to 1. Whole milliseconds, at
// least one, at most ten years; InfiniteDuration stays.
absl::Duration Jittered(absl::Duration length, double share, double random);

// Which Ttl values of a type get where the call names none.
class TtlPolicy {
 public:
  template <typename T>
  TtlPolicy& For(Ttl ttl) {
    by_type_.insert_or_assign(std::type_index(typeid(T)), ttl);
    return *this;
  }
  // Ttl::Default() where there is none.
  template <typename T>
  Ttl Of() const {
    const auto found = by_type_.find(std::type_index(typeid(T)));
    return found == by_type_.end() ? Ttl() : found->second;
  }
  auto begin() const { return by_type_.begin(); }
  auto end() const { return by_type_.end(); }

 private:
  absl::flat_hash_map<std::type_index, Ttl> by_type_;
};

}  // namespace coord

#endif  // COORD_CACHE_TTL_H_
