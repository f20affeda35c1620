// coord doctor: looks at the servers of a deployment and says what would go wrong with them, what
// to do, and what may be relied on.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "coord/errors.h"
#include "coord/rate_limiter.h"
#include "tools/deployment_facts.h"
#include "tools/deployment_findings.h"
#include "tools/duration_text.h"
#include "tools/findings.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using nlohmann::json;

constexpr int kPings = 100;
constexpr absl::Duration kPingsTakeAtMost = absl::Seconds(2);
constexpr int kTimes = 15;
constexpr int kPingsOfMany = 30;
constexpr absl::Duration kPingsOfManyTakeAtMost = absl::Milliseconds(500);
constexpr std::array<const char*, 11> kSettings = {"appendfsync",
                                                   "save",
                                                   "stop-writes-on-bgsave-error",
                                                   "maxmemory-policy",
                                                   "min-replicas-to-write",
                                                   "min-replicas-max-lag",
                                                   "maxclients",
                                                   "cluster-require-full-coverage",
                                                   "cluster-node-timeout",
                                                   "tls-cluster",
                                                   "tls-replication"};

// The server is not there any more, as against: it will not tell.
bool Gone(const absl::Status& status) {
  return coord::IsUnavailable(status) || IsOutcomeUnknown(status);
}

// How one server is asked, and how much of it.
struct Asking {
  const NodeAccess& node;
  int pings = kPings;
  absl::Duration pings_take = kPingsTakeAtMost;
};

absl::Status MeasureRoundTrips(const Asking& asking, Examination& seen) {
  std::vector<absl::Duration> samples;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < asking.pings; ++i) {
    const auto sent = std::chrono::steady_clock::now();
    const absl::Status status = asking.node.ask({"PING"}).status();
    const auto received = std::chrono::steady_clock::now();
    if (Gone(status)) return status;
    if (!status.ok()) return absl::OkStatus();
    samples.push_back(absl::FromChrono(received - sent));
    if (absl::FromChrono(received - start) > asking.pings_take) break;
  }
  seen.round_trips = Summarize(std::move(samples));
  return absl::OkStatus();
}

absl::Status CompareClocks(const NodeAccess& node, Examination& seen) {
  std::vector<ClockSample> samples;
  for (int i = 0; i < kTimes; ++i) {
    ClockSample sample;
    sample.sent = absl::Now();
    const absl::StatusOr<Reply> reply = node.ask({"TIME"});
    sample.received = absl::Now();
    if (Gone(reply.status())) return reply.status();
    if (!reply.ok() || reply->items().size() != 2) return absl::OkStatus();
    const Fields time = {{"s", reply->items()[0].text()}, {"us", reply->items()[1].text()}};
    sample.server = absl::FromUnixSeconds(Number(time, "s").value_or(0)) +
                    absl::Microseconds(Number(time, "us").value_or(0));
    samples.push_back(sample);
  }
  seen.clock = Compare(samples);
  return absl::OkStatus();
}

absl::Status ReadSettings(const NodeAccess& node, Examination& seen) {
  // Redis before 7 takes one name a call.
  std::vector<std::vector<std::string>> commands = {{"INFO"},
                                                    {"PUBSUB", "NUMSUB", "__sentinel__:hello"}};
  for (const char* setting : kSettings) commands.push_back({"CONFIG", "GET", setting});
  const absl::StatusOr<std::vector<Reply>> replies = node.ask_all(commands);
  if (!replies.ok()) return replies.status();
  if (!(*replies)[0].is_error()) seen.info = ParseInfo((*replies)[0].text());
  if (!(*replies)[1].is_error()) {
    seen.sentinels = Number(ReadFields((*replies)[1]), "__sentinel__:hello");
  }
  for (std::size_t i = 2; i < replies->size(); ++i) {
    for (const auto& [name, value] : ReadFields((*replies)[i])) seen.config[name] = value;
  }
  return absl::OkStatus();
}

// Asks all there is to ask of one server; fails only when it goes away meanwhile.
absl::Status Examine(const Client& client, const Asking& asking, const NodeHealth& health,
                     Examination& seen) {
  seen.address = health.node;
  seen.scripts_loaded = health.scripts_loaded;
  seen.scripts_expected = health.scripts_expected;
  const Encrypted encrypted = EncryptionOf(client);
  seen.tls = encrypted.tls;
  seen.insecure = encrypted.insecure;
  if (absl::Status status = ReadSettings(asking.node, seen); !status.ok()) return status;
  if (absl::Status status = MeasureRoundTrips(asking, seen); !status.ok()) return status;
  if (absl::Status status = CompareClocks(asking.node, seen); !status.ok()) return status;
  if (seen.duty == Duty::kVoter) seen.vote = AskVote(client);
  return absl::OkStatus();
}

// All that was found out about a deployment.
struct Diagnosis {
  absl::Status status;  // OK: it was reached
  std::string title;
  Setting setting;
  std::vector<Examination> seen;  // of those that hold keys
  std::vector<Finding> findings;
};

Setting::Kind SettingOf(Kind kind) {
  switch (kind) {
    case Kind::kEmbedded:
      return Setting::Kind::kEmbedded;
    case Kind::kSentinel:
      return Setting::Kind::kSentinel;
    case Kind::kCluster:
      return Setting::Kind::kCluster;
    case Kind::kQuorum:
      return Setting::Kind::kQuorum;
    case Kind::kServer:
      break;
  }
  return Setting::Kind::kServer;
}

OtherNode Other(const NodeHealth& node) { return {node.node, std::string(node.status.message())}; }

Finding NotReached(const NodeHealth& node) {
  return {Level::kBad, "connection", std::string(node.status.message()),
          "it holds keys: what belongs to it can be neither locked nor counted",
          "see that the server runs and can be reached from here"};
}

// What a deployment of several servers has beside its masters.
void ExamineGroup(const Client& client, Kind kind, const std::vector<NodeHealth>& nodes,
                  Diagnosis& out) {
  const Fields config = out.seen.empty() ? Fields() : out.seen.front().config;
  const bool tls = EncryptionOf(client).tls;
  std::vector<Finding> found;
  if (kind == Kind::kCluster) {
    ClusterFacts facts;
    facts.tls = tls;
    facts.config = config;
    facts.masters = out.seen.size();
    for (const NodeHealth& node : nodes) {
      if (!node.needed) facts.replicas.push_back(Other(node));
      if (node.needed && !node.status.ok()) ++facts.masters;
    }
    for (const Examination& master : out.seen) {
      if (master.info && Number(*master.info, "connected_slaves").value_or(0) == 0) {
        facts.bare.push_back(master.address);
      }
    }
    for (const NodeAccess& node : NodesOf(client)) {
      if (out.seen.empty() || node.name != out.seen.front().address) continue;
      const absl::StatusOr<Reply> info = node.ask({"CLUSTER", "INFO"});
      if (info.ok()) facts.info = ParseInfo(info->text());
    }
    found = JudgeCluster(facts);
  } else if (kind == Kind::kSentinel) {
    SentinelFacts facts;
    facts.tls = tls;
    facts.name = MasterName(client);
    facts.config = config;
    for (const NodeAccess& node : NodesOf(client)) {
      if (node.needed) continue;
      SentinelView view{node.name, "", std::nullopt};
      const absl::StatusOr<Reply> master = node.ask({"SENTINEL", "MASTER", facts.name});
      if (master.ok()) {
        view.master = ReadFields(*master);
      } else {
        view.problem = std::string(master.status().message());
      }
      facts.sentinels.push_back(std::move(view));
    }
    for (const NodeHealth& replica : ReplicasBySentinels(client)) {
      facts.replicas.push_back(Other(replica));
    }
    found = JudgeSentinels(facts);
  }
  out.findings.insert(out.findings.begin(), found.begin(), found.end());
}

// A deployment that one client leads to. Fails when none of its servers can be examined.
absl::Status ExamineClient(const Client& client, Duty duty, Kind kind, Diagnosis& out) {
  const Health health = client.Health();
  const std::vector<NodeAccess> nodes = NodesOf(client);
  std::vector<NodeFindings> judged;
  std::vector<Finding> unreached;
  absl::Status first;
  for (const NodeHealth& node : health.nodes) {
    if (!node.needed) continue;
    const auto access = std::find_if(nodes.begin(), nodes.end(),
                                     [&](const NodeAccess& one) { return one.name == node.node; });
    if (access == nodes.end()) continue;
    Asking asking{*access};
    if (health.nodes.size() > 1) {  // many servers, and few questions to each
      asking.pings = kPingsOfMany;
      asking.pings_take = kPingsOfManyTakeAtMost;
    }
    Examination seen;
    seen.duty = duty;
    const bool answers = node.status.ok() || health.nodes.size() == 1;
    const absl::Status status = answers ? Examine(client, asking, node, seen) : node.status;
    if (!status.ok()) {
      if (first.ok()) first = status;
      NodeHealth away = node;
      away.status = status;
      unreached.push_back(NotReached(away));
      continue;
    }
    // Reads one key and writes nothing, so it may be asked of any server. That a replica, or a
    // server that cannot save, refuses even this is what the doctor is to find out.
    if (judged.empty()) {
      seen.script_run = RateLimiter(client, {.permits = 1, .period = absl::Seconds(1)})
                            .Peek("coord-doctor")
                            .status();
    }
    judged.push_back({seen.address, Judge(seen)});
    out.seen.push_back(std::move(seen));
  }
  if (judged.empty()) {
    return first.ok() ? absl::UnavailableError("no server that holds keys is known") : first;
  }
  out.findings = Merge(judged);
  out.findings.insert(out.findings.begin(), unreached.begin(), unreached.end());
  ExamineGroup(client, kind, health.nodes, out);
  return absl::OkStatus();
}

// ---- Showing it

json ToJson(const Examination& seen) {
  json out;
  out["address"] = seen.address;
  out["tls"] = seen.tls;
  const Fields info = seen.info.value_or(Fields());
  const auto text = [&](const char* key, std::string_view field) {
    const std::string value = Text(info, field);
    out[key] = value.empty() ? json() : json(value);
  };
  const auto number = [&](const char* key, const Fields& from, std::string_view field) {
    const auto value = Number(from, field);
    out[key] = value ? json(*value) : json();
  };
  const bool valkey = info.contains("valkey_version");
  out["server"] = seen.info ? json(valkey ? "valkey" : "redis") : json();
  text("version", valkey ? "valkey_version" : "redis_version");
  text("role", "role");
  text("maxmemory_policy", "maxmemory_policy");
  number("maxmemory", info, "maxmemory");
  number("used_memory", info, "used_memory");
  number("evicted_keys", info, "evicted_keys");
  number("replicas", info, "connected_slaves");
  number("min_replicas_to_write", seen.config, "min-replicas-to-write");
  const auto aof = Number(info, "aof_enabled");
  out["append_only"] = aof ? json(*aof != 0) : json();
  out["snapshots"] = seen.config.contains("save") ? json(Text(seen.config, "save")) : json();
  out["scripts_loaded"] = seen.scripts_loaded ? json(*seen.scripts_loaded) : json();
  out["scripts_expected"] = seen.scripts_expected;
  out["round_trip_us"] = nullptr;
  if (seen.round_trips) {
    out["round_trip_us"] = {{"samples", seen.round_trips->samples},
                            {"p50", absl::ToDoubleMicroseconds(seen.round_trips->p50)},
                            {"p99", absl::ToDoubleMicroseconds(seen.round_trips->p99)},
                            {"max", absl::ToDoubleMicroseconds(seen.round_trips->max)}};
  }
  out["clock_ms"] = nullptr;
  if (seen.clock) {
    out["clock_ms"] = {{"server_ahead", absl::ToDoubleMilliseconds(seen.clock->ahead)},
                       {"error", absl::ToDoubleMilliseconds(seen.clock->error)}};
  }
  return out;
}

void AddFindings(const std::vector<Finding>& findings, json& out) {
  out["verdict"] = LevelName(Worst(findings));
  out["findings"] = json::array();
  for (const Finding& finding : findings) {
    out["findings"].push_back({{"level", LevelName(finding.level)},
                               {"subject", finding.subject},
                               {"what", finding.what},
                               {"why", finding.why},
                               {"advice", finding.advice}});
  }
}

// `text` after `label`, broken at spaces; the further lines are indented, by default to where it
// starts.
void PrintWrapped(std::string_view label, std::string_view text,
                  std::optional<std::size_t> further = std::nullopt) {
  constexpr std::size_t kWidth = 96;
  const std::string indent(further.value_or(label.size()), ' ');
  std::string line(label);
  bool at_start = true;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (!at_start && line.size() + 1 + end > kWidth) {
      std::cout << line << '\n';
      line = indent;
      at_start = true;
    }
    if (!at_start) line += ' ';
    at_start = false;
    line += text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  std::cout << line << '\n';
}

std::string Coloured(Level level, const std::string& text) {
  static const bool colour = isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  if (!colour) return text;
  constexpr std::array<const char*, 4> kCodes = {"32", "36", "33", "1;31"};
  return absl::StrFormat("\033[%sm%s\033[0m", kCodes[static_cast<std::size_t>(level)], text);
}

void PrintTable(const std::vector<Finding>& findings) {
  int width = 0;
  for (const Finding& finding : findings) {
    width = std::max(width, static_cast<int>(finding.subject.size()));
  }
  for (const Finding& finding : findings) {
    const std::string level = absl::StrFormat("%-7s", LevelName(finding.level));
    std::cout << absl::StrFormat("  %s  %-*s  %s\n", Coloured(finding.level, level), width,
                                 finding.subject, finding.what);
  }
  std::cout << '\n';
}

// The gravest first. What one right more would answer is said once.
void PrintAdvice(const std::vector<Finding>& findings) {
  std::map<std::string, std::string> unknown;
  for (const Level level : {Level::kBad, Level::kWarn}) {
    for (const Finding& finding : findings) {
      if (finding.level != level) continue;
      PrintWrapped(Coloured(level, std::string(LevelName(level))) + ": ",
                   finding.subject + ": " + finding.what, 2);
      if (!finding.why.empty()) PrintWrapped("  why  ", finding.why);
      if (!finding.advice.empty()) PrintWrapped("  do   ", finding.advice);
    }
  }
  for (const Finding& finding : findings) {
    if (finding.level != Level::kUnknown) continue;
    std::string& subjects = unknown[finding.advice];
    subjects += (subjects.empty() ? "" : ", ") + finding.subject;
  }
  for (const auto& [advice, subjects] : unknown) {
    PrintWrapped(Coloured(Level::kUnknown, "unknown") + ": ", subjects, 2);
    PrintWrapped("  do   ", advice);
  }
  if (Worst(findings) == Level::kOk) std::cout << "Nothing to do.\n";
}

Finding NoConnection(const absl::Status& status) {
  const std::string message(status.message());
  if (absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status)) {
    return {Level::kBad, "connection", message, "the server is there, and lets nobody in this way",
            "put the right user and password into the URL: redis://user:password@host:port/db"};
  }
  if (message.find("TLS") != std::string::npos || message.find("SSL") != std::string::npos ||
      message.find("certificate") != std::string::npos) {
    return {
        Level::kBad, "connection", message,
        "client and server must agree on TLS, and on who signs their certificates",
        "rediss:// is for a port that speaks TLS, redis:// for one that does not; ca_file names "
        "the authority of the server's certificate, cert_file and key_file one of your own"};
  }
  if (message.find("signing in") != std::string::npos) {
    return {
        Level::kBad, "connection", message,
        "somebody is there, and does not answer as a server that speaks this protocol does",
        "see that the server is well and the URL right; a port that speaks TLS needs rediss://"};
  }
  if (Gone(status)) {
    return {Level::kBad, "connection", message, "without the server nothing is locked or counted",
            "see that the server runs and can be reached from here, and that the URL is right"};
  }
  return {Level::kBad, "connection", message, "", ""};
}

void Summarize(Kind kind, Diagnosis& out) {
  out.setting.kind = SettingOf(kind);
  bool all_known = !out.seen.empty();
  bool all_kept = true;
  for (const Examination& seen : out.seen) {
    const auto aof = seen.info ? Number(*seen.info, "aof_enabled") : std::nullopt;
    all_known = all_known && aof.has_value();
    all_kept = all_kept && aof.value_or(0) != 0;
    out.setting.tls = out.setting.tls || seen.tls;
    if (seen.info) {
      out.setting.replicas += Number(*seen.info, "connected_slaves").value_or(0);
    }
  }
  if (all_known) out.setting.append_only = all_kept;
}

// An option or URL that makes no sense is an error; what cannot be reached is a diagnosis.
absl::StatusOr<Diagnosis> Diagnose(const Program& program) {
  Diagnosis out;
  out.title = Tried(program);
  const absl::StatusOr<Client> client = program.Connect();
  if (absl::IsInvalidArgument(client.status())) return client.status();
  out.status = client.status();
  if (!client.ok()) return out;
  out.title = client->ToString();
  const Kind kind = KindOf(*client);
  const Duty duty = kind == Kind::kSentinel  ? Duty::kSentinelMaster
                    : kind == Kind::kCluster ? Duty::kClusterMaster
                                             : Duty::kAlone;
  out.status = ExamineClient(*client, duty, kind, out);
  if (out.status.ok() && kind == Kind::kEmbedded) {
    out.title += " (" + out.seen.front().address + ")";
  }
  Summarize(kind, out);
  return out;
}

absl::StatusOr<Diagnosis> DiagnoseQuorum(const Program& program) {
  Diagnosis out;
  out.title = Tried(program);
  std::vector<NodeFindings> judged;
  std::vector<Finding> away;
  for (const std::string& url : program.urls) {
    const absl::StatusOr<Client> client = ConnectOne(program, url);
    if (absl::IsInvalidArgument(client.status())) return client.status();
    Diagnosis one;
    one.status = client.status();
    if (client.ok()) one.status = ExamineClient(*client, Duty::kVoter, Kind::kServer, one);
    if (one.status.ok()) {
      judged.push_back({one.seen.front().address, Judge(one.seen.front())});
      out.seen.push_back(std::move(one.seen.front()));
      continue;
    }
    if (out.status.ok()) out.status = one.status;
    away.push_back({Level::kWarn, "connection", std::string(one.status.message()),
                    "the lock depends on the others", "bring it back; it votes again after 45 s"});
  }
  const std::size_t majority = program.urls.size() / 2 + 1;
  if (judged.size() >= majority) {
    out.status = absl::OkStatus();
  } else if (!judged.empty()) {
    for (Finding& finding : away) {
      finding.level = Level::kBad;
      finding.why = "without a majority of the servers nothing is locked";
    }
    out.status = absl::OkStatus();
  }
  out.findings = std::move(away);
  for (Finding& finding : Merge(judged)) out.findings.push_back(std::move(finding));
  if (program.urls.size() % 2 == 0) {
    out.findings.push_back(
        {Level::kWarn, "quorum", absl::StrFormat("%d servers", program.urls.size()),
         "it tolerates no more losses than with one server fewer", "use an odd number"});
  }
  Summarize(Kind::kQuorum, out);
  out.setting.servers = program.urls.size();
  return out;
}

void PrintGuarantees(const Setting& setting) {
  std::cout << "\nguarantees\n";
  for (const std::string& line : Guarantees(setting)) PrintWrapped("  ", line, 4);
}

int RunDoctor(const Program& program) {
  absl::StatusOr<Diagnosis> found = program.quorum() ? DiagnoseQuorum(program) : Diagnose(program);
  // It is never shown again: a part of it may be a password.
  if (!found.ok()) return program.Fail(found.status());
  const bool reached = found->status.ok();
  std::vector<Finding>& findings = found->findings;
  if (!reached) findings = {NoConnection(found->status)};
  if (program.json) {
    json out = reached ? ToJson(found->seen.front()) : json::object();
    if (found->seen.size() > 1) {
      out = {{"nodes", json::array()}};
      for (const Examination& seen : found->seen) out["nodes"].push_back(ToJson(seen));
    }
    out["url"] = found->title;
    out["reachable"] = reached;
    if (reached) out["guarantees"] = Guarantees(found->setting);
    AddFindings(findings, out);
    PrintJson(out);
  } else {
    std::cout << "coord doctor: " << found->title << "\n\n";
    if (reached) PrintTable(findings);
    PrintAdvice(findings);
    if (reached) PrintGuarantees(found->setting);
  }
  if (!reached) {
    return Gone(found->status) ? static_cast<int>(kExitUnreachable) : ExitCodeOf(found->status);
  }
  return Worst(findings) == Level::kBad ? kExitError : kExitOk;
}

}  // namespace

void AddDoctor(CLI::App& app, Program& program) {
  CLI::App* doctor =
      app.add_subcommand("doctor", "Say how the server is, what could go wrong, and what to do");
  doctor->footer(
      "Looks at each server that holds keys, and at Sentinels, replicas, slots; with several "
      "--url, "
      "at\na quorum. It writes nothing. "
      "Exit codes: 0 nothing bad (there may be warnings), 1 something is bad, 69 it cannot be "
      "reached.");
  doctor->callback([&program] { program.exit_code = RunDoctor(program); });
}

}  // namespace coord::tools
