// coord doctor: looks at a server and says what would go wrong with it, and what to do.
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
#include "tools/duration_text.h"
#include "tools/findings.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using nlohmann::json;

constexpr int kPings = 100;
constexpr absl::Duration kPingsTakeAtMost = absl::Seconds(2);
constexpr int kTimes = 15;
constexpr std::array<std::string_view, 7> kSettings = {"appendfsync",
                                                       "save",
                                                       "stop-writes-on-bgsave-error",
                                                       "maxmemory-policy",
                                                       "min-replicas-to-write",
                                                       "min-replicas-max-lag",
                                                       "maxclients"};

// The server is not there any more, as against: it will not tell.
bool Gone(const absl::Status& status) {
  return coord::IsUnavailable(status) || IsOutcomeUnknown(status);
}

absl::Status MeasureRoundTrips(const Client& client, Examination& seen) {
  std::vector<absl::Duration> samples;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kPings; ++i) {
    const auto sent = std::chrono::steady_clock::now();
    const absl::Status status = client.Command({"PING"}).status();
    const auto received = std::chrono::steady_clock::now();
    if (Gone(status)) return status;
    if (!status.ok()) return absl::OkStatus();
    samples.push_back(absl::FromChrono(received - sent));
    if (absl::FromChrono(received - start) > kPingsTakeAtMost) break;
  }
  seen.round_trips = Summarize(std::move(samples));
  return absl::OkStatus();
}

absl::Status CompareClocks(const Client& client, Examination& seen) {
  std::vector<ClockSample> samples;
  for (int i = 0; i < kTimes; ++i) {
    ClockSample sample;
    sample.sent = absl::Now();
    const absl::StatusOr<Reply> reply = client.Command({"TIME"});
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

absl::Status ReadSettings(const Client& client, Examination& seen) {
  // Redis before 7 takes one name a call.
  Pipeline pipeline;
  pipeline.Add({"INFO"});
  for (std::string_view setting : kSettings) pipeline.Add({"CONFIG", "GET", setting});
  const absl::StatusOr<std::vector<Reply>> replies = client.Execute(pipeline);
  if (!replies.ok()) return replies.status();
  if (!(*replies)[0].is_error()) seen.info = ParseInfo((*replies)[0].text());
  for (std::size_t i = 0; i < kSettings.size(); ++i) {
    const auto pair = (*replies)[i + 1].items();
    if (pair.size() == 2) seen.config[pair[0].text()] = pair[1].text();
  }
  return absl::OkStatus();
}

// Asks all there is to ask; fails only when the server goes away meanwhile.
absl::Status Examine(const Client& client, Examination& seen) {
  const Health health = client.Health();
  if (!health.nodes.empty()) {
    seen.address = health.nodes[0].node;
    seen.scripts_loaded = health.nodes[0].scripts_loaded;
    seen.scripts_expected = health.nodes[0].scripts_expected;
  }
  seen.tls = client.ToString().starts_with("rediss");
  seen.insecure = client.ToString().find("insecure=true") != std::string::npos;
  if (absl::Status status = ReadSettings(client, seen); !status.ok()) return status;
  if (absl::Status status = MeasureRoundTrips(client, seen); !status.ok()) return status;
  if (absl::Status status = CompareClocks(client, seen); !status.ok()) return status;
  // Reads one key and writes nothing, so it may be asked of any server. That a replica, or a server
  // that cannot save, refuses even this is what the doctor is to find out.
  seen.script_run =
      RateLimiter(client, {.permits = 1, .period = absl::Seconds(1)}).Peek("coord-doctor").status();
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

// What was tried, without what is secret in it.
std::string Tried(const Program& program) {
  if (!program.url().empty()) return HidePasswords(program.url());
  const char* from_environment = std::getenv("COORD_URL");
  return from_environment != nullptr && *from_environment != '\0' ? HidePasswords(from_environment)
                                                                  : "embedded://";
}

Finding NoConnection(const absl::Status& status) {
  const std::string message(status.message());
  if (Gone(status)) {
    return {Level::kBad, "connection", message, "without the server nothing is locked or counted",
            "see that the server runs and can be reached from here, and that the URL is right"};
  }
  if (absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status)) {
    return {Level::kBad, "connection", message, "the server is there, and lets nobody in this way",
            "put the right user and password into the URL: redis://user:password@host:port/db"};
  }
  return {Level::kBad, "connection", message, "", ""};
}

int RunDoctor(const Program& program) {
  const absl::StatusOr<Client> client = program.Connect();
  // An option or URL that makes no sense is never shown again: a part of it may be a password.
  if (absl::IsInvalidArgument(client.status())) return program.Fail(client.status());
  std::string title = Tried(program);
  Examination seen;
  absl::Status status = client.status();
  if (status.ok()) {
    title = client->ToString();
    status = Examine(*client, seen);
    if (title.starts_with("embedded:")) title += " (" + seen.address + ")";
  }
  std::vector<Finding> findings;
  if (status.ok()) {
    findings = Judge(seen);
  } else {
    findings.push_back(NoConnection(status));
  }
  if (program.json) {
    json out = status.ok() ? ToJson(seen) : json::object();
    out["url"] = status.ok() ? client->ToString() : title;
    out["reachable"] = status.ok();
    AddFindings(findings, out);
    PrintJson(out);
  } else {
    std::cout << "coord doctor: " << title << "\n\n";
    if (status.ok()) PrintTable(findings);
    PrintAdvice(findings);
  }
  if (!status.ok()) return Gone(status) ? static_cast<int>(kExitUnreachable) : ExitCodeOf(status);
  return Worst(findings) == Level::kBad ? kExitError : kExitOk;
}

}  // namespace

void AddDoctor(CLI::App& app, Program& program) {
  CLI::App* doctor =
      app.add_subcommand("doctor", "Say how the server is, what could go wrong, and what to do");
  doctor->footer(
      "Exit codes: 0 nothing bad (there may be warnings), 1 something is bad, 69 it cannot be "
      "reached.");
  doctor->callback([&program] { program.exit_code = RunDoctor(program); });
}

}  // namespace coord::tools
