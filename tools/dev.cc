// coord dev: deployments of real servers on this host, for trying things out.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/quorum.h"
#include "tools/arguments.h"
#include "tools/child_process.h"
#include "tools/dev/cluster.h"
#include "tools/dev/sentinels.h"
#include "tools/dev/servers.h"
#include "tools/guarded_command.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::StrCat;

// What runs, and how others get to it.
struct Running {
  std::shared_ptr<void> deployment;     // ends it when it goes
  std::string variable = "COORD_URL";   // the variable of the environment
  std::string value;                    // and what it says
  std::vector<std::string> nodes = {};  // a line each, for a person
};

using Starter = std::function<absl::StatusOr<Running>(std::stop_token)>;

std::string NodeLine(std::string_view role, dev::Server& server) {
  std::string line(role);
  line.resize(std::max<std::size_t>(line.size() + 1, 24), ' ');
  return StrCat(line, "port ", server.port(), "  pid ", server.pid());
}

// In single quotes, as a shell takes it.
std::string ShellText(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

void WaitForEnd(const CaughtSignals& signals, std::optional<signalfd_siginfo>& end) {
  while (!end) {
    pollfd ready = {signals.fd(), POLLIN, 0};
    poll(&ready, 1, -1);
    while (const std::optional<signalfd_siginfo> info = signals.Next()) {
      if (info->ssi_signo == SIGTSTP) signals.StopHere();
      if (EndsPrograms(*info)) end = info;
    }
  }
}

int RunDeployment(const Program& program, const Starter& start) {
  std::vector<std::string> command;
  std::string path;
  if (program.tail) {
    if (program.tail->empty()) return program.Usage("COMMAND is missing behind \"--\"");
    command = *program.tail;
    const Executable executable = FindExecutable(command[0]);
    if (executable.fault != 0) return CannotRun(command[0], executable.fault);
    path = executable.path;
  }
  // A deployment that nobody will end: whoever started us is gone.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  const CaughtSignals signals;
  std::stop_source stop;
  StopOnSignal stopper(signals, stop);
  stopper.ReadyToStop();
  absl::StatusOr<Running> running = start(stop.get_token());
  std::optional<signalfd_siginfo> end = stopper.Finish();
  if (end) {
    running = absl::CancelledError();  // what runs has to end before we do
    Say("stopped by a signal while starting");
    return EndBySignal(*end);
  }
  if (!running.ok()) return program.Fail(running.status());
  std::string about;
  for (const std::string& node : running->nodes) about += StrCat("coord:   ", node, "\n");
  if (command.empty()) {
    PrintLine(StrCat("export ", running->variable, "=", ShellText(running->value)));
    std::fflush(stdout);
    Say(StrCat("runs on 127.0.0.1, Ctrl-C ends it\n", about.substr(0, about.size() - 1)));
    WaitForEnd(signals, end);
    running->deployment.reset();
    return EndBySignal(*end);
  }
  return RunGuarded({.title = "deployment",
                     .lost = {},
                     .release =
                         [&running] {
                           running->deployment.reset();
                           return absl::OkStatus();
                         },
                     .words = command,
                     .path = path,
                     .environment = {{running->variable, running->value}}},
                    signals)
      .exit_code;
}

struct ClusterWords {
  Text masters;
  Text replicas;
  Text node_timeout;
  bool tls = false;
};

// A count of servers. Each takes some 10 MB and two ports.
std::optional<std::size_t> Count(Arguments& given, std::string_view what, const Text& text,
                                 std::int64_t least, absl::Status& status) {
  constexpr std::int64_t kMost = 100;
  const std::optional<std::int64_t> count = given.Integer(what, text, least);
  if (!count) return std::nullopt;
  if (*count > kMost && status.ok()) {
    status = InvalidArgument(StrCat(what, " is ", *count, "; the most is ", kMost));
  }
  return static_cast<std::size_t>(*count);
}

int RunCluster(const Program& program, const ClusterWords& words) {
  Arguments given;
  absl::Status status;
  dev::ClusterOptions options;
  options.masters = Count(given, "--masters", words.masters, 1, status).value_or(3);
  options.replicas = Count(given, "--replicas", words.replicas, 0, status).value_or(1);
  options.node_timeout =
      given.Duration("--node-timeout", words.node_timeout).value_or(options.node_timeout);
  options.tls = words.tls;
  if (!given.status().ok()) return program.Fail(given.status());
  if (!status.ok()) return program.Fail(status);
  if (options.node_timeout < absl::Milliseconds(100)) {
    return program.Usage("--node-timeout must be 100ms or more");
  }
  return RunDeployment(program, [&](std::stop_token stop) -> absl::StatusOr<Running> {
    options.stop = std::move(stop);
    absl::StatusOr<std::unique_ptr<dev::Cluster>> started = dev::Cluster::Start(options);
    if (!started.ok()) return started.status();
    dev::Cluster& cluster = **started;
    Running running{.deployment = nullptr, .value = cluster.url()};
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      const std::size_t master = i < options.masters ? i : (i - options.masters) / options.replicas;
      running.nodes.push_back(NodeLine(
          i < options.masters ? StrCat("master ", i) : StrCat("replica of master ", master),
          cluster.node(i)));
    }
    running.deployment = *std::move(started);
    return running;
  });
}

struct SentinelWords {
  Text replicas;
  Text sentinels;
};

int RunSentinel(const Program& program, const SentinelWords& words) {
  Arguments given;
  absl::Status status;
  dev::SentinelsOptions options;
  options.replicas = Count(given, "--replicas", words.replicas, 0, status).value_or(2);
  options.sentinels = Count(given, "--sentinels", words.sentinels, 1, status).value_or(3);
  options.quorum = options.sentinels / 2 + 1;
  if (!given.status().ok()) return program.Fail(given.status());
  if (!status.ok()) return program.Fail(status);
  return RunDeployment(program, [&](std::stop_token stop) -> absl::StatusOr<Running> {
    options.stop = std::move(stop);
    absl::StatusOr<std::unique_ptr<dev::Sentinels>> started = dev::Sentinels::Start(options);
    if (!started.ok()) return started.status();
    dev::Sentinels& sentinels = **started;
    Running running{.deployment = nullptr, .value = sentinels.url()};
    for (std::size_t i = 0; i < sentinels.size(); ++i) {
      running.nodes.push_back(NodeLine(i == 0 ? "master" : "replica", sentinels.server(i)));
    }
    for (std::size_t i = 0; i < sentinels.sentinels(); ++i) {
      running.nodes.push_back(NodeLine("sentinel", sentinels.sentinel(i)));
    }
    running.deployment = *std::move(started);
    return running;
  });
}

int RunTls(const Program& program, bool client_certificate) {
  return RunDeployment(program, [&](const std::stop_token&) -> absl::StatusOr<Running> {
    absl::StatusOr<std::unique_ptr<dev::TlsServer>> started =
        dev::TlsServer::Start({.client_certificates = client_certificate});
    if (!started.ok()) return started.status();
    Running running{.deployment = nullptr, .value = (*started)->url()};
    running.nodes = {NodeLine("server", (*started)->server())};
    running.deployment = *std::move(started);
    return running;
  });
}

int RunQuorum(const Program& program, const Text& servers) {
  Arguments given;
  absl::Status status;
  dev::QuorumOptions options;
  options.servers = Count(given, "--servers", servers, 3, status).value_or(5);
  if (!given.status().ok()) return program.Fail(given.status());
  if (status.ok() && (options.servers > 31 || options.servers % 2 == 0)) {
    status = InvalidArgument(
        StrCat("--servers is ", options.servers, "; it must be an odd number from 3 to 31"));
  }
  if (!status.ok()) return program.Fail(status);
  return RunDeployment(program, [&](std::stop_token stop) -> absl::StatusOr<Running> {
    options.stop = std::move(stop);
    absl::StatusOr<std::unique_ptr<dev::Quorum>> started = dev::Quorum::Start(options);
    if (!started.ok()) return started.status();
    dev::Quorum& quorum = **started;
    // New servers would not vote for the first 45 s, and nobody can have a lock here yet.
    absl::Status declared = Quorum::DeclareNew(quorum.urls());
    if (!declared.ok()) return declared;
    Running running{.deployment = nullptr, .variable = "COORD_QUORUM", .value = ""};
    for (std::size_t i = 0; i < quorum.size(); ++i) {
      running.value += StrCat(i == 0 ? "" : " ", "--url ", quorum.urls()[i]);
      running.nodes.push_back(NodeLine("server", quorum.server(i)));
    }
    running.deployment = *std::move(started);
    return running;
  });
}

CLI::App* AddDeployment(CLI::App& dev, const std::string& name, const std::string& description,
                        const std::string& footer) {
  CLI::App* app = dev.add_subcommand(name, description);
  app->footer(footer);
  return app;
}

}  // namespace

void AddDev(CLI::App& app, Program& program) {
  CLI::App* dev = app.add_subcommand("dev", "Start servers of one's own, for trying things out");
  dev->require_subcommand(1);
  dev->footer(
      "Real servers on 127.0.0.1, with free ports. Prints the line that sets COORD_URL for a "
      "shell,\n"
      "and ends them, with their files, at Ctrl-C. With a command: runs it with COORD_URL set, "
      "and\n"
      "ends with its exit status. They also end when coord is killed, or who started it has "
      "gone.\n"
      "The server program is the first redis-server, else valkey-server, in PATH.\n"
      "\n"
      "Examples:\n"
      "  coord dev cluster                      # then, in another shell: export COORD_URL=...\n"
      "  coord dev tls -- coord counter add visits\n"
      "  coord dev quorum -- sh -c 'coord lock deploy $COORD_QUORUM -- ./deploy.sh'");

  const auto cluster_words = std::make_shared<ClusterWords>();
  CLI::App* cluster = AddDeployment(*dev, "cluster", "A Redis Cluster",
                                    "Kill the pid of a master to see its replica take over.");
  AddText(*cluster, "--masters", cluster_words->masters, "How many share the slots (3)", "N");
  AddText(*cluster, "--replicas", cluster_words->replicas, "Of each master (1)", "N");
  AddText(*cluster, "--node-timeout", cluster_words->node_timeout,
          "How long a node may be silent before it has failed (1s)", "TIME");
  cluster->add_flag("--tls", cluster_words->tls, "TLS for clients and between the nodes");
  cluster->callback(
      [&program, cluster_words] { program.exit_code = RunCluster(program, *cluster_words); });

  const auto sentinel_words = std::make_shared<SentinelWords>();
  CLI::App* sentinel =
      AddDeployment(*dev, "sentinel", "A master with replicas, and Sentinels that watch it",
                    "The master's name is mymaster. Kill its pid to see a replica take over.");
  AddText(*sentinel, "--replicas", sentinel_words->replicas, "Of the master (2)", "N");
  AddText(*sentinel, "--sentinels", sentinel_words->sentinels, "More than half promote (3)", "N");
  sentinel->callback(
      [&program, sentinel_words] { program.exit_code = RunSentinel(program, *sentinel_words); });

  const auto client_certificate = std::make_shared<bool>(false);
  CLI::App* tls = AddDeployment(*dev, "tls", "One server that speaks TLS",
                                "The URL names the authority's certificate, a file that goes with "
                                "the server.");
  tls->add_flag("--client-certificate", *client_certificate,
                "Refuse clients without a certificate; the URL names one");
  tls->callback(
      [&program, client_certificate] { program.exit_code = RunTls(program, *client_certificate); });

  const auto servers = std::make_shared<Text>();
  CLI::App* quorum =
      AddDeployment(*dev, "quorum", "Independent servers that vote",
                    "Sets COORD_QUORUM, the --url options for `coord lock`, and declares them new "
                    "(see coord\n"
                    "quorum init), so that they vote at once.");
  AddText(*quorum, "--servers", *servers, "How many (5)", "N");
  quorum->callback([&program, servers] { program.exit_code = RunQuorum(program, *servers); });
}

}  // namespace coord::tools
