// What a cache has for a key.
#ifndef COORD_CACHE_LOOKUP_H_
#define COORD_CACHE_LOOKUP_H_

#include <optional>
#include <utility>

#include "absl/time/time.h"

namespace coord {

// How long something lives on: three answers, no magic numbers.
class TimeLeft {
 public:
  enum class Kind {
    kMissing,  // there is no such key
    kForever,  // it does not expire
    kExpires,
  };
  static TimeLeft Missing() { return TimeLeft(Kind::kMissing, absl::ZeroDuration()); }
  static TimeLeft Forever() { return TimeLeft(Kind::kForever, absl::InfiniteDuration()); }
  // InfiniteDuration: Forever().
  static TimeLeft Of(absl::Duration left) {
    return TimeLeft(left == absl::InfiniteDuration() ? Kind::kForever : Kind::kExpires, left);
  }

  Kind kind() const { return kind_; }
  // Zero for kMissing, InfiniteDuration for kForever.
  absl::Duration left() const { return left_; }
  friend bool operator==(const TimeLeft&, const TimeLeft&) = default;

 private:
  TimeLeft(Kind kind, absl::Duration left) : kind_(kind), left_(left) {}
  Kind kind_;
  absl::Duration left_;
};

// What a lookup found. A cached null is an answer ("we have looked, there is none"), not a miss.
template <typename T>
class Lookup {
 public:
  enum class State { kMiss, kNull, kHit };

  Lookup() = default;  // a miss
  static Lookup Miss() { return Lookup(); }
  static Lookup Null() {
    Lookup lookup;
    lookup.state_ = State::kNull;
    return lookup;
  }
  // NOLINTNEXTLINE: a value is a hit.
  Lookup(T value) : state_(State::kHit), value_(std::move(value)) {}

  State state() const { return state_; }
  bool hit() const { return state_ == State::kHit; }
  bool null() const { return state_ == State::kNull; }
  bool miss() const { return state_ == State::kMiss; }
  explicit operator bool() const { return hit(); }

  // REQUIRES: hit().
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  const T* operator->() const { return &*value_; }
  T value_or(T otherwise) const { return value_ ? *value_ : std::move(otherwise); }

  // It had expired, and was served because it may be for a while (see ComputeOptions::stale_for).
  bool stale() const { return stale_; }
  void set_stale(bool stale) { stale_ = stale; }

 private:
  State state_ = State::kMiss;
  std::optional<T> value_;
  bool stale_ = false;
};

}  // namespace coord

#endif  // COORD_CACHE_LOOKUP_H_
