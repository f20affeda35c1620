// What the doctor measures and reads, before it is judged: fields of INFO, round trips, clocks, a
// URL that may be shown. Pure.
#ifndef COORD_TOOLS_SERVER_FACTS_H_
#define COORD_TOOLS_SERVER_FACTS_H_

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "coord/reply.h"

namespace coord::tools {

// Settings and figures by their names.
using Fields = std::map<std::string, std::string, std::less<>>;

// The "name:value" lines of INFO.
inline Fields ParseInfo(std::string_view info) {
  Fields fields;
  while (!info.empty()) {
    const std::size_t end = std::min(info.find('\n'), info.size());
    std::string_view line = info.substr(0, end);
    info.remove_prefix(std::min(end + 1, info.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || line.starts_with('#')) continue;
    fields[std::string(line.substr(0, colon))] = line.substr(colon + 1);
  }
  return fields;
}

// A reply of names and values in turn, or a map.
inline Fields ReadFields(const Reply& reply) {
  Fields fields;
  const auto items = reply.items();
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const Reply& value = items[i + 1];
    fields[items[i].text()] = value.is_integer() ? std::to_string(value.integer()) : value.text();
  }
  return fields;
}

// Empty where it is not known.
inline std::string Text(const Fields& fields, std::string_view name) {
  const auto found = fields.find(name);
  return found == fields.end() ? "" : found->second;
}

inline std::optional<std::int64_t> Number(const Fields& fields, std::string_view name) {
  const std::string text = Text(fields, name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct RoundTrips {
  int samples = 0;
  absl::Duration p50;
  absl::Duration p99;
  absl::Duration max;
};

// Nothing of nothing.
inline std::optional<RoundTrips> Summarize(std::vector<absl::Duration> samples) {
  if (samples.empty()) return std::nullopt;
  std::sort(samples.begin(), samples.end());
  // The smallest sample that at least this share is not above.
  const auto at = [&](double share) {
    const double rank = std::ceil(share * static_cast<double>(samples.size()));
    return samples[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  };
  return RoundTrips{static_cast<int>(samples.size()), at(0.5), at(0.99), samples.back()};
}

struct ClockSample {
  absl::Time sent;      // this host's clock
  absl::Time received;  // this host's clock
  absl::Time server;    // the server's TIME in between
};

struct ClockDifference {
  absl::Duration ahead;  // of the server, before this host; negative: behind
  absl::Duration error;  // the truth is within +- this
};

// By the sample with the shortest round trip, taking the two ways as equally long.
inline std::optional<ClockDifference> Compare(const std::vector<ClockSample>& samples) {
  std::optional<ClockDifference> best;
  for (const ClockSample& sample : samples) {
    const absl::Duration half = (sample.received - sample.sent) / 2;
    if (half < absl::ZeroDuration()) continue;  // this host's clock was set meanwhile
    if (best && best->error <= half) continue;
    best = ClockDifference{sample.server - (sample.sent + half), half};
  }
  return best;
}

// `url` for people: what may be a password shown as ***, whether or not the rest of it makes sense.
inline std::string HidePasswords(std::string_view url) {
  std::string shown(url);
  // A password that holds a '/' or an '@' is not percent-encoded as it should be; hide it all the
  // same.
  const std::size_t start = shown.find("://");
  const std::size_t at = shown.rfind('@');
  if (at != std::string::npos) {
    const std::size_t from = start == std::string::npos || start > at ? 0 : start + 3;
    shown.replace(from, at - from, "***");
  }
  constexpr std::string_view kOption = "password=";
  for (std::size_t found = shown.find(kOption); found != std::string::npos;) {
    const std::size_t value = found + kOption.size();
    const std::size_t end = std::min(shown.find('&', value), shown.size());
    shown.replace(value, end - value, "***");
    found = shown.find(kOption, value);
  }
  return shown;
}

}  // namespace coord::tools

#endif  // COORD_TOOLS_SERVER_FACTS_H_
