// What README.md says, done.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coord/barrier.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/concurrency_limiter.h"
#include "coord/counter.h"
#include "coord/election.h"
#include "coord/fenced_store.h"
#include "coord/id_generator.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "coord/latch.h"
#include "coord/local_budget.h"
#include "coord/multi_mutex.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "coord/rw_mutex.h"
#include "coord/semaphore.h"
#include "coord/sharded_counter.h"
#include "tests/support/acl_rights.h"
#include "tests/support/process.h"
#include "tests/support/quorum_servers.h"
#include "tests/support/readme_example.h"
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

// One line of a block fenced as ```sh. What it prints stands behind "# -> ", if README says so.
struct ShellCommand {
  std::string text;
  std::optional<std::string> prints;
};

std::vector<ShellCommand> ShellCommands() {
  std::vector<ShellCommand> commands;
  bool inside = false;
  for (const std::string& line : ReadmeLines()) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
    } else if (inside && !line.empty()) {
      commands.push_back({line, std::nullopt});
      if (const std::size_t at = line.find("# -> "); at != std::string::npos) {
        commands.back().prints = OnOneLine(line.substr(at + 5));
      }
    }
  }
  return commands;
}

// "..." in `pattern` stands for anything.
bool Matches(std::string_view text, std::string_view pattern) {
  const std::size_t dots = pattern.find("...");
  if (dots == std::string_view::npos) return text == pattern;
  if (!text.starts_with(pattern.substr(0, dots))) return false;
  text.remove_prefix(dots);
  pattern.remove_prefix(dots + 3);
  for (std::size_t skipped = 0; skipped <= text.size(); ++skipped) {
    if (Matches(text.substr(skipped), pattern)) return true;
  }
  return false;
}

TEST(ReadmeTest, EveryShellCommandDoesAndPrintsWhatItSays) {
  const TempDir directory;
  const std::string program = COORD_PROGRAM;
  const std::string path = program.substr(0, program.rfind('/')) + ":" + getenv("PATH");
  ProcessOptions options;
  // The embedded server of a user who has just logged in for the first time.
  options.env = {{"PATH", path},
                 {"COORD_URL", ""},
                 {"XDG_RUNTIME_DIR", directory.path()},
                 {"XDG_STATE_HOME", directory.path()}};
  options.directory = directory.path();
  std::ofstream(directory.File("deploy.sh")) << "#!/bin/sh\necho deployed\n";
  ASSERT_EQ(chmod(directory.File("deploy.sh").c_str(), 0700), 0);
  const QuorumServers quorum(3, {}, false);
  const std::vector<ShellCommand> commands = ShellCommands();
  ASSERT_GE(commands.size(), 40u);
  int compared = 0;
  for (const ShellCommand& command : commands) {
    std::string text = command.text;
    for (std::size_t i = 0; i < quorum.size(); ++i) {
      const std::string host = internal::StrCat("redis://", std::string(1, "abc"[i]));
      if (const std::size_t at = text.find(host); at != std::string::npos) {
        text.replace(at, host.size(), quorum.urls()[i]);
      }
    }
    const ProcessResult result = RunProgram({"/bin/sh", "-c", text}, options);
    EXPECT_TRUE(result.ok()) << text << "\n" << result.out << result.err;
    if (!command.prints) continue;
    EXPECT_TRUE(Matches(OnOneLine(result.out), *command.prints))
        << text << "\nprints: " << OnOneLine(result.out) << result.err;
    ++compared;
  }
  EXPECT_GE(compared, 15);
  const ProcessResult stopped = RunProgram({program, "embedded", "stop"}, options);
  EXPECT_TRUE(stopped.ok()) << stopped.err;
}

TEST(ReadmeTest, EveryExamplePrintsWhatItsCommentsSayAndHasAtMostTenLines) {
  RedisServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  ASSERT_GE(ReadmeExamples().size(), 8u);
  for (const ReadmeExample& example : ReadmeExamples()) {
    SCOPED_TRACE(internal::StrCat("README.md:", example.line));
    ASSERT_OK(client.Command({"FLUSHALL"}));
    std::ostringstream printed;
    std::streambuf* const before = std::cout.rdbuf(printed.rdbuf());
    example.run(client);
    std::cout.rdbuf(before);
    EXPECT_NE(ClaimedOutput(example.text), "") << "an example without a claim";
    EXPECT_EQ(OnOneLine(printed.str()), ClaimedOutput(example.text));
    EXPECT_LE(std::count(example.text.begin(), example.text.end(), '\n') + 1, 10);
  }
}

TEST(ReadmeTest, EveryBlockIsOfAKindThatATestRuns) {
  // C++: above, and as a whole program in install.consumer; sh: above; cmake: install.consumer;
  // text: the rights, which the whole suite runs with once.
  const std::set<std::string> run = {"```cpp", "```sh", "```cmake", "```text"};
  bool inside = false;
  for (const std::string& line : ReadmeLines()) {
    if (!line.starts_with("```")) continue;
    if (!inside) {
      EXPECT_TRUE(run.contains(line)) << line;
    }
    inside = !inside;
  }
  EXPECT_FALSE(inside);
}

// Each script of counters, limiters, documents and lists at least once.
void UseWhatCountsAndKeeps(const Client& client) {
  const absl::Duration life = absl::Seconds(60);
  const auto id = [] { return OperationId::New(); };
  const Counter counter(client, "a");
  EXPECT_OK(counter.Add(1, {.max = 10, .ttl = life}));
  EXPECT_OK(counter.Add(1, {.ttl = life, .operation_id = id()}));
  EXPECT_OK(counter.Resolve(id()));
  EXPECT_OK(counter.Get());
  EXPECT_OK(counter.Set(3));
  EXPECT_OK(counter.GetAndReset(id()));
  EXPECT_OK(counter.Reset());
  ShardedCounter sharded(client, "a");
  sharded.Add(2);
  EXPECT_OK(sharded.Exact());
  EXPECT_OK(sharded.Close());
  EXPECT_OK(IdGenerator(client, "a").Next());

  using Algorithm = RateLimit::Algorithm;
  for (const Algorithm algorithm :
       {Algorithm::kGcra, Algorithm::kTokenBucket, Algorithm::kFixedWindow,
        Algorithm::kSlidingWindow, Algorithm::kSlidingLog}) {
    const RateLimit limit{.permits = 10, .algorithm = algorithm};
    const RateLimiter limiter(client, limit);
    EXPECT_OK(limiter.Take("a"));
    EXPECT_OK(limiter.Take("a", 1, {}, {.operation_id = id()}));
    EXPECT_OK(limiter.TakeUpTo("a", 3));
    EXPECT_OK(limiter.Peek("a"));
    EXPECT_OK(limiter.Refund("a", 1));
    EXPECT_OK(limiter.Resolve("a", id()));
    EXPECT_OK(limiter.Reset("a"));
    // kGcra alone has a script of its own for several.
    const std::vector<LimitedKey> two = {{limit, "a"}, {limit, "b"}};
    EXPECT_OK(RateLimiter::TakeAll(client, two));
    EXPECT_OK(RateLimiter::TakeAll(client, two, {}, {.operation_id = id()}));
    EXPECT_OK(RateLimiter::ResolveAll(client, two, id()));
  }
  LocalBudget budget(client, {.permits = 10}, "budget", {.block = 5});
  EXPECT_OK(budget.Take());
  EXPECT_OK(budget.Return());
  const ConcurrencyLimiter places(client, {.limit = 2});
  ASSERT_OK_AND_ASSIGN(ConcurrencyEntry entry, places.Enter("places"));
  EXPECT_OK(places.Wait("places", 1, absl::Seconds(5)).status());
  EXPECT_OK(places.Peek("places"));
  EXPECT_OK(entry.slot.Release());

  using Overflow = CappedListOptions::Overflow;
  for (const Overflow overflow : {Overflow::kDropOldest, Overflow::kReject}) {
    const CappedList list(client, "a", {.max_items = 2, .ttl = life, .overflow = overflow});
    EXPECT_OK(list.Push("x"));
    EXPECT_OK(list.Push("y", {.operation_id = id()}));
    EXPECT_OK(list.Resolve(id()));
    const auto plain = CappedList::OnKey(client, "coord:plain",
                                         {.max_items = 2, .ttl = life, .overflow = overflow});
    EXPECT_OK(plain.Push("x"));
    EXPECT_OK(plain.Push("y"));
    EXPECT_OK(plain.Newest(2));
    EXPECT_OK(plain.Range());
  }
  const CappedList list(client, "b", {.max_items = 2, .max_bytes = 100, .max_age = life});
  EXPECT_OK(list.Push("x"));
  EXPECT_OK(list.Range());
  EXPECT_OK(list.Newest(1));
  EXPECT_OK(list.Since(0));
  {
    // Woken by a message: the push finds who waits.
    std::jthread follower([&] {
      EXPECT_OK(list.Follow(0, [](const ListSlice& news) {
        return news.items.empty() || news.items.back().value != "end";
      }));
    });
    EXPECT_TRUE(Eventually([&] {
      const absl::StatusOr<Reply> waits = client.Command({"EXISTS", "coord:{b}:followers"});
      return !waits.ok() || waits->integer() == 1;
    }));
    EXPECT_OK(list.Push("end"));
  }

  const JsonDocument document(client, "a");
  EXPECT_OK(document.Set(R"({"n":1,"s":"x"})", {.ttl = life}));
  EXPECT_OK(document.CreateIfAbsent("1"));
  EXPECT_OK(document.Get());
  EXPECT_OK(document.CompareAndSetField("/n", "1", "2"));
  EXPECT_OK(document.CompareAndSetField("/n", "2", "2000"));
  EXPECT_OK(document.Apply({.set = {{"/s", std::nullopt}}, .ttl = life, .operation_id = id()}));
  EXPECT_OK(document.Resolve(id()));
  EXPECT_OK(document.Update([](const std::optional<std::string>&) { return std::string("1"); }));
  EXPECT_OK(document.Apply({.set = {{"", std::nullopt}}}));
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
  const std::vector<std::string> rights = AclRules(RedisServer::Version());
  ASSERT_GT(rights.size(), 10u);
  args.insert(args.end(), rights.begin(), rights.end());
  RedisServer server({.args = args});
  const std::string url = "unix://ann:secret@" + server.socket_path();
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(url));

  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "a").Acquire(absl::Seconds(5)));
  EXPECT_OK(lease.Renew(absl::Seconds(5)));
  EXPECT_OK(lease.Release());
  UseWhatCountsAndKeeps(client);
  EXPECT_TRUE(client.Health().ok());
  ASSERT_OK_AND_ASSIGN(const Client other, Client::Connect(url));
  UseEveryKindOfLock(client, other);
  // And no more than that.
  EXPECT_EQ(client.Command({"FLUSHALL"}).status().code(), absl::StatusCode::kPermissionDenied);
}

// Those of README ("Names") in backquotes.
std::set<std::string> ListedParts() {
  std::set<std::string> parts;
  bool inside = false;
  for (const std::string& line : ReadmeLines()) {
    if (line.starts_with("#")) inside = line.starts_with("## Names, ");
    if (!inside || !line.starts_with("| ")) continue;
    std::istringstream words(line);
    for (std::string word; std::getline(words, word, '`') && std::getline(words, word, '`');) {
      parts.insert(word);
    }
  }
  return parts;
}

TEST(ReadmeTest, EveryKeyThatIsWrittenIsInItsTable) {
  RedisServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  const std::set<std::string> listed = ListedParts();
  ASSERT_GE(listed.size(), 13u);
  // What goes again is left by a part of them, so that it is seen.
  EXPECT_OK(RateLimiter(client, {.permits = 1}).Take("kept"));
  EXPECT_OK(Counter(client, "kept").Set(1));
  EXPECT_OK(JsonDocument(client, "kept").Set("1"));
  UseWhatCountsAndKeeps(client);
  ASSERT_OK_AND_ASSIGN(const Reply keys, client.Command({"KEYS", "coord:{*"}));
  std::set<std::string> written;
  for (const Reply& key : keys.items()) {
    std::string part = key.text().substr(key.text().find("}:") + 2);
    part = std::regex_replace(part, std::regex("[0-9]+"), "<n>");
    if (part.starts_with("permits")) continue;  // coord/DESIGN.md
    EXPECT_TRUE(listed.contains(part)) << key.text();
    written.insert(part);
  }
  EXPECT_GE(written.size(), 10u);
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
