// The scene of `coord demo` about a lock that outlives the loss of a server.
#include <signal.h>
#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "coord/quorum.h"
#include "tools/demo.h"
#include "tools/duration_text.h"
#include "tools/server_facts.h"

namespace coord::tools {
namespace {

constexpr std::size_t kServers = 3;
constexpr char kVoters[] = "ABC";
constexpr int kTurns = 12;  // before a server is killed, and at least as many after it
// It takes a few milliseconds; the rest is for a machine that is busy with other things.
constexpr absl::Duration kErrorWithin = absl::Seconds(1);

// A server of our own, which ends with this process at the latest.
struct Voter {
  Client client;
  std::string url;
  pid_t pid = 0;
};

absl::StatusOr<Voter> StartVoter() {
  absl::StatusOr<Client> client = Client::Connect("embedded://?private");
  if (!client.ok()) return client.status();
  const Health health = client->Health();
  if (!health.ok()) {
    return health.nodes.empty() ? absl::UnavailableError("no server") : health.nodes[0].status;
  }
  const absl::StatusOr<Reply> info = client->Command({"INFO", "server"});
  if (!info.ok()) return info.status();
  const std::optional<std::int64_t> pid = Number(ParseInfo(info->text()), "process_id");
  if (!pid || *pid <= 1) return absl::InternalError("a server does not say its process id");
  return Voter{*client, SocketUrl(health.nodes[0].node), static_cast<pid_t>(*pid)};
}

// SIGKILL, and waits until it answers no more.
absl::Status Kill(Crew& crew, const Voter& voter) {
  kill(voter.pid, SIGKILL);
  return crew.Await("a server to end",
                    [&]() -> absl::StatusOr<bool> { return !voter.client.Command({"PING"}).ok(); });
}

}  // namespace

absl::Status PlayQuorum(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("quorum",
               "Three servers vote on a lock that three processes take turns at. Then servers are "
               "killed.");
  std::vector<Voter> voters;
  Place place = stage.place;
  place.urls.clear();
  while (voters.size() < kServers) {
    absl::StatusOr<Voter> voter = StartVoter();
    if (!voter.ok() && voters.empty()) {
      // As with --url on a machine that has no server program: the other scenes need none.
      report.Line("  left out, since it needs servers of its own: " +
                  std::string(voter.status().message()));
      report.Fact("left_out", std::string(voter.status().message()));
      return absl::OkStatus();
    }
    if (!voter.ok()) return voter.status();
    place.urls.push_back(voter->url);
    voters.push_back(*std::move(voter));
  }
  const ClientOptions options{.prefix = place.prefix};
  if (absl::Status status = Quorum::DeclareNew(place.urls, options); !status.ok()) return status;
  const absl::StatusOr<Quorum> quorum = Quorum::Connect(place.urls, options);
  if (!quorum.ok()) return quorum.status();

  const std::string name = stage.Name("vote");
  Crew crew(place);
  for (const char letter : std::string(kVoters)) {
    if (absl::Status status = crew.Add(letter, "turns", {name}); !status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go();
  if (absl::Status status = crew.Await("leave", kTurns); !status.ok()) return status;
  if (absl::Status status = Kill(crew, voters[0]); !status.ok()) return status;
  const std::int64_t killed = BootNanoseconds();
  const auto entered_before = [killed](const Hold& hold) { return hold.enter < killed; };
  const auto count_before = [&](const std::vector<Hold>& holds) {
    return static_cast<int>(std::count_if(holds.begin(), holds.end(), entered_before));
  };
  // One that had come in before may still leave.
  const int before = count_before(ReadLockHistory(crew.Log()).holds) + 1;
  if (absl::Status status = crew.Await("leave", before + kTurns); !status.ok()) return status;
  crew.DismissAll();
  if (absl::Status status = crew.Join(); !status.ok()) return status;

  if (absl::Status status = Kill(crew, voters[1]); !status.ok()) return status;
  const std::int64_t asked = BootNanoseconds();
  const absl::Status refused = Mutex(*quorum, name).TryAcquire().status();
  const absl::Duration took = absl::Nanoseconds(BootNanoseconds() - asked);

  const LockHistory history = ReadLockHistory(crew.Log());
  const int first = count_before(history.holds);
  const int rest = static_cast<int>(history.holds.size()) - first;
  report.Line(absl::StrFormat(
      "  after %d turns one server is killed (SIGKILL); the processes take %d turns more", first,
      rest));
  report.Line(absl::StrFormat("  a second one is killed; after %s an acquire says:", Brief(took)));
  report.Line("    " + std::string(refused.message()));
  report.Line();
  report.Check(rest >= kTurns, "the lock works with two of three servers",
               absl::StrFormat("with two of three servers there were only %d turns", rest));
  CheckTurns(history, report);
  report.Check(coord::IsUnavailable(refused) && took < kErrorWithin,
               absl::StrFormat("with one of three there is an error within %s, and no lock",
                               Brief(kErrorWithin)),
               absl::StrFormat("with one of three an acquire ended after %s with: %s", Brief(took),
                               refused.ToString()));
  report.Fact("turns_with_three", first);
  report.Fact("turns_with_two", rest);
  report.Fact("error", std::string(refused.message()));
  report.Fact("error_ms", absl::ToDoubleMilliseconds(took));
  return absl::OkStatus();
}

}  // namespace coord::tools
