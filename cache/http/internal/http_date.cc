#include "cache/http/internal/http_date.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "absl/time/civil_time.h"
#include "cache/http/headers.h"

namespace coord::http::internal {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                                   "Friday", "Saturday", "Sunday"};
constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::size_t kShort = 3;

// Takes pieces off the front; once one is not there, nothing is any more.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  // Case makes no difference: RFC 9111 section 4.2.
  bool Text(std::string_view expected) {
    if (!SameFieldName(rest_.substr(0, expected.size()), expected)) return Fail();
    rest_.remove_prefix(expected.size());
    return true;
  }
  int Digits(std::size_t count) {
    if (rest_.size() < count) return Fail();
    int number = 0;
    for (const char c : rest_.substr(0, count)) {
      if (c < '0' || c > '9') return Fail();
      number = number * 10 + (c - '0');
    }
    rest_.remove_prefix(count);
    return number;
  }
  // A month, from 1.
  int Month() {
    const auto found = std::find_if(kMonths.begin(), kMonths.end(), [&](std::string_view name) {
      return SameFieldName(rest_.substr(0, kShort), name);
    });
    if (found == kMonths.end()) return Fail();
    rest_.remove_prefix(kShort);
    return static_cast<int>(found - kMonths.begin()) + 1;
  }
  // Whose day it is makes no difference.
  bool Day(bool in_full) {
    for (const std::string_view name : kDays) {
      const std::string_view expected = in_full ? name : name.substr(0, kShort);
      if (SameFieldName(rest_.substr(0, expected.size()), expected)) return Text(expected);
    }
    return Fail();
  }
  // "08:49:37"
  void Clock(int& hour, int& minute, int& second) {
    hour = Digits(2);
    Text(":");
    minute = Digits(2);
    Text(":");
    second = Digits(2);
  }
  bool StartsWithBlank() const { return !rest_.empty() && rest_.front() == ' '; }
  // Everything was there, and nothing else.
  bool Done() const { return !failed_ && rest_.empty(); }

 private:
  bool Fail() {
    failed_ = true;
    rest_ = {};
    return false;
  }

  std::string_view rest_;
  bool failed_ = false;
};

struct Fields {
  std::int64_t year = 0;
  int month = 0, day = 0, hour = 0, minute = 0, second = 0;
};

std::optional<absl::Time> ToTime(const Fields& fields) {
  // 23:59:60 is the only way in which a leap second can be written, but clocks that smear or repeat
  // it elsewhere are not worth an error.
  const bool leap = fields.second == 60;
  const int second = leap ? 59 : fields.second;
  const absl::CivilSecond civil(fields.year, fields.month, fields.day, fields.hour, fields.minute,
                                second);
  // Out of range they would have been carried over.
  if (civil.year() != fields.year || civil.month() != fields.month || civil.day() != fields.day ||
      civil.hour() != fields.hour || civil.minute() != fields.minute || civil.second() != second) {
    return std::nullopt;
  }
  return absl::FromCivil(leap ? civil + 1 : civil, absl::UTCTimeZone());
}

// "Sun, 06 Nov 1994 08:49:37 GMT"
std::optional<absl::Time> ParseFixdate(std::string_view text) {
  Reader reader(text);
  Fields fields;
  reader.Day(false);
  reader.Text(", ");
  fields.day = reader.Digits(2);
  reader.Text(" ");
  fields.month = reader.Month();
  reader.Text(" ");
  fields.year = reader.Digits(4);
  reader.Text(" ");
  reader.Clock(fields.hour, fields.minute, fields.second);
  reader.Text(" GMT");
  return reader.Done() ? ToTime(fields) : std::nullopt;
}

// The latest year that ends in these two digits and makes a moment that is at most 50 years away.
std::int64_t FullYear(const Fields& fields, absl::Time now) {
  const absl::CivilSecond today = absl::ToCivilSecond(now, absl::UTCTimeZone());
  const std::int64_t last = today.year() + 50;
  std::int64_t year = last - (last - fields.year) % 100;
  const absl::CivilSecond moment(year, fields.month, fields.day, fields.hour, fields.minute,
                                 fields.second);
  const absl::CivilSecond limit(last, today.month(), today.day(), today.hour(), today.minute(),
                                today.second());
  if (moment > limit) year -= 100;
  return year;
}

// "Sunday, 06-Nov-94 08:49:37 GMT"
std::optional<absl::Time> ParseRfc850(std::string_view text, absl::Time now) {
  Reader reader(text);
  Fields fields;
  reader.Day(true);
  reader.Text(", ");
  fields.day = reader.Digits(2);
  reader.Text("-");
  fields.month = reader.Month();
  reader.Text("-");
  fields.year = reader.Digits(2);
  reader.Text(" ");
  reader.Clock(fields.hour, fields.minute, fields.second);
  reader.Text(" GMT");
  if (!reader.Done()) return std::nullopt;
  fields.year = FullYear(fields, now);
  return ToTime(fields);
}

// "Sun Nov  6 08:49:37 1994"
std::optional<absl::Time> ParseAsctime(std::string_view text) {
  Reader reader(text);
  Fields fields;
  reader.Day(false);
  reader.Text(" ");
  fields.month = reader.Month();
  reader.Text(" ");
  if (reader.StartsWithBlank()) {
    reader.Text(" ");
    fields.day = reader.Digits(1);
  } else {
    fields.day = reader.Digits(2);
  }
  reader.Text(" ");
  reader.Clock(fields.hour, fields.minute, fields.second);
  reader.Text(" ");
  fields.year = reader.Digits(4);
  return reader.Done() ? ToTime(fields) : std::nullopt;
}

// What four digits can say.
absl::Time Within(absl::Time moment) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  return std::clamp(moment, absl::FromCivil(absl::CivilSecond(0, 1, 1), utc),
                    absl::FromCivil(absl::CivilSecond(9999, 12, 31, 23, 59, 59), utc));
}

}  // namespace

std::optional<absl::Time> ParseHttpDate(std::string_view text, absl::Time now) {
  if (const auto fixdate = ParseFixdate(text)) return fixdate;
  if (const auto rfc850 = ParseRfc850(text, Within(now))) return rfc850;
  return ParseAsctime(text);
}

std::string FormatHttpDate(absl::Time moment) {
  const absl::CivilSecond civil = absl::ToCivilSecond(Within(moment), absl::UTCTimeZone());
  const auto day = static_cast<std::size_t>(absl::GetWeekday(civil));
  char text[64];
  const int size = std::snprintf(
      text, sizeof(text), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", kDays[day].data(), civil.day(),
      kMonths[static_cast<std::size_t>(civil.month() - 1)].data(), static_cast<int>(civil.year()),
      civil.hour(), civil.minute(), civil.second());
  return std::string(text, static_cast<std::size_t>(size));
}

}  // namespace coord::http::internal
