// coord demo: processes that coordinate, and a check of every number that comes out.
#include "tools/demo.h"

#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "tools/demo_cache.h"
#ifdef COORD_HAS_HTTP
#include "tools/demo_fetch.h"
#endif
#include "tools/demo_failover.h"
#include "tools/demo_worker.h"
#include "tools/duration_text.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

// Everything a scene writes; see README, "Names", for how keys are called.
constexpr std::pair<const char*, const char*> kKeys[] = {
    {"lock", "lease"},    {"lock", "fence"},     {"lock", "queue"},   {"killed", "queue"},
    {"killed", "lease"},  {"killed", "fence"},   {"shared", "queue"}, {"shared", "lease"},
    {"shared", "fence"},  {"shared", "readers"}, {"limit", "gcra"},   {"both", "gcra"},
    {"both-A", "gcra"},   {"both-B", "gcra"},    {"both-C", "gcra"},  {"both-D", "gcra"},
    {"both-E", "gcra"},   {"both-F", "gcra"},    {"both-G", "gcra"},  {"both-H", "gcra"},
    {"events", "list"},   {"events", "seq"},     {"gap", "list"},     {"gap", "seq"},
    {"gap", "followers"}, {"job", "json"},       {"stale", "json"},   {"visits", "count"},
    {"cut", "count"},     {"cut-plain", "count"}};

void RemoveKeys(const DemoStage& stage) {
  Pipeline pipeline;
  for (const auto& [what, part] : kKeys) {
    pipeline.Add({"DEL", stage.client.options().prefix + "{" + stage.Name(what) + "}:" + part});
  }
  // The answers to operation ids, by their place: see README, "Names".
  for (int i = 0; i < 64; ++i) {
    pipeline.Add({"DEL", absl::StrFormat("%s{%s}:op:%d", stage.client.options().prefix,
                                         stage.Name("cut"), i)});
  }
  AddRemovals(stage, pipeline);
  // What cannot be removed now goes away by its time to live.
  (void)stage.client.Execute(pipeline, {.timeout = absl::Seconds(1)});
}

std::string PercentEncoded(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("/._-").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return out;
}

// How the workers get to where `client` is.
Place PlaceOf(const Client& client, const Program& program, const std::string& node) {
  const std::string socket = IsPrivate(program.url()) ? SocketUrl(node) : "";
  return {{socket.empty() ? program.url() : socket}, client.options().prefix, program.timeout};
}

absl::Status Play(DemoStage& stage) {
  using Scene = absl::Status (*)(DemoStage&);
  for (const Scene scene : {
           &PlayLock,
           &PlayKilledHolder,
           &PlayReaders,
           &PlayQuorum,
           &PlayLimiter,
           &PlayLimits,
           &PlayList,
           &PlayGap,
           &PlayJson,
           &PlayTakeover,
           &PlayCounter,
           &PlayCuts,
           &PlayFailover,
           &PlayStampede,
           &PlayStale,
#ifdef COORD_HAS_HTTP
           &PlayFetch,
#endif
       }) {
    if (absl::Status status = scene(stage); !status.ok()) return status;
    if (SignalWatch::Caught() != 0) return absl::CancelledError("interrupted");
  }
  return absl::OkStatus();
}

int Summary(const Program& program, const DemoReport& report, const absl::Status& status,
            absl::Duration took) {
  const bool right = status.ok() && report.all_right();
  if (program.json) {
    nlohmann::json out = {{"ok", right},
                          {"checks", report.checks()},
                          {"wrong", report.wrong()},
                          {"seconds", absl::ToDoubleSeconds(took)},
                          {"scenes", report.scenes()}};
    if (!status.ok()) out["error"] = std::string(status.message());
    PrintJson(out);
  } else if (right) {
    std::cout << absl::StrFormat("\nAll right: %d of %d checks, in %s.\n", report.checks(),
                                 report.checks(), Brief(took));
  }
  std::cout.flush();
  if (const int signal = SignalWatch::Caught(); signal != 0) {
    std::cerr << "coord: the demo was interrupted; all is cleaned up\n";
    return 128 + signal;
  }
  if (!status.ok()) {
    std::cerr << "coord: the demo could not be played to its end: " << status.message() << '\n';
    return kExitError;
  }
  for (const std::string& wrong : report.wrong()) std::cerr << "coord: WRONG: " << wrong << '\n';
  return right ? kExitOk : kExitError;
}

int RunDemo(Program program) {
  const std::int64_t start = BootNanoseconds();
  // Not $COORD_URL: what comes from there may be a server that others work with.
  if (program.urls.empty()) program.urls = {"embedded://?private"};
  const SignalWatch watch;
  const absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return program.Fail(client.status());
  const Health health = client->Health();
  if (!health.ok()) {
    return program.Fail(health.nodes.empty() ? absl::UnavailableError("no server")
                                             : health.nodes[0].status);
  }
  DemoReport report(program.json);
  DemoStage stage{*client, PlaceOf(*client, program, health.nodes[0].node),
                  absl::StrFormat("%08x", std::random_device{}()), report};
  report.Line(absl::StrFormat("Processes coordinate through %s%s.",
                              IsPrivate(program.url()) ? "a private " : client->ToString() + ", ",
                              health.nodes[0].server));
  const absl::Status status = Play(stage);
  RemoveKeys(stage);
  return Summary(program, report, status, absl::Nanoseconds(BootNanoseconds() - start));
}

}  // namespace

bool IsPrivate(std::string_view url) {
  return url.starts_with("embedded://") && url.find("private") != std::string_view::npos;
}

std::string SocketUrl(std::string_view node) {
  constexpr std::string_view kUnix = "unix:";
  if (!node.starts_with(kUnix)) return "";
  return "unix://" + PercentEncoded(node.substr(kUnix.size()));
}

void DemoReport::Scene(const std::string& id, const std::string& title) {
  title_ = title;
  scenes_.push_back({{"scene", id}, {"ok", true}, {"checks", nlohmann::json::array()}});
  Line();
  Line(absl::StrFormat("%d. %s", scenes_.size(), title));
  Line();
}

void DemoReport::Line(const std::string& text) {
  if (!quiet_) std::cout << text << '\n' << std::flush;
}

void DemoReport::Check(bool holds, const std::string& claim, const std::string& wrong) {
  ++checks_;
  Line(holds ? "  ok     " + claim : "  WRONG  " + wrong);
  scenes_.back()["checks"].push_back({{"ok", holds}, {"what", holds ? claim : wrong}});
  if (holds) return;
  scenes_.back()["ok"] = false;
  wrong_.push_back(wrong);
}

void DemoReport::Fact(const std::string& name, nlohmann::json value) {
  scenes_.back()[name] = std::move(value);
}

void AddDemo(CLI::App& app, Program& program) {
  CLI::App* demo = app.add_subcommand(
      "demo", "Show it at work: processes on a private server, and a check of every number");
  demo->footer(
      "Without --url it starts a server of its own, which ends with it. Those that vote, and those "
      "that\n"
      "fail over, are always its own.");
  demo->callback([&program] { program.exit_code = RunDemo(program); });

  // Started by the demo itself, with descriptors that nobody else hands down.
  CLI::App* worker = app.add_subcommand("demo-worker", "One process of the demo");
  worker->group("");
  auto task = std::make_shared<WorkerTask>();
  auto letter = std::make_shared<std::string>();
  worker->add_option("role", task->role)->required();
  worker->add_option("letter", *letter)->required();
  worker->add_option("name", task->name)->required();
  worker->add_option("number", task->number);
  worker->callback([&program, task, letter] {
    task->letter = letter->empty() ? '?' : letter->front();
    program.exit_code = RunWorker(program, *task);
  });
}

}  // namespace coord::tools
