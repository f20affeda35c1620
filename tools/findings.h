// What the doctor makes of what a server says about itself. Pure: values in, findings out, so that
// every judgement has a unit test that needs no server.
#ifndef COORD_TOOLS_FINDINGS_H_
#define COORD_TOOLS_FINDINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "tools/server_facts.h"

namespace coord::tools {

enum class Level {
  kOk,
  kUnknown,  // the server would not tell
  kWarn,     // works, and can go wrong
  kBad,      // does not work, or has gone wrong
};

std::string_view LevelName(Level level);  // "ok", "unknown", "warn", "bad"

struct Finding {
  Level level = Level::kOk;
  std::string subject;  // "eviction"
  std::string what;     // what was found, one short line
  std::string why;      // what that means for locks and the rest; empty where all is well
  std::string advice;   // what to do about it; empty where there is nothing
};

// What a server is there for, by the URL that led to it.
enum class Duty {
  kAlone,
  kSentinelMaster,
  kClusterMaster,
  kVoter,  // one of a quorum
};

// All that was asked. What the server would not tell is unset, or missing among the fields.
struct Examination {
  Duty duty = Duty::kAlone;
  std::string address;  // "unix:/run/redis.sock", "db1:6379"
  bool tls = false;
  bool insecure = false;  // with TLS: the certificate is not looked at
  std::optional<Fields> info;
  Fields config;
  std::optional<RoundTrips> round_trips;
  std::optional<ClockDifference> clock;
  std::optional<int> scripts_loaded;
  int scripts_expected = 0;
  absl::Status script_run;                // of one read-only script
  std::optional<std::int64_t> sentinels;  // how many listen at this server
  absl::Status vote;                      // of a voter: OK, or why it does not vote
};

// One finding or more for each subject, always in the same order; never empty.
std::vector<Finding> Judge(const Examination& examination);

// The gravest level among them.
Level Worst(const std::vector<Finding>& findings);

}  // namespace coord::tools

#endif  // COORD_TOOLS_FINDINGS_H_
