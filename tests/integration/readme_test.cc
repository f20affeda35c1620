// What README.md says, done.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/barrier.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/election.h"
#include "coord/fenced_store.h"
#include "coord/json_document.h"
#include "coord/latch.h"
#include "coord/multi_mutex.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "coord/rw_mutex.h"
#include "coord/semaphore.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

std::vector<std::string> ReadmeLines() {
  std::ifstream file(COORD_SOURCE_DIR "/README.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The lines of all blocks fenced as ```sh.
std::vector<std::string> ShellCommands() {
  std::vector<std::string> commands;
  bool inside = false;
  for (const std::string& line : ReadmeLines()) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
    } else if (inside && !line.empty()) {
      commands.push_back(line);
    }
  }
  return commands;
}

TEST(ReadmeTest, EveryShellCommandDoesWhatItSays) {
  const TempDir directory;
  const std::string program = COORD_PROGRAM;
  const std::string path = program.substr(0, program.rfind('/')) + ":" + getenv("PATH");
  ProcessOptions options;
  // The embedded server of a user who has just logged in for the first time.
  options.env = {{"PATH", path},
                 {"COORD_URL", ""},
                 {"XDG_RUNTIME_DIR", directory.path()},
                 {"XDG_STATE_HOME", directory.path()}};
  const std::vector<std::string> commands = ShellCommands();
  ASSERT_GE(commands.size(), 10u);
  for (const std::string& command : commands) {
    const ProcessResult result = RunProgram({"/bin/sh", "-c", command}, options);
    EXPECT_TRUE(result.ok()) << command << "\n" << result.out << result.err;
  }
  const ProcessResult stopped = RunProgram({program, "embedded", "stop"}, options);
  EXPECT_TRUE(stopped.ok()) << stopped.err;
}

// The ACL rules in backquotes, which may go over several lines.
std::vector<std::string> ListedRights() {
  std::string text;
  for (const std::string& line : ReadmeLines()) text += line + " ";
  const std::size_t begin = text.find("`~coord:*") + 1;
  std::istringstream words(text.substr(begin, text.find('`', begin) - begin));
  std::vector<std::string> rights;
  for (std::string word; words >> word;) rights.push_back(word);
  return rights;
}

// Each of them once without, and where they can once with waiting for another process.
void UseEveryKindOfLock(const Client& client, const Client& other) {
  const absl::Duration soon = absl::Seconds(5);
  const auto while_waited_for = [&](auto holder, auto acquire) {
    std::jthread waiter([&] { EXPECT_OK(acquire()); });
    EXPECT_TRUE(Eventually([&] {
      absl::StatusOr<LockHolder> who = Mutex(client, "m").Holder();
      return !who.ok() || !who->waiters.empty();
    }));
    EXPECT_OK(holder.Release());
  };
  const RwMutex mutex(client, "m");
  const RwMutex others(other, "m");
  for (const bool shared : {false, true}) {
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex.Acquire(soon));
    while_waited_for(std::move(lease), [&] {
      return (shared ? others.AcquireShared(soon) : others.Acquire(soon)).status();
    });
  }
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.AcquireShared(soon));
  EXPECT_OK(lease.Renew(soon));
  EXPECT_OK(mutex.Upgrade(lease));
  EXPECT_OK(mutex.Downgrade(lease));
  EXPECT_OK(lease.Release());
  ASSERT_OK_AND_ASSIGN(lease, mutex.Acquire(soon));
  EXPECT_OK(FencedStore(client, "m").Set(lease.token(), "x"));
  EXPECT_OK(FencedStore(client, "m").Get());
  EXPECT_OK(Mutex(client, "m").ForceRelease());

  const Semaphore semaphore(client, "s", {.permits = 2});
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.Acquire(soon, 2));
  EXPECT_OK(permit.Renew(soon));
  {
    std::jthread waiter(
        [&] { EXPECT_OK(Semaphore(other, "s", {.permits = 2}).Acquire(soon).status()); });
    EXPECT_TRUE(Eventually([&] {
      absl::StatusOr<SemaphoreUse> use = semaphore.Available();
      return !use.ok() || !use->waiters.empty();
    }));
    EXPECT_OK(permit.Release());
  }
  const Latch latch(client, "l", {.count = 1});
  {
    std::jthread waiter([&] { EXPECT_OK(Latch(other, "l", {.count = 1}).Wait(soon)); });
    EXPECT_OK(latch.CountDown());
  }
  EXPECT_OK(latch.Count());
  EXPECT_FALSE(Latch(client, "never", {.count = 1}).Wait(absl::Milliseconds(10)).ok());
  const Barrier barrier(client, "b", {.parties = 2});
  {
    std::jthread waiter([&] { EXPECT_OK(Barrier(other, "b", {.parties = 2}).Await(soon)); });
    EXPECT_OK(barrier.Await(soon));
  }
  EXPECT_FALSE(barrier.Await(absl::Milliseconds(10)).ok());
  const Election election(client, "e");
  ASSERT_OK_AND_ASSIGN(Leadership lead, election.Campaign("here", soon));
  EXPECT_OK(lead.Proclaim("there"));
  EXPECT_OK(Election(other, "e").GetLeader());
  EXPECT_OK(lead.Resign());
  ASSERT_OK_AND_ASSIGN(MultiLease several, MultiMutex(client, {"x", "y"}).Acquire(soon));
  EXPECT_OK(several.Renew(soon));
  EXPECT_OK(several.Release());
}

TEST(ReadmeTest, TheRightsItListsSufficeForEveryPrimitive) {
  std::vector<std::string> args = {"--user", "ann", "on", ">secret"};
  const std::vector<std::string> rights = ListedRights();
  ASSERT_GT(rights.size(), 10u);
  args.insert(args.end(), rights.begin(), rights.end());
  RedisServer server({.args = args});
  const std::string url = "unix://ann:secret@" + server.socket_path();
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(url));

  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "a").Acquire(absl::Seconds(5)));
  EXPECT_OK(lease.Renew(absl::Seconds(5)));
  EXPECT_OK(lease.Release());
  const Counter counter(client, "a");
  EXPECT_OK(counter.Add(1, {.max = 10, .ttl = absl::Seconds(60)}));
  EXPECT_OK(counter.Get());
  EXPECT_OK(counter.Set(3));
  EXPECT_OK(counter.Reset());
  const RateLimiter limiter(client, {.permits = 10});
  EXPECT_OK(limiter.Take("a"));
  EXPECT_OK(limiter.Peek("a"));
  EXPECT_OK(limiter.Reset("a"));
  const CappedList list(client, "a", {.max_items = 1, .ttl = absl::Seconds(60)});
  EXPECT_OK(list.Push("x"));
  EXPECT_OK(list.Push("y"));
  EXPECT_OK(list.Range());
  const JsonDocument document(client, "a");
  EXPECT_OK(document.Set(R"({"n":1,"s":"x"})"));
  EXPECT_OK(document.Get());
  EXPECT_OK(document.CompareAndSetField("/n", "1", "2"));
  EXPECT_OK(document.CompareAndSetField("/n", "2", "2000"));
  EXPECT_TRUE(client.Health().ok());
  ASSERT_OK_AND_ASSIGN(const Client other, Client::Connect(url));
  UseEveryKindOfLock(client, other);
  // And no more than that.
  EXPECT_EQ(client.Command({"FLUSHALL"}).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST(ReadmeTest, ItsFirstCommandsAreThere) {
  int found = 0;
  for (const std::string& line : ReadmeLines()) {
    if (!line.starts_with("    tools/")) continue;
    const std::string script = std::string(COORD_SOURCE_DIR) + "/" + line.substr(4);
    EXPECT_EQ(access(script.c_str(), X_OK), 0) << script;
    EXPECT_TRUE(RunProgram({"/bin/bash", "-n", script}, {}).ok()) << script;
    ++found;
  }
  EXPECT_EQ(found, 2);
}

}  // namespace
}  // namespace coord::testing
