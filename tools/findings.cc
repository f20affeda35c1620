#include "tools/findings.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/duration_text.h"

namespace coord::tools {
namespace {

using Findings = std::vector<Finding>;

constexpr absl::Duration kSlow = absl::Milliseconds(50);
constexpr absl::Duration kClocksApart = absl::Milliseconds(100);
constexpr absl::Duration kVotersApart = absl::Seconds(15);
constexpr std::int64_t kManyScripts = 1000;

constexpr char kForgets[] =
    "a restart forgets locks: a second holder can come in while the first still works. Tokens "
    "still rise (by the server's clock), so what checks them stays safe. Counters, limits, lists "
    "and documents are forgotten too";
constexpr char kRefused[] =
    "every write is refused: no lock is granted, renewed or released, and leases run out";

Finding Ok(std::string subject, std::string what) {
  return {Level::kOk, std::move(subject), std::move(what), "", ""};
}

Finding NotAllowed(std::string subject, std::string_view command) {
  return {Level::kUnknown, std::move(subject), absl::StrFormat("not allowed to ask (%s)", command),
          "", absl::StrFormat("give the user the right to %s to have this looked at", command)};
}

// The URL of what this server belongs to.
std::string Address(const Examination& seen, std::string_view kind) {
  const bool over_tcp = !seen.address.starts_with("unix:");
  return absl::StrCat(seen.tls ? "rediss" : "redis", absl::string_view(kind.data(), kind.size()),
                      "://", over_tcp ? seen.address : "HOST:PORT");
}

// "standalone", "cluster" or "sentinel". Valkey calls the field otherwise.
std::string ModeOf(const Fields& info) {
  const std::string mode(Text(info, "redis_mode"));
  return mode.empty() ? std::string(Text(info, "server_mode")) : mode;
}

Finding Server(const Examination& seen, const Fields& info) {
  const std::string valkey = Text(info, "valkey_version");
  const std::string version = Text(info, "redis_version");
  const std::string name = valkey.empty() ? "redis " + version : "valkey " + valkey;
  std::string what = name;
  if (const auto up = Number(info, "uptime_in_seconds")) {
    absl::StrAppend(&what, ", up ", *up == 0 ? "0 s" : Brief(absl::Seconds(*up)));
  }
  int major = 0;
  int minor = 0;
  const char* const end = version.data() + version.size();
  const auto [dot, error] = std::from_chars(version.data(), end, major);
  if (error == std::errc() && dot != end) std::from_chars(dot + 1, end, minor);
  if (valkey.empty() && std::pair(major, minor) < std::pair(6, 2)) {
    return {Level::kBad, "server", what,
            "the scripts need Redis 6.2 or newer, or Valkey; calls fail on this one",
            "upgrade the server"};
  }
  const bool in_cluster = ModeOf(info) == "cluster";
  if (in_cluster && seen.duty == Duty::kVoter) {
    return {Level::kBad, "server", what + ", part of a Cluster",
            "the servers of a quorum must know nothing of each other",
            "use servers on their own, or the Cluster alone: " + Address(seen, "+cluster")};
  }
  if (in_cluster && seen.duty != Duty::kClusterMaster) {
    return {Level::kBad, "server", what + ", part of a Cluster",
            "most names belong to other servers of the Cluster, and are refused here (MOVED)",
            "connect to the whole Cluster: " + Address(seen, "+cluster")};
  }
  if (Number(info, "loading").value_or(0) != 0) {
    return {Level::kBad, "server", what + ", reading its data",
            "it answers no command until it is done", "wait, and ask again"};
  }
  return Ok("server", what);
}

Finding Role(const Fields& info) {
  if (ModeOf(info) == "sentinel") {
    return {Level::kBad, "role", "sentinel", "it keeps no data and takes no locks",
            "name the Sentinels and the master: redis+sentinel://HOST:26379/MASTER"};
  }
  const std::string role = Text(info, "role");
  if (role != "slave") return Ok("role", role.empty() ? "not said" : role);
  const std::string master = Text(info, "master_host") + ":" + Text(info, "master_port");
  return {Level::kBad, "role",
          absl::StrFormat("replica of %s, link %s", master, Text(info, "master_link_status")),
          kRefused, absl::StrFormat("connect to the master, %s", master)};
}

Finding RoundTrip(const Examination& seen) {
  if (!seen.round_trips) return NotAllowed("round trip", "PING");
  const RoundTrips& trips = *seen.round_trips;
  const std::string what =
      absl::StrFormat("half within %s, 99 %% within %s, slowest %s, of %d", Brief(trips.p50),
                      Brief(trips.p99), Brief(trips.max), trips.samples);
  if (trips.p99 < kSlow) return Ok("round trip", what);
  return {
      Level::kWarn, "round trip", what,
      "every operation takes a round trip, and a lease with a short ttl is lost to one slow answer",
      absl::StrFormat("use a ttl of %s or more, or a server nearer by",
                      Brief(absl::Ceil(20 * trips.max, absl::Seconds(1))))};
}

Findings Scripts(const Examination& seen) {
  Findings findings;
  if (!seen.script_run.ok()) {
    findings.push_back({Level::kBad, "scripts", "a script that only reads failed",
                        absl::StrCat("every operation is a script. ", seen.script_run.message()),
                        "see what the server says; README lists the rights that a user needs"});
  }
  if (!seen.scripts_loaded) {
    findings.push_back(NotAllowed("scripts", "SCRIPT EXISTS"));
  } else if (*seen.scripts_loaded < seen.scripts_expected) {
    findings.push_back(
        {Level::kWarn, "scripts",
         absl::StrFormat("%d of %d loaded", *seen.scripts_loaded, seen.scripts_expected),
         "the first use of each costs a second round trip",
         "give the user the right to SCRIPT LOAD"});
  } else {
    findings.push_back(Ok("scripts", absl::StrFormat("%d of %d loaded", *seen.scripts_loaded,
                                                     seen.scripts_expected)));
  }
  if (!seen.info) return findings;
  const auto cached = Number(*seen.info, "number_of_cached_scripts");
  if (cached.value_or(0) > kManyScripts) {
    findings.push_back(
        {Level::kWarn, "scripts", absl::StrFormat("%d in the server's cache", *cached),
         "some client writes data into script texts, which fills the server's memory",
         "find that client; SCRIPT FLUSH empties the cache (ours are sent again)"});
  }
  return findings;
}

Finding Persistence(const Examination& seen, const Fields& info, const Fields& config) {
  const auto aof = Number(info, "aof_enabled");
  if (!aof) return NotAllowed("persistence", "INFO persistence");
  if (*aof == 0 && seen.duty == Duty::kVoter) {
    return Ok("persistence", "not needed: after a restart it does not vote until all is over");
  }
  if (*aof != 0) {
    const std::string fsync = Text(config, "appendfsync");
    const std::string what =
        "append-only file on" + (fsync.empty() ? "" : ", written to disk: " + fsync);
    if (fsync != "no") return Ok("persistence", what);
    return {Level::kWarn, "persistence", what,
            "a power failure can lose the last half minute; then " + std::string(kForgets),
            "CONFIG SET appendfsync everysec"};
  }
  std::string what = "append-only file off";
  if (config.contains("save")) {
    const std::string save = Text(config, "save");
    what += save.empty() ? ", no snapshots" : ", snapshots after " + save;
  }
  return {Level::kWarn, "persistence", what, kForgets,
          "CONFIG SET appendonly yes, and the same in the server's configuration file"};
}

Findings LastSave(const Fields& info, const Fields& config) {
  Findings findings;
  if (Text(info, "aof_last_write_status") == "err") {
    findings.push_back({Level::kBad, "last save", "the append-only file cannot be written",
                        kRefused, "look at the server's log and at the disk (full, read-only?)"});
  }
  if (Text(info, "rdb_last_bgsave_status") == "err") {
    // Unless told otherwise, a server that takes snapshots stops writing when it cannot.
    const bool stops = Text(config, "stop-writes-on-bgsave-error") != "no" &&
                       !(config.contains("save") && Text(config, "save").empty());
    findings.push_back({stops ? Level::kBad : Level::kWarn, "last save", "the last snapshot failed",
                        stops ? kRefused : "a restart goes back to an older snapshot",
                        "look at the server's log and at disk and memory; BGSAVE tries again"});
  }
  if (Text(info, "aof_last_bgrewrite_status") == "err") {
    findings.push_back({Level::kWarn, "last save", "the append-only file could not be rewritten",
                        "it grows until the disk is full, and then every write is refused",
                        "look at the server's log; BGREWRITEAOF tries again"});
  }
  if (findings.empty()) findings.push_back(Ok("last save", "no failure"));
  return findings;
}

Findings Eviction(Duty duty, const Fields& info, const Fields& config) {
  std::string policy = Text(info, "maxmemory_policy");
  if (policy.empty()) policy = Text(config, "maxmemory-policy");
  if (policy.empty()) return {NotAllowed("eviction", "INFO memory")};
  if (policy == "noeviction") return {Ok("eviction", "noeviction")};
  Findings findings;
  const std::string advice =
      "CONFIG SET maxmemory-policy noeviction, and the same in the configuration file; keep caches "
      "on another server";
  if (duty == Duty::kVoter) {
    return {{Level::kBad, "eviction", policy,
             "a quorum refuses a server that may throw away what it granted", advice}};
  }
  const std::int64_t limit = Number(info, "maxmemory").value_or(0);
  findings.push_back(
      {Level::kWarn, "eviction",
       limit == 0 ? policy + ", no maxmemory yet" : policy + " at " + Text(info, "maxmemory_human"),
       std::string(limit == 0 ? "as soon as a maxmemory is set, " : "") +
           "the server may throw a lock away to make room, and a second holder comes in",
       advice});
  if (const std::int64_t evicted = Number(info, "evicted_keys").value_or(0); evicted > 0) {
    findings.push_back({Level::kBad, "eviction",
                        absl::StrFormat("%d keys thrown away since the server started", evicted),
                        "locks, counters and limits may have been among them", advice});
  }
  return findings;
}

Finding Memory(const Fields& info) {
  const auto used = Number(info, "used_memory");
  if (!used) return NotAllowed("memory", "INFO memory");
  const std::int64_t limit = Number(info, "maxmemory").value_or(0);
  std::string what = Text(info, "used_memory_human") + " used";
  if (limit == 0) return Ok("memory", what + ", no limit");
  const double share = static_cast<double>(*used) / static_cast<double>(limit);
  absl::StrAppendFormat(&what, " of %s (%.0f %%)", Text(info, "maxmemory_human"), share * 100);
  if (share < 0.9 || Text(info, "maxmemory_policy") != "noeviction") return Ok("memory", what);
  return {share < 1 ? Level::kWarn : Level::kBad, "memory", what,
          "at the limit new locks, counts and documents are refused (OOM); releases still work",
          "raise maxmemory, or find out what fills the server (redis-cli --bigkeys)"};
}

Finding ServerClock(const Examination& seen) {
  if (!seen.clock) return NotAllowed("clock", "TIME");
  const absl::Duration ahead = seen.clock->ahead;
  const absl::Duration apart = absl::AbsDuration(ahead);
  const std::string what =
      apart <= seen.clock->error
          ? absl::StrFormat("agrees with this host within %s", Brief(seen.clock->error))
          : absl::StrFormat("%s %s this host (+- %s)", Brief(apart),
                            ahead > absl::ZeroDuration() ? "ahead of" : "behind",
                            Brief(seen.clock->error));
  if (apart - seen.clock->error <= kClocksApart) return Ok("clock", what);
  if (seen.duty == Duty::kVoter && apart > kVotersApart) {
    return {Level::kBad, "clock", what,
            "the servers of a quorum must agree within 15 s, and a client that is ahead by more is "
            "refused",
            "run a time service (chrony, systemd-timesyncd) on the servers and here"};
  }
  return {Level::kWarn, "clock", what,
          "leases do not depend on it. But a server that lost its data, or another that takes its "
          "place, goes on with tokens from its own clock: with one that is behind, they would fall",
          "run a time service (chrony, systemd-timesyncd) on the servers and here"};
}

Finding Encryption(const Examination& seen) {
  if (seen.tls && !seen.insecure) return Ok("encryption", "TLS");
  const std::string& at = seen.address;
  if (at.starts_with("unix:")) return Ok("encryption", "not needed: unix socket");
  for (std::string_view here : {"127.", "localhost:", "[::1]"}) {
    if (at.starts_with(here)) return Ok("encryption", "not needed: this host");
  }
  if (seen.tls) {
    return {Level::kWarn, "encryption", "TLS with insecure=true",
            "whoever stands in between can show any certificate, and reads and changes everything",
            "take insecure=true away, and name the server's authority by ca_file"};
  }
  return {Level::kWarn, "encryption", "none",
          "whoever can listen on the way reads the password and the data, and can take any lock",
          "use TLS (rediss://), or keep the way private (a VPN, a tunnel)"};
}

Finding Replicas(const Fields& info, const Fields& config) {
  const std::int64_t replicas = Number(info, "connected_slaves").value_or(0);
  const std::int64_t wanted = Number(config, "min-replicas-to-write").value_or(0);
  const std::int64_t good = Number(info, "min_slaves_good_slaves").value_or(replicas);
  const std::string what = absl::StrFormat("%d, writes need %d", replicas, wanted);
  if (good < wanted) {
    return {Level::kBad, "replicas", absl::StrFormat("%d good ones, writes need %d", good, wanted),
            kRefused, "bring the replicas back, or lower min-replicas-to-write"};
  }
  if (replicas == 0) return Ok("replicas", "none");
  return {
      Level::kWarn, "replicas", what,
      "a failover loses what the new master had not received: a lock granted just before it can "
      "be granted again. Tokens still rise if the servers' clocks agree",
      wanted > 0 ? "check tokens wherever a lock guards something that matters"
                 : "check tokens wherever a lock guards something that matters; "
                   "min-replicas-to-write 1 and min-replicas-max-lag 10 bound the loss"};
}

// Those who watch this server would lead clients to its successor.
Findings WatchedBySentinels(const Examination& seen) {
  if (seen.duty == Duty::kSentinelMaster || seen.sentinels.value_or(0) == 0) return {};
  if (seen.duty == Duty::kVoter) {
    return {{Level::kWarn, "sentinels", absl::StrFormat("%d watch it", *seen.sentinels),
             "a failover puts another server in its place, which has not voted as it did",
             "the servers of a quorum have neither replicas nor Sentinels"}};
  }
  return {{Level::kWarn, "sentinels",
           absl::StrFormat("%d watch it, and it was reached past them", *seen.sentinels),
           "after a failover this address leads to a server that is down, or to a replica that "
           "refuses every write",
           absl::StrCat("connect through the Sentinels: redis", seen.tls ? "s" : "",
                        "+sentinel://HOST:26379/MASTER")}};
}

Findings Votes(const Examination& seen) {
  if (seen.duty != Duty::kVoter) return {};
  if (seen.vote.ok()) return {Ok("vote", "it votes")};
  return {{Level::kWarn, "vote", std::string(seen.vote.message()),
           "until then the lock depends on the others", "wait; nothing is lost by that"}};
}

Finding Clients(const Fields& info, const Fields& config) {
  const std::int64_t now = Number(info, "connected_clients").value_or(0);
  const auto said = Number(info, "maxclients");
  const std::int64_t limit = said ? *said : Number(config, "maxclients").value_or(0);
  if (limit == 0) return Ok("clients", absl::StrFormat("%d", now));
  const std::string what = absl::StrFormat("%d of at most %d", now, limit);
  if (now * 10 < limit * 9) return Ok("clients", what);
  return {Level::kWarn, "clients", what, "beyond that the server turns new connections away",
          "raise maxclients, or find who keeps so many connections (CLIENT LIST)"};
}

}  // namespace

std::string_view LevelName(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kUnknown:
      return "unknown";
    case Level::kWarn:
      return "warn";
    case Level::kBad:
      return "bad";
  }
  return "";
}

std::vector<Finding> Judge(const Examination& seen) {
  Findings findings;
  const auto add = [&](Findings more) {
    for (Finding& finding : more) findings.push_back(std::move(finding));
  };
  const auto of_info = [&](const char* subject, auto judge) {
    if (seen.info) {
      add(judge(*seen.info));
    } else {
      add({NotAllowed(subject, "INFO")});
    }
  };
  const Fields& config = seen.config;
  of_info("server", [&](const Fields& info) { return Findings{Server(seen, info)}; });
  of_info("role", [](const Fields& info) { return Findings{Role(info)}; });
  add(WatchedBySentinels(seen));
  add(Votes(seen));
  add({RoundTrip(seen)});
  add(Scripts(seen));
  of_info("persistence",
          [&](const Fields& info) { return Findings{Persistence(seen, info, config)}; });
  of_info("last save", [&](const Fields& info) { return LastSave(info, config); });
  of_info("eviction", [&](const Fields& info) { return Eviction(seen.duty, info, config); });
  of_info("memory", [](const Fields& info) { return Findings{Memory(info)}; });
  add({ServerClock(seen)});
  add({Encryption(seen)});
  of_info("replicas", [&](const Fields& info) { return Findings{Replicas(info, config)}; });
  of_info("clients", [&](const Fields& info) { return Findings{Clients(info, config)}; });
  return findings;
}

Level Worst(const std::vector<Finding>& findings) {
  Level worst = Level::kOk;
  for (const Finding& finding : findings) worst = std::max(worst, finding.level);
  return worst;
}

}  // namespace coord::tools
