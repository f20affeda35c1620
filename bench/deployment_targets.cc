// What a deployment costs a call: encryption, and finding the node of a Cluster that has the key.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/machine.h"
#include "bench/targets.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "tools/dev/cluster.h"
#include "tools/dev/server.h"
#include "tools/dev/servers.h"

namespace coord::bench {
namespace {

using internal::StrCat;

template <typename T>
T Must(absl::StatusOr<T> result) {
  if (!result.ok()) Fatal(result.status().ToString());
  return *std::move(result);
}

// How many times as long a call takes as the yardstick's: the median of the rounds.
void AddTimes(Run& run, const std::string& id, Mode mode, const Comparison& comparison,
              double limit, const std::string& what) {
  std::vector<double> times;
  for (const double ratio : comparison.ratios) times.push_back(1 / ratio);
  std::vector<double> a, b;
  for (const Slice& slice : comparison.a) a.push_back(slice.p50_us);
  for (const Slice& slice : comparison.b) b.push_back(slice.p50_us);
  char line[200];
  std::snprintf(line, sizeof(line), "%s: p50 %.1f us, yardstick %.1f us; rounds %.3f to %.3f",
                what.c_str(), Median(b), Median(a), Quantile(times, 0), Quantile(times, 1));
  run.report.Add(id, mode, Median(times), Bound::AtMost(limit), line,
                 {{"p50_us", Median(b)}, {"yardstick_p50_us", Median(a)}, {"ratios", times}});
}

// Two servers on loopback, the one with TLS, the other without; a PING by a lone caller.
void MeasureTls(Run& run, Mode mode) {
  const std::string id = StrCat("tls.round_trip.", ModeName(mode));
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "this machine cannot pin so");
  const auto encrypted = Must(dev::TlsServer::Start());
  const auto plain = Must(dev::Quorum::Start({.servers = 1}));
  ApplyMode(mode, encrypted->server().pid());
  ApplyMode(mode, plain->server(0).pid());
  const Client a = Must(Client::Connect(plain->urls().front()));
  const Client b = Must(Client::Connect(encrypted->url()));
  const Comparison comparison = Alternate(
      run.effort, 1, [&](int) { return a.Command({"PING"}).ok(); },
      [&](int) { return b.Command({"PING"}).ok(); });
  AddTimes(run, id, mode, comparison, 1.4, "PING over TLS, one caller, against plain TCP");
}

// The same server twice: as it is, and as the only node of a Cluster.
void MeasureRouting(Run& run, Mode mode) {
  const std::string id = StrCat("cluster.routing.", ModeName(mode));
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "this machine cannot pin so");
  const auto cluster = Must(dev::Cluster::Start({.masters = 1, .replicas = 0}));
  ApplyMode(mode, cluster->node(0).pid());
  const Client a = Must(Client::Connect(cluster->node(0).url()));
  const Client b = Must(Client::Connect(cluster->url()));
  const Mutex plain(a, "plain"), routed(b, "routed");
  const auto pair = [](const Mutex& mutex) {
    absl::StatusOr<Lease> lease = mutex.TryAcquire();
    return lease.ok() && lease->Release().ok();
  };
  const Comparison comparison = Alternate(
      run.effort, 1, [&](int) { return pair(plain); }, [&](int) { return pair(routed); });
  AddTimes(run, id, mode, comparison, 1.03,
           "acquire + release as a Cluster, one caller, against the same server by itself");
}

}  // namespace

void MeasureDeployments(Run& run) {
  MeasureTls(run, Mode::kSame);
  MeasureTls(run, Mode::kPin);
  MeasureRouting(run, Mode::kSame);
  MeasureRouting(run, Mode::kPin);
}

}  // namespace coord::bench
