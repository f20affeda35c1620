#include "tools/demo_failover.h"

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "coord/counter.h"
#include "coord/mutex.h"
#include "tools/dev/sentinels.h"
#include "tools/duration_text.h"

namespace coord::tools {
namespace {

constexpr int kBefore = 100;
// Twice what the Sentinels and an election take; the rest is for a busy machine.
constexpr absl::Duration kWithin = absl::Seconds(20);

}  // namespace

absl::Status PlayFailover(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("failover",
               "Three Sentinels watch a master and its replica. A process counts, and takes a lock "
               "in turns; then the master is killed.");
  absl::StatusOr<std::unique_ptr<dev::Sentinels>> started = dev::Sentinels::Start({.replicas = 1});
  if (!started.ok()) {
    // As with --url on a machine that has no server program: the other scenes need none.
    report.Line("  left out, since it needs servers of its own: " +
                std::string(started.status().message()));
    report.Fact("left_out", std::string(started.status().message()));
    return absl::OkStatus();
  }
  dev::Sentinels& group = **started;
  const absl::StatusOr<Client> client = Client::Connect(group.url(), {.fail_fast_after = kWithin});
  if (!client.ok()) return client.status();
  const CallOptions patient{.timeout = kWithin};
  const Counter counter(*client, "visits");
  const Mutex mutex(*client, "deploy", {.ttl = absl::Seconds(2)});
  const auto add = [&](const OperationId& id) {
    return counter.Add(1, {.operation_id = id}, patient);
  };
  std::int64_t counted = 0;
  for (int i = 0; i < kBefore; ++i) {
    const absl::StatusOr<CounterResult> added = add(OperationId::New());
    if (!added.ok()) return added.status();
    counted = added->value;
  }
  absl::StatusOr<Lease> before = mutex.Acquire(kWithin);
  if (!before.ok()) return before.status();
  const std::int64_t token_before = before->token().value();
  if (absl::Status status = before->Release(); !status.ok()) return status;
  // What the replica has not heard of yet is lost with the master, and is no part of the promise.
  const absl::StatusOr<std::size_t> master = group.master();
  if (!master.ok()) return master.status();
  const absl::StatusOr<Reply> heard = group.server(*master).Ask({"WAIT", "1", "5000"});
  if (!heard.ok()) return heard.status();
  if (SignalWatch::Caught() != 0) return absl::CancelledError("interrupted");

  const int port = group.server(*master).port();
  const absl::StatusOr<std::size_t> killed = group.KillMaster();
  if (!killed.ok()) return killed.status();
  const std::int64_t start = BootNanoseconds();
  const absl::StatusOr<CounterResult> after = add(OperationId::New());
  const absl::Duration away = absl::Nanoseconds(BootNanoseconds() - start);
  if (!after.ok()) return after.status();
  absl::StatusOr<Lease> lease = mutex.Acquire(kWithin);
  if (!lease.ok()) return lease.status();
  const std::int64_t token_after = lease->token().value();
  if (absl::Status status = lease->Release(); !status.ok()) return status;
  const absl::StatusOr<std::size_t> promoted = group.master();
  if (!promoted.ok()) return promoted.status();

  report.Line(
      absl::StrFormat("  killed the master on port %d (SIGKILL); the counter went on after "
                      "%s, on port %d",
                      port, Brief(away), group.server(*promoted).port()));
  report.Line();
  report.Check(after->value == counted + 1,
               absl::StrFormat("nothing was lost and nothing counted twice: %d", after->value),
               absl::StrFormat("the counter said %d, and then %d", counted, after->value));
  report.Check(token_after > token_before,
               absl::StrFormat("the lock was granted again, and its token rose from %d to %d",
                               token_before, token_after),
               absl::StrFormat("the token went from %d to %d", token_before, token_after));
  report.Fact("away_ms", absl::ToDoubleMilliseconds(away));
  report.Fact("tokens", {token_before, token_after});
  client->Close();
  return absl::OkStatus();
}

}  // namespace coord::tools
