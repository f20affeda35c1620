// The deployments of tools/dev/, which other tests stand on, and `coord dev`, which starts them.
// Some of these take more than 5 s: Redis Cluster and Sentinel have waits of their own.
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "coord/client.h"
#include "coord/internal/strings.h"
#include "gtest/gtest.h"
#include "tests/support/deployment.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"
#include "tools/dev/sentinels.h"
#include "tools/dev/servers.h"

namespace coord::testing {
namespace {

using internal::StrCat;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool Exists(const std::string& path) {
  struct stat found;
  return stat(path.c_str(), &found) == 0;
}

// Whether a process is there that is no zombie: who is nobody's child waits for init.
bool Lives(pid_t pid) {
  const std::string status = ReadFile(StrCat("/proc/", pid, "/status"));
  return !status.empty() && status.find("State:\tZ") == std::string::npos;
}

// Of all living processes: who runs in a directory below `directory`, as the servers do, or has it
// as its TMPDIR, as everybody between has. (A server overwrites its command line and environment.)
std::vector<pid_t> ProcessesOf(const std::string& directory, bool servers_only = false) {
  std::vector<pid_t> found;
  DIR* const proc = opendir("/proc");
  while (const dirent* entry = readdir(proc)) {
    const auto pid = internal::ParseInt64(entry->d_name);
    if (!pid || !Lives(static_cast<pid_t>(*pid))) continue;
    std::error_code gone;
    const std::string in =
        std::filesystem::read_symlink(StrCat("/proc/", *pid, "/cwd"), gone).string();
    const std::string environment = ReadFile(StrCat("/proc/", *pid, "/environ"));
    if (in.starts_with(directory) ||
        (!servers_only && environment.find("TMPDIR=" + directory) != std::string::npos)) {
      found.push_back(static_cast<pid_t>(*pid));
    }
  }
  closedir(proc);
  return found;
}

std::size_t Entries(const std::string& directory) {
  std::size_t count = 0;
  DIR* const opened = opendir(directory.c_str());
  while (const dirent* entry = readdir(opened)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(opened);
  return count;
}

TEST(DevServerTest, KeepsItsPortAndWhatItMustOverARestart) {
  const auto server = OrFatal(dev::Server::Start({.append_only = true}));
  const int port = server->port();
  ASSERT_OK(server->Ask({"SET", "k", "v"}));
  server->Kill();
  EXPECT_FALSE(server->Running());
  ASSERT_OK(server->Restart());
  EXPECT_EQ(server->port(), port);
  EXPECT_EQ(OrFatal(server->Ask({"GET", "k"})).text(), "v");
  server->Terminate();
  EXPECT_FALSE(server->Running());
  ASSERT_OK(server->Restart(dev::Server::Data::kDrop));
  EXPECT_TRUE(OrFatal(server->Ask({"GET", "k"})).is_nil());
}

TEST(DevServerTest, StandsStillWhilePaused) {
  const auto server = OrFatal(dev::Server::Start());
  server->Pause();
  EXPECT_TRUE(server->Running());
  EXPECT_THAT(server->Command({"PING"}, absl::Milliseconds(100)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("PING")));
  server->Resume();
  EXPECT_EQ(OrFatal(server->Ask({"PING"})).text(), "PONG");
}

TEST(DevServerTest, OneThatDoesNotStartShowsTheEndOfItsLog) {
  const auto server = dev::Server::Start({.settings = {"maxmemory-policy nonsense"}});
  EXPECT_THAT(server, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("exit status 1")));
  const auto taken = OrFatal(dev::Server::Start());
  EXPECT_THAT(dev::Server::Start({.port = taken->port()}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("already in use")));
}

TEST(DevServerTest, EndsWithItsOwnerAndItsFilesToo) {
  const TempDir told;
  Process owner = ForkAndRun([&] {
    const auto server = OrFatal(dev::Server::Start());
    std::ofstream(told.File("new")) << server->pid() << ' ' << server->data_directory();
    rename(told.File("new").c_str(), told.File("told").c_str());
    while (true) pause();
  });
  ASSERT_TRUE(Eventually([&] { return Exists(told.File("told")); }));
  pid_t pid = 0;
  std::string data;
  std::istringstream(ReadFile(told.File("told"))) >> pid >> data;
  EXPECT_TRUE(Lives(pid));
  EXPECT_TRUE(Exists(data));
  owner.Kill();
  EXPECT_TRUE(Eventually([&] { return !Lives(pid); }));
  EXPECT_TRUE(Eventually([&] { return !Exists(data.substr(0, data.rfind('/'))); }));
}

TEST(DevServerTest, AForkedChildThatEndsLeavesItAlone) {
  auto server = OrFatal(dev::Server::Start());
  Process child = ForkAndRun([&] {
    server.reset();
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_TRUE(server->Running());
  EXPECT_EQ(OrFatal(server->Ask({"PING"})).text(), "PONG");
}

TEST(DevClusterTest, CoversAllSlotsReplicatesMigratesAndFailsOver) {
  const auto cluster = OrFatal(dev::Cluster::Start());
  ASSERT_EQ(cluster->size(), 6u);
  EXPECT_THAT(cluster->url(), StartsWith("redis+cluster://127.0.0.1:"));
  for (const int slot : {0, 5461, 5462, 10922, 10923, 16383}) {
    EXPECT_LT(OrFatal(cluster->master_of(slot)), 3u) << slot;
  }
  const int slot = OrFatal(cluster->slot_of("{a}0"));
  const std::size_t from = OrFatal(cluster->master_of(slot));
  const std::size_t to = (from + 1) % 3;
  for (int i = 0; i < 250; ++i) {
    ASSERT_OK(cluster->node(from).Ask({"SET", StrCat("{a}", i), StrCat(i)}));
  }
  const std::vector<std::size_t> replicas = OrFatal(cluster->replicas_of(from));
  ASSERT_EQ(replicas.size(), 1u);
  EXPECT_TRUE(Eventually(
      [&] { return OrFatal(cluster->node(replicas[0]).Ask({"DBSIZE"})).integer() == 250; }));

  // Half way: the old owner sends on for what it no longer has.
  OrFatal(cluster->SetImporting(slot, from, to));
  OrFatal(cluster->SetMigrating(slot, from, to));
  EXPECT_EQ(OrFatal(cluster->MoveKeys(slot, from, to, 120)), 120u);
  EXPECT_EQ(OrFatal(cluster->node(to).Ask({"DBSIZE"})).integer(), 120);
  EXPECT_THAT(OrFatal(cluster->node(from).Command({"GET", "{a}new"})).text(), StartsWith("ASK "));
  EXPECT_EQ(OrFatal(cluster->MoveKeys(slot, from, to)), 130u);
  OrFatal(cluster->SetOwner(slot, to));
  OrFatal(cluster->WaitUntilOk());
  EXPECT_EQ(OrFatal(cluster->master_of(slot)), to);
  EXPECT_EQ(OrFatal(cluster->node(to).Ask({"GET", "{a}249"})).text(), "249");
  EXPECT_THAT(OrFatal(cluster->node(from).Command({"GET", "{a}249"})).text(), StartsWith("MOVED "));

  const std::size_t replica = OrFatal(cluster->replicas_of(to)).at(0);
  OrFatal(cluster->Failover(replica));
  EXPECT_EQ(OrFatal(cluster->master_of(slot)), replica);
  EXPECT_FALSE(OrFatal(cluster->IsMaster(to)));
  EXPECT_EQ(OrFatal(cluster->node(replica).Ask({"GET", "{a}249"})).text(), "249");

  const std::size_t empty = OrFatal(cluster->AddEmptyMaster());
  EXPECT_EQ(empty, 6u);
  OrFatal(cluster->MigrateSlot(slot, empty));
  EXPECT_EQ(OrFatal(cluster->node(empty).Ask({"DBSIZE"})).integer(), 250);
}

TEST(DevClusterTest, WithTlsAndAUserAKilledMasterIsReplacedAndComesBackAsAReplica) {
  const auto cluster =
      OrFatal(dev::Cluster::Start({.tls = true, .credentials = {"alice", "se\"cret"}}));
  EXPECT_THAT(cluster->url(), StartsWith("rediss+cluster://127.0.0.1:"));
  const int slot = OrFatal(cluster->slot_of("k"));
  const std::size_t master = OrFatal(cluster->master_of(slot));
  ASSERT_OK(cluster->node(master).Ask({"SET", "k", "v"}));
  OrFatal(cluster->MigrateSlot(slot, (master + 1) % 3));
  OrFatal(cluster->MigrateSlot(slot, master));
  OrFatal(cluster->WaitUntilOk());
  cluster->KillNode(master);
  EXPECT_FALSE(cluster->WaitUntilOk(absl::ZeroDuration()).ok());
  OrFatal(cluster->WaitUntilOk());
  const std::size_t next = OrFatal(cluster->master_of(slot));
  EXPECT_NE(next, master);
  OrFatal(cluster->RestartNode(master));
  OrFatal(cluster->WaitUntilOk());
  EXPECT_FALSE(OrFatal(cluster->IsMaster(master)));
  EXPECT_EQ(OrFatal(cluster->master_of(slot)), next);
}

// These may take 10 s: when Sentinels that look at the same time vote for themselves, they vote
// again seconds later.
TEST(DevSentinelsTest, WithPasswordsPromoteAnotherWhenTheMasterIsKilled) {
  const auto sentinels =
      OrFatal(dev::Sentinels::Start({.credentials = {"", "data"}, .sentinel_password = "watch"}));
  EXPECT_THAT(sentinels->url(), StartsWith("redis+sentinel://127.0.0.1:"));
  EXPECT_THAT(RawRedis(StrCat("redis://127.0.0.1:", sentinels->sentinel(0).port()))
                  .Command({"SENTINEL", "MASTERS"})
                  .text(),
              StartsWith("NOAUTH"));
  EXPECT_EQ(OrFatal(sentinels->KillMaster()), 0u);
  EXPECT_FALSE(sentinels->WaitUntilOk(absl::ZeroDuration()).ok());
  OrFatal(sentinels->WaitUntilOk());
  const std::size_t second = OrFatal(sentinels->master());
  EXPECT_NE(second, 0u);
  ASSERT_OK(sentinels->server(second).Ask({"SET", "k", "v"}));
}

TEST(DevSentinelsTest, PromoteAnotherWhenAsked) {
  const auto sentinels = OrFatal(dev::Sentinels::Start({.tls = true}));
  EXPECT_THAT(sentinels->url(), StartsWith("rediss+sentinel://127.0.0.1:"));
  EXPECT_EQ(OrFatal(sentinels->master()), 0u);
  OrFatal(sentinels->Failover());
  const std::size_t second = OrFatal(sentinels->master());
  EXPECT_NE(second, 0u);
  ASSERT_OK(sentinels->server(second).Ask({"SET", "k", "v"}));
}

TEST(DevTlsTest, TakesAClientThatTrustsItsAuthority) {
  const auto tls = OrFatal(dev::TlsServer::Start());
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(tls->url()));
  EXPECT_OK(client.Command({"SET", "k", "v"}));
}

TEST(DevTlsTest, RefusesAClientWithoutACertificateWhereOneIsAskedFor) {
  const auto tls = OrFatal(dev::TlsServer::Start({.client_certificates = true}));
  EXPECT_THAT(Client::Connect(tls->url_without_certificate()),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("certificate")));
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(tls->url()));
  EXPECT_OK(client.Command({"SET", "k", "v"}));
}

TEST(DevQuorumTest, HasIndependentServers) {
  const auto quorum = OrFatal(dev::Quorum::Start({.servers = 3}));
  for (const std::string& url : quorum->urls()) {
    RawRedis redis(url);
    EXPECT_EQ(redis.Text({"SET", "k", "v"}), "OK");
    EXPECT_EQ(redis.Integer({"DBSIZE"}), 1);
  }
}

#ifdef COORD_PROGRAM

// `coord dev` with a directory for its files that nobody else has.
class DevProgramTest : public ::testing::Test {
 protected:
  std::vector<std::string> CommandLine(const std::vector<std::string>& words) const {
    std::vector<std::string> line = {COORD_PROGRAM, "dev"};
    line.insert(line.end(), words.begin(), words.end());
    return line;
  }
  ProcessOptions Options() const { return {.env = {{"TMPDIR", temporary_.path()}}}; }
  Process Start(const std::vector<std::string>& words) const {
    return Process(CommandLine(words), Options());
  }
  ProcessResult Run(const std::vector<std::string>& words) const {
    return RunProgram(CommandLine(words), Options(), absl::Seconds(60));
  }
  bool NothingIsLeft() const {
    return Eventually([this] {
      return Entries(temporary_.path()) == 0 && ProcessesOf(temporary_.path()).empty();
    });
  }
  std::size_t Servers() const { return ProcessesOf(temporary_.path(), true).size(); }

  const TempDir temporary_;
};

TEST_F(DevProgramTest, RunsACommandWithTheUrlAndEndsWithItsStatus) {
  const ProcessResult result = Run({"tls", "--", "sh", "-c", "echo $COORD_URL; exit 7"});
  EXPECT_EQ(result.exit_code, 7) << result.err;
  EXPECT_THAT(result.out, StartsWith("rediss://localhost:"));
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(DevProgramTest, PrintsWhatAShellNeedsAndEndsAtASignal) {
  Process dev = Start({"cluster", "--replicas", "0"});
  ASSERT_TRUE(Eventually([&] { return dev.err().ends_with("\n"); }, absl::Seconds(30)));
  EXPECT_THAT(dev.out(), StartsWith("export COORD_URL='redis+cluster://127.0.0.1:"));
  EXPECT_THAT(dev.err(), HasSubstr("Ctrl-C ends it"));
  EXPECT_THAT(dev.err(), HasSubstr("master 2"));
  EXPECT_EQ(Servers(), 3u);
  EXPECT_GT(ProcessesOf(temporary_.path()).size(), 4u);  // and what watches over them
  dev.Signal(SIGTERM);
  EXPECT_EQ(dev.Wait().exit_code, 128 + SIGTERM);
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(DevProgramTest, KilledItTakesAllWithIt) {
  Process dev = Start({"quorum", "--servers", "3"});
  ASSERT_TRUE(Eventually([&] { return dev.err().ends_with("\n"); }, absl::Seconds(30)));
  EXPECT_EQ(Servers(), 3u);
  dev.Kill();
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(DevProgramTest, EndsWithTheOneWhoStartedIt) {
  Process shell({"sh", "-c", StrCat("'", COORD_PROGRAM, "' dev tls & wait")}, Options());
  ASSERT_TRUE(Eventually([&] { return shell.err().ends_with("\n"); }, absl::Seconds(30)));
  EXPECT_EQ(Servers(), 1u);
  shell.Kill();
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(DevProgramTest, ASignalWhileStartingLeavesNothing) {
  Process dev = Start({"cluster"});
  ASSERT_TRUE(Eventually([&] { return Servers() > 0; }, absl::Seconds(30)));
  dev.Signal(SIGTERM);
  EXPECT_EQ(dev.Wait().exit_code, 128 + SIGTERM);
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(DevProgramTest, TheQuorumVotesAtOnce) {
  const ProcessResult result =
      Run({"quorum", "--servers", "3", "--", "sh", "-c",
           StrCat("'", COORD_PROGRAM, "' lock x --wait 10s $COORD_QUORUM -- echo held")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "held\n");
}

TEST_F(DevProgramTest, WhatCannotBeIsRefusedBeforeAnythingStarts) {
  using Words = std::vector<std::string>;
  for (const Words& words :
       {Words{}, Words{"moon"}, Words{"cluster", "--masters", "0"},
        Words{"cluster", "--masters", "x"}, Words{"cluster", "extra", "--"},
        Words{"cluster", "--node-timeout", "7"}, Words{"cluster", "--replicas", "101"},
        Words{"sentinel", "--replicas=-1"}, Words{"quorum", "--servers", "4"},
        Words{"tls", "--nonsense"}, Words{"tls", "--"}}) {
    const ProcessResult result = Run(words);
    EXPECT_EQ(result.exit_code, 2) << result.out << result.err;
    EXPECT_THAT(result.err, StartsWith("coord: "));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(Run({"tls", "--", "/nowhere"}).exit_code, 127);
}

#endif  // COORD_PROGRAM

}  // namespace
}  // namespace coord::testing
