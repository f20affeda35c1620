#include "cache/ttl.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::StrCat;

constexpr absl::Duration kMillisecond = absl::Milliseconds(1);

struct Unit {
  std::string_view name;
  std::int64_t milliseconds;
};

// The larger first: the order in which they are written.
constexpr std::array<Unit, 5> kUnits = {
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}}};

// Longer than anything that means at most ten years, leading zeros aside.
constexpr std::size_t kMaxText = 64;

std::int64_t MaxMilliseconds() { return absl::ToInt64Milliseconds(internal::kMaxDataTtl); }

absl::Status NoTtl(std::string_view text, std::string_view why) {
  return InvalidArgument(StrCat(
      internal::Quoted(text), " is no time to live: ", why,
      "; expected whole numbers with the units d, h, m, s, ms, the larger first and each once, as "
      "\"2h30m\", and at most ten years"));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The digits at the front of `text`, taken off; nothing when their number is above `most`.
std::optional<std::int64_t> TakeNumber(std::string_view& text, std::int64_t most) {
  std::int64_t number = 0;
  while (!text.empty() && IsDigit(text.front())) {
    number = number * 10 + (text.front() - '0');
    if (number > most) return std::nullopt;
    text.remove_prefix(1);
  }
  return number;
}

std::string_view TakeLetters(std::string_view& text) {
  std::size_t size = 0;
  while (size < text.size() && IsLetter(text[size])) ++size;
  const std::string_view letters = text.substr(0, size);
  text.remove_prefix(size);
  return letters;
}

// For lengths that ParseTtl would refuse as well, so that messages can show them.
std::string FormatFinite(absl::Duration length) {
  std::string out;
  for (const Unit& unit : kUnits) {
    const std::int64_t count =
        absl::IDivDuration(length, absl::Milliseconds(unit.milliseconds), &length);
    if (count != 0) out += StrCat(count, unit.name);
  }
  return out.empty() ? "0s" : out;
}

}  // namespace

absl::StatusOr<absl::Duration> Ttl::Resolve(absl::Time now) const {
  absl::Duration length;
  switch (kind_) {
    case Kind::kDefault:
      return InvalidArgument("ttl is the default, which only a cache can resolve");
    case Kind::kNever:
      return absl::InfiniteDuration();
    case Kind::kAfter:
      length = length_;
      break;
    case Kind::kAt:
      length = moment_ - now;
      if (length <= absl::ZeroDuration()) {
        return InvalidArgument(StrCat("ttl is ", ToString(), ", which has passed"));
      }
      break;
  }
  if (length <= absl::ZeroDuration() || length > internal::kMaxDataTtl) {
    return InvalidArgument(
        StrCat("ttl is ", ToString(), "; it must be above zero and at most ten years, or never"));
  }
  return absl::Ceil(length, kMillisecond);
}

std::string Ttl::ToString() const {
  switch (kind_) {
    case Kind::kDefault:
      return "default";
    case Kind::kNever:
      return "never";
    case Kind::kAfter:
      return FormatTtl(length_);
    case Kind::kAt:
      break;
  }
  return StrCat("at ", absl::FormatTime(absl::RFC3339_full, moment_, absl::UTCTimeZone()));
}

absl::StatusOr<absl::Duration> ParseTtl(std::string_view text) {
  if (text.empty()) return NoTtl(text, "it is empty");
  if (text.size() > kMaxText) return NoTtl(text, "it is too long");
  std::int64_t total = 0;
  std::size_t allowed = 0;  // from this unit on
  for (std::string_view rest = text; !rest.empty();) {
    if (!IsDigit(rest.front())) return NoTtl(text, "a digit is missing");
    const std::optional<std::int64_t> number = TakeNumber(rest, MaxMilliseconds());
    if (!number) return NoTtl(text, "it is more than ten years");
    const std::string_view name = TakeLetters(rest);
    if (name.empty()) return NoTtl(text, "a number has no unit");
    const auto* const unit = std::find_if(kUnits.begin(), kUnits.end(),
                                          [&](const Unit& known) { return known.name == name; });
    if (unit == kUnits.end()) {
      return NoTtl(text, StrCat("there is no unit ", internal::Quoted(name)));
    }
    const auto index = static_cast<std::size_t>(unit - kUnits.begin());
    if (index < allowed) {
      return NoTtl(text, StrCat(name, " stands behind ", kUnits[allowed - 1].name));
    }
    allowed = index + 1;
    // No overflow: both factors are bounded, and the sum by what was there before.
    if (*number > (MaxMilliseconds() - total) / unit->milliseconds) {
      return NoTtl(text, "it is more than ten years");
    }
    total += *number * unit->milliseconds;
  }
  if (total == 0) return NoTtl(text, "it is zero");
  return absl::Milliseconds(total);
}

std::string FormatTtl(absl::Duration length) {
  if (length == absl::InfiniteDuration()) return "never";
  if (length == -absl::InfiniteDuration()) return "-inf";
  if (length < absl::ZeroDuration()) return StrCat("-", FormatFinite(-length));
  return FormatFinite(absl::Ceil(length, kMillisecond));
}

absl::Duration Jittered(absl::Duration length, double share, double random) {
  if (length == absl::InfiniteDuration()) return length;
  // What is no number changes nothing.
  const double reach = share > 0 ? std::min(share, 1.0) : 0.0;
  const double side = std::isnan(random) ? 0.0 : 2 * std::clamp(random, 0.0, 1.0) - 1;
  const absl::Duration whole =
      std::clamp(absl::Ceil(length, kMillisecond), kMillisecond, internal::kMaxDataTtl);
  const auto change =
      std::llround(absl::ToDoubleMilliseconds(whole) * reach * side);  // up to some 3e11
  return std::clamp(whole + absl::Milliseconds(change), kMillisecond, internal::kMaxDataTtl);
}

}  // namespace coord
