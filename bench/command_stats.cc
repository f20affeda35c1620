#include "bench/command_stats.h"

#include <sstream>
#include <string_view>

#include "bench/machine.h"
#include "coord/internal/strings.h"

namespace coord::bench {

std::map<std::string, std::int64_t> CommandCounts(HiredisCaller& caller) {
  const HiredisReply reply = caller.Command({"INFO", "commandstats"});
  if (reply == nullptr) Fatal("INFO commandstats failed");
  std::istringstream lines(std::string(reply->str, static_cast<std::size_t>(reply->len)));
  std::map<std::string, std::int64_t> counts;
  for (std::string line; std::getline(lines, line);) {
    constexpr std::string_view kCalls = ":calls=";
    const auto at = line.find(kCalls);
    if (at == std::string::npos || line.find("_info:") < at) continue;
    const auto from = at + kCalls.size();
    counts[line.substr(0, at)] =
        internal::ParseInt64(line.substr(from, line.find(',', from) - from)).value_or(-1);
  }
  return counts;
}

}  // namespace coord::bench
