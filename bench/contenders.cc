#include "bench/contenders.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <thread>

#include "bench/machine.h"
#include "bench/slice.h"
#include "bench/targets.h"
#include "coord/client.h"
#include "coord/internal/strings.h"

extern char** environ;

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kWarmUp = 100 * kMillisecond;

static_assert(sizeof(Turn) == 32, "contenders of other languages write it so");

// A process of the crowd; `fd` is its standard input and output.
struct Contender {
  pid_t pid = 0;
  int fd = -1;
  std::string file;
};

Contender Start(const Crowd& crowd, int who) {
  Contender contender;
  contender.file = StrCat(crowd.directory, "/turns-", who);
  std::vector<std::string> words = crowd.program;
  for (std::string word :
       {crowd.url, crowd.name, StrCat(crowd.section_us), StrCat(who), contender.file}) {
    words.push_back(std::move(word));
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) Fatal("socketpair failed");
  contender.fd = ends[0];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  if (posix_spawnp(&contender.pid, argv[0], &actions, nullptr, argv.data(), environ) != 0) {
    Fatal(StrCat("cannot start ", words[0]));
  }
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  return contender;
}

// Until all are ready for what comes next.
void Await(const std::vector<Contender>& contenders) {
  for (const Contender& contender : contenders) {
    char byte;
    if (read(contender.fd, &byte, 1) != 1) Fatal("a contender failed");
  }
}

void Go(const std::vector<Contender>& contenders, std::int64_t length) {
  const std::int64_t begin = Nanoseconds() + 20 * kMillisecond;
  const std::string line = StrCat(begin, " ", begin + length, "\n");
  for (const Contender& contender : contenders) {
    // One that has died is found out by Await.
    (void)send(contender.fd, line.data(), line.size(), MSG_NOSIGNAL);
  }
  Await(contenders);
}

}  // namespace

std::int64_t Nanoseconds() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

std::vector<Turn> TakeTurns(const Mutex& mutex, std::int64_t begin, std::int64_t end, int section,
                            int who) {
  std::vector<Turn> turns;
  turns.reserve(1 << 16);
  while (Nanoseconds() < begin) std::this_thread::sleep_for(std::chrono::microseconds(200));
  while (true) {
    Turn turn{Nanoseconds(), 0, 0, who};
    if (turn.asked >= end) return turns;
    absl::StatusOr<Lease> lease = mutex.Acquire(absl::Seconds(20));
    if (!lease.ok()) Fatal(lease.status().ToString());
    turn.got = Nanoseconds();
    if (section > 0) std::this_thread::sleep_for(std::chrono::microseconds(section));
    turn.released = Nanoseconds();
    if (absl::Status status = lease->Release(); !status.ok()) Fatal(status.ToString());
    turns.push_back(turn);
  }
}

std::vector<Turn> RunCrowd(const Crowd& crowd, double seconds) {
  std::vector<Contender> contenders;
  for (int who = 0; who < crowd.size; ++who) contenders.push_back(Start(crowd, who));
  Await(contenders);
  // All at once, so that all but one have to wait, which opens what they wait with.
  Go(contenders, kWarmUp);
  if (crowd.warm) crowd.warm();
  Go(contenders, static_cast<std::int64_t>(seconds * 1e9));
  std::vector<Turn> turns;
  for (const Contender& contender : contenders) {
    close(contender.fd);
    int status = 0;
    if (waitpid(contender.pid, &status, 0) != contender.pid || status != 0) {
      Fatal("a contender failed");
    }
    std::ifstream file(contender.file, std::ios::binary);
    for (Turn turn{}; file.read(reinterpret_cast<char*>(&turn), sizeof(turn));) {
      turns.push_back(turn);
    }
  }
  return turns;
}

int RunContender(char** words) {
  const std::string url = words[0], name = words[1], path = words[4];
  const int section = std::atoi(words[2]);
  const int who = std::atoi(words[3]);
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) Fatal(client.status().ToString());
  const Mutex mutex(*client, name);
  std::vector<Turn> turns;
  std::cout << '.' << std::flush;
  for (std::int64_t begin, end; std::cin >> begin >> end;) {
    turns = TakeTurns(mutex, begin, end, section, who);
    std::cout << '.' << std::flush;
  }
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(turns.data()),
             static_cast<std::streamsize>(turns.size() * sizeof(Turn)));
  return file.flush() ? 0 : 1;
}

Outcome Judge(std::vector<Turn> turns, int clients, double seconds) {
  if (turns.size() < 2) Fatal("nobody got the lock");
  std::sort(turns.begin(), turns.end(), [](const Turn& a, const Turn& b) { return a.got < b.got; });
  Outcome outcome;
  outcome.acquisitions = turns.size();
  outcome.per_second = static_cast<double>(turns.size()) / seconds;
  std::vector<double> hand_offs;
  std::map<int, double> shares;
  for (int who = 0; who < clients; ++who) shares[who] = 0;
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    ++shares[turns[i].who];
    longest = std::max(longest, turns[i].got - turns[i].asked);
    if (i > 0 && turns[i].who != turns[i - 1].who) {
      hand_offs.push_back(static_cast<double>(turns[i].got - turns[i - 1].released) / 1e3);
    }
  }
  if (!hand_offs.empty()) {
    outcome.hand_off_p50_us = Quantile(hand_offs, 0.5);
    outcome.hand_off_p99_us = Quantile(hand_offs, 0.99);
  }
  outcome.least_share = outcome.largest_share = shares[0];
  for (const auto& [who, share] : shares) {
    outcome.least_share = std::min(outcome.least_share, share);
    outcome.largest_share = std::max(outcome.largest_share, share);
  }
  outcome.longest_wait_ms = static_cast<double>(longest) / 1e6;
  return outcome;
}

}  // namespace coord::bench
