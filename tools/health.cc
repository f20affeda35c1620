// coord health: how each node of a deployment is, once for a monitor, or again and again for a
// person.
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "coord/health.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/deployment_facts.h"
#include "tools/duration_text.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::StrCat;
using nlohmann::json;

// For monitors, whose plugins have long had these: see the footer.
constexpr int kExitWhole = 0;
constexpr int kExitImpaired = 1;
constexpr int kExitFailed = 2;

constexpr std::size_t kHistoryKept = 100;
constexpr std::size_t kHistoryShown = 10;

// One look at a deployment.
struct Look {
  Kind kind = Kind::kServer;
  std::string url;
  absl::Time at;
  std::vector<NodeHealth> nodes;
  std::vector<NodeEvent> history;
  int code = kExitFailed;
  std::string summary;
};

const char* VerdictName(int code) {
  return code == kExitWhole ? "ok" : code == kExitImpaired ? "impaired" : "failed";
}

// What callbacks tell, on a thread of their own.
class Events {
 public:
  void Tell(const NodeEvent& event) {
    const std::lock_guard lock(mutex_);
    fresh_.push_back(event);
    changed_.notify_all();
  }
  // Waits until something is told, `wait` is over, or `stop`; takes what was told.
  std::vector<NodeEvent> Wait(absl::Duration wait, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, absl::ToChronoMilliseconds(wait),
                      [this] { return !fresh_.empty(); });
    return std::exchange(fresh_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<NodeEvent> fresh_;
};

// The deployment of the command line, with clients that stay from one look to the next.
class Watched {
 public:
  Watched(const Program& program, ClientOptions options)
      : program_(program), options_(std::move(options)), urls_(program.urls) {
    if (urls_.empty()) urls_.emplace_back();
    clients_.resize(urls_.size());
  }

  // InvalidArgument: what was asked for makes no sense, and never will. Anything else is in the
  // result.
  absl::StatusOr<Look> Once(const CallOptions& options) {
    Look look;
    look.at = absl::Now();
    look.url = Tried(program_);
    std::vector<Look> parts(urls_.size());
    std::vector<absl::Status> refused(urls_.size());
    {
      std::vector<std::jthread> threads;  // one that is away must not hold up the others
      for (std::size_t i = 1; i < urls_.size(); ++i) {
        threads.emplace_back([&, i] { refused[i] = LookAt(i, options, parts[i]); });
      }
      refused[0] = LookAt(0, options, parts[0]);
    }
    for (const absl::Status& status : refused) {
      if (!status.ok()) return status;
    }
    if (urls_.size() == 1) {
      parts[0].at = look.at;
      return parts[0];
    }
    look.kind = Kind::kQuorum;
    std::size_t good = 0;
    for (Look& part : parts) {
      good += part.code == kExitFailed ? 0 : 1;
      for (NodeHealth& node : part.nodes) look.nodes.push_back(std::move(node));
      for (NodeEvent& event : part.history) look.history.push_back(std::move(event));
    }
    std::stable_sort(look.history.begin(), look.history.end(),
                     [](const NodeEvent& a, const NodeEvent& b) { return a.when < b.when; });
    const std::size_t majority = urls_.size() / 2 + 1;
    look.code = good == urls_.size() ? kExitWhole : good >= majority ? kExitImpaired : kExitFailed;
    look.summary =
        absl::StrFormat("%d of %d servers vote, %d are needed", good, urls_.size(), majority);
    return look;
  }

 private:
  absl::Status LookAt(std::size_t i, const CallOptions& options, Look& look) {
    std::optional<Client>& client = clients_[i];
    look.at = absl::Now();
    look.url = program_.quorum() ? ShownUrl(urls_[i]) : Tried(program_);
    if (!client) {
      absl::StatusOr<Client> connected = ConnectOne(program_, urls_[i], options_);
      if (absl::IsInvalidArgument(connected.status())) return connected.status();
      if (!connected.ok()) {
        NodeHealth node;
        node.node = look.url;
        node.since = look.at;
        node.status = connected.status();
        node.state = NodeState::kDown;
        look.nodes.push_back(std::move(node));
        look.summary = "cannot connect";
        return absl::OkStatus();
      }
      client = *connected;
    }
    look.url = client->ToString();
    look.kind = KindOf(*client);
    Health health = client->Health(options);
    const bool asked = health.ok() || look.kind == Kind::kSentinel;
    if (asked && look.kind == Kind::kSentinel) {
      for (NodeHealth& node : ReplicasBySentinels(*client)) {
        health.nodes.push_back(std::move(node));
      }
    }
    if (program_.quorum() && health.ok()) {
      health.nodes[0].status = AskVote(*client);
    }
    // A node that has just been reached for the first time was not in use before.
    for (NodeHealth& node : health.nodes) {
      if (!node.status.ok() || node.state != NodeState::kConnecting) continue;
      node.state = NodeState::kReady;
      node.since = look.at;
    }
    look.code = health.whole() ? kExitWhole : health.ok() ? kExitImpaired : kExitFailed;
    std::size_t good = 0;
    for (const NodeHealth& node : health.nodes) good += node.status.ok() ? 1 : 0;
    look.summary = absl::StrFormat("%d of %d nodes are well", good, health.nodes.size());
    if (look.code == kExitImpaired) look.summary += "; what is missing is not needed at present";
    look.nodes = std::move(health.nodes);
    look.history = std::move(health.history);
    return absl::OkStatus();
  }

  const Program& program_;
  const ClientOptions options_;
  std::vector<std::string> urls_;
  std::vector<std::optional<Client>> clients_;
};

// ---- Showing it

std::string Stamp(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

json TimeOrNull(absl::Time time) {
  return time == absl::InfinitePast() || time == absl::Time() ? json() : json(Stamp(time));
}

json Micros(absl::Duration duration) {
  return duration == absl::ZeroDuration() ? json() : json(absl::ToDoubleMicroseconds(duration));
}

json TextOrNull(std::string_view text) { return text.empty() ? json() : JsonText(text); }

json ToJson(const NodeEvent& event) {
  return {{"at", Stamp(event.when)},
          {"node", JsonText(event.node)},
          {"state", std::string(ToString(event.state))},
          {"reason", JsonText(event.reason)}};
}

json ToJson(const Look& look) {
  json out = {{"at", Stamp(look.at)},
              {"url", JsonText(look.url)},
              {"deployment", std::string(KindName(look.kind))},
              {"verdict", VerdictName(look.code)},
              {"summary", look.summary},
              {"nodes", json::array()},
              {"history", json::array()}};
  for (const NodeHealth& node : look.nodes) {
    out["nodes"].push_back({{"node", JsonText(node.node)},
                            {"role", TextOrNull(node.role)},
                            {"needed", node.needed},
                            {"ok", node.status.ok()},
                            {"problem", TextOrNull(internal::FromAbsl(node.status.message()))},
                            {"state", std::string(ToString(node.state))},
                            {"since", TimeOrNull(node.since)},
                            {"server", TextOrNull(node.server)},
                            {"round_trip_us", Micros(node.round_trip)},
                            {"latency_p50_us", Micros(node.latency_p50)},
                            {"latency_p99_us", Micros(node.latency_p99)},
                            {"connections_made", node.connections_made},
                            {"last_error", TextOrNull(node.last_error)},
                            {"last_error_at", TimeOrNull(node.last_error_at)}});
  }
  for (const NodeEvent& event : look.history) out["history"].push_back(ToJson(event));
  return out;
}

std::string Measured(absl::Duration duration) {
  return duration == absl::ZeroDuration() ? "-" : Brief(duration);
}

std::string EventLine(const NodeEvent& event) {
  return StrCat(absl::FormatTime("%H:%M:%E3S", event.when, absl::LocalTimeZone()), "  ", event.node,
                "  ", ToString(event.state), ": ", event.reason);
}

std::string Table(std::vector<std::vector<std::string>> rows) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line = "  ";
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    out += line + "\n";
  }
  return out;
}

std::string Shown(const Look& look, bool with_history) {
  std::string out = StrCat(absl::FormatTime("%H:%M:%S", look.at, absl::LocalTimeZone()), "  ",
                           VerdictName(look.code), ": ", look.summary, "\n");
  std::vector<std::vector<std::string>> rows = {
      {"node", "role", "state", "round trip", "p50", "p99", "connections"}};
  std::string notes;
  for (const NodeHealth& node : look.nodes) {
    const std::string role = node.role.empty() ? "-" : node.role == "slave" ? "replica" : node.role;
    rows.push_back(
        {node.node, role, node.status.ok() ? std::string(ToString(node.state)) : "not usable",
         Measured(node.round_trip), Measured(node.latency_p50), Measured(node.latency_p99),
         node.connections_made == 0 ? "-" : absl::StrFormat("%d", node.connections_made)});
    const std::string problem(node.status.message());
    if (!problem.empty()) {
      notes += StrCat("  ", node.needed ? "needed" : "missing", ": ",
                      problem.find(node.node) == std::string::npos ? node.node + ": " : "", problem,
                      "\n");
    }
    if (!node.last_error.empty() && node.last_error != problem) {
      const absl::Duration age = std::max(absl::ZeroDuration(), look.at - node.last_error_at);
      notes += StrCat("  last error, ", Brief(absl::Trunc(age, absl::Milliseconds(1))), " ago: ",
                      node.last_error.find(node.node) == std::string::npos ? node.node + ": " : "",
                      node.last_error, "\n");
    }
  }
  out += Table(std::move(rows)) + notes;
  // That the first connection was made is no news.
  const auto first = [&](const NodeEvent& event) {
    return event.state == NodeState::kReady &&
           std::none_of(look.history.begin(), look.history.end(), [&](const NodeEvent& other) {
             return other.node == event.node && (other.when < event.when);
           });
  };
  std::vector<const NodeEvent*> news;
  for (const NodeEvent& event : look.history) {
    if (with_history && !first(event)) news.push_back(&event);
  }
  if (!news.empty()) out += "  history\n";
  const std::size_t from = news.size() > kHistoryShown ? news.size() - kHistoryShown : 0;
  for (std::size_t i = from; i < news.size(); ++i) out += "    " + EventLine(*news[i]) + "\n";
  return out;
}

// ---- Running it

void Write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// In place of what stands there, without a moment of nothing.
void Redraw(const std::string& text) {
  std::string out = "\033[H";
  for (const char c : text) out += c == '\n' ? std::string("\033[K\n") : std::string(1, c);
  Write(out + "\033[J");
}

int Once(const Program& program) {
  Watched watched(program, {});
  absl::StatusOr<Look> look = watched.Once({});
  if (!look.ok()) return program.Fail(look.status());
  if (program.json) {
    PrintJson(ToJson(*look));
  } else {
    Write(StrCat("coord health: ", KindName(look->kind), " ", look->url, "\n", Shown(*look, true)));
  }
  return look->code;
}

// What was told stays known when its node has left the deployment.
class History {
 public:
  void Add(const NodeEvent& event) {
    if (!seen_.insert({{event.when, event.node, event.reason}, true}).second) return;
    events_.push_back(event);
    if (events_.size() > kHistoryKept) events_.pop_front();
  }
  std::vector<NodeEvent> All() const { return {events_.begin(), events_.end()}; }

 private:
  std::map<std::tuple<absl::Time, std::string, std::string>, bool> seen_;
  std::deque<NodeEvent> events_;
};

int Watch(const Program& program, absl::Duration interval) {
  const CaughtSignals signals;
  std::stop_source stop;
  StopOnSignal stopper(signals, stop);
  stopper.ReadyToStop();
  const bool terminal = isatty(STDOUT_FILENO) != 0 && !program.json;
  const auto events = std::make_shared<Events>();
  ClientOptions options;
  options.on_node_event = [events](const NodeEvent& event) { events->Tell(event); };
  // Tells of what breaks between two looks.
  options.health_check_period = std::max(interval, absl::Seconds(1));
  Watched watched(program, options);
  History history;
  bool first = true;
  absl::Status fault;
  std::stop_token stopped = stop.get_token();
  while (!stopped.stop_requested()) {
    const absl::Time next = absl::Now() + interval;
    absl::StatusOr<Look> look = watched.Once({.stop = stopped});
    if (stopped.stop_requested()) break;
    if (!look.ok()) {
      fault = look.status();
      break;
    }
    for (const NodeEvent& event : look->history) history.Add(event);
    look->history = history.All();
    if (program.json) {
      PrintJson(ToJson(*look));
      std::fflush(stdout);
    } else if (terminal) {
      Redraw((first ? "\033[2J\033[H" : "") + StrCat("coord health: ", KindName(look->kind), " ",
                                                     look->url, "\n", Shown(*look, true)));
    } else {
      if (first) Write(StrCat("coord health: ", KindName(look->kind), " ", look->url, "\n"));
      Write(Shown(*look, false));
    }
    do {
      for (const NodeEvent& event :
           events->Wait(std::max(next - absl::Now(), absl::ZeroDuration()), stopped)) {
        history.Add(event);
        // A monitor reads them in the next object, a terminal in the next picture.
        const bool made = event.state == NodeState::kReady && first;
        if (!terminal && !program.json && !made) Write(StrCat("  ! ", EventLine(event), "\n"));
      }
    } while (!stopped.stop_requested() && absl::Now() < next);
    first = false;
    if (std::ferror(stdout) != 0) break;  // who read it has gone
  }
  const std::optional<signalfd_siginfo> end = stopper.Finish();
  if (!fault.ok()) return program.Fail(fault);
  if (terminal) Write("\n");
  return end ? EndBySignal(*end) : kExitError;
}

struct Words {
  bool watch = false;
  Text interval;
};

int RunHealth(const Program& program, const Words& words) {
  Arguments given;
  const absl::Duration interval =
      given.Duration("--interval", words.interval).value_or(absl::Seconds(1));
  if (!given.status().ok()) return program.Fail(given.status());
  if (words.interval && !words.watch) return program.Usage("--interval goes with --watch");
  if (interval < absl::Milliseconds(100)) return program.Usage("--interval must be 100ms or more");
  return words.watch ? Watch(program, interval) : Once(program);
}

}  // namespace

void AddHealth(CLI::App& app, Program& program) {
  CLI::App* health =
      app.add_subcommand("health", "Say how each node is: state, role, round trip, last error");
  const auto words = std::make_shared<Words>();
  health->add_flag("--watch", words->watch, "Again and again, until Ctrl-C");
  AddText(*health, "--interval", words->interval, "How often, with --watch (1s)", "TIME");
  health->footer(
      "Asks every node that is known: masters, replicas, Sentinels; with several --url, the "
      "servers\n"
      "of a quorum. --watch also prints each change as it happens. With --json, an object a look.\n"
      "\n"
      "Exit status, as monitors have it:\n"
      "  0    everything is there\n"
      "  1    it works; missing is something that is not needed at present: a replica, a Sentinel, "
      "a\n"
      "       minority of a quorum\n"
      "  2    it does not work: a node that holds keys is down or refuses us, or a quorum has no\n"
      "       majority. Also a bad argument, and then nothing is on stdout\n"
      "\n"
      "Examples:\n"
      "  coord health --url redis+sentinel://s1,s2,s3/mymaster\n"
      "  coord health --watch --url redis+cluster://10.0.0.1,10.0.0.2");
  health->callback([&program, words] { program.exit_code = RunHealth(program, *words); });
}

}  // namespace coord::tools
