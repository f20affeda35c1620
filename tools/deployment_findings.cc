#include "tools/deployment_findings.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/duration_text.h"

namespace coord::tools {
namespace {

using Findings = std::vector<Finding>;

constexpr std::int64_t kSlots = 16384;
// Below, a moment's pause looks like a failure; above, locks stand still for long.
constexpr absl::Duration kShortTimeout = absl::Milliseconds(500);
constexpr absl::Duration kLongTimeout = absl::Seconds(30);

Finding Ok(std::string subject, std::string what) {
  return {Level::kOk, std::move(subject), std::move(what), "", ""};
}

// Those of one subject, in the order in which they were found.
struct Group {
  Finding finding;
  std::vector<std::string> nodes;
};

std::string Names(const std::vector<std::string>& nodes, std::size_t of) {
  if (nodes.size() == of) return absl::StrFormat("all %d nodes", of);
  return absl::StrJoin(nodes, ", ");
}

// The time in which a failure is noticed.
Finding Noticed(const std::string& subject, const std::string& setting, absl::Duration time,
                const std::string& advice) {
  const std::string what = absl::StrFormat("%s %s", setting, Brief(time));
  if (time < kShortTimeout) {
    return {Level::kWarn, subject, what,
            "a server that pauses for a moment (a fork, a busy disk) is taken for dead, and each "
            "failover can lose the last writes",
            advice};
  }
  if (time > kLongTimeout) {
    return {Level::kWarn, subject, what,
            "after a crash nothing is locked or counted for so long, and leases run out meanwhile",
            advice};
  }
  return Ok(subject, what);
}

// Clients speak TLS; do the servers among each other?
Findings Inside(const Fields& config, bool tls, const std::vector<std::string>& settings) {
  Findings findings;
  for (const std::string& setting : settings) {
    const std::string value = Text(config, setting);
    if (value.empty() || (value == "yes") == tls) continue;
    if (tls) {
      findings.push_back({Level::kWarn, "encryption", setting + " no, while clients use TLS",
                          "what servers tell each other, all data among it, travels in the clear",
                          setting + " yes on every server"});
    } else {
      findings.push_back({Level::kWarn, "encryption", setting + " yes, while this client uses none",
                          "whoever can listen on the way here reads the password and the data",
                          "use the address with TLS: rediss://, rediss+sentinel://, "
                          "rediss+cluster://"});
    }
  }
  return findings;
}

Finding ReplicaState(const std::vector<OtherNode>& replicas, std::size_t least,
                     const std::string& without) {
  std::vector<std::string> bad;
  for (const OtherNode& replica : replicas) {
    if (!replica.problem.empty()) bad.push_back(replica.problem);
  }
  if (!bad.empty()) {
    return {Level::kWarn, "failover", absl::StrJoin(bad, "; "),
            "one fewer can take over when a master fails",
            "bring it back; a replica that stays away for long copies all data again"};
  }
  if (replicas.size() < least) {
    return {Level::kWarn, "failover", without,
            "when a master fails nobody takes over, and what it held stays locked out",
            "add a replica to each master"};
  }
  return Ok("failover", absl::StrFormat("%d replicas can take over", replicas.size()));
}

}  // namespace

std::vector<Finding> Merge(const std::vector<NodeFindings>& nodes) {
  std::vector<std::string> subjects;
  for (const NodeFindings& node : nodes) {
    for (const Finding& finding : node.findings) {
      if (std::find(subjects.begin(), subjects.end(), finding.subject) == subjects.end()) {
        subjects.push_back(finding.subject);
      }
    }
  }
  Findings merged;
  for (const std::string& subject : subjects) {
    std::vector<Group> groups;
    Finding well;  // of the first node where all is well
    std::vector<std::string> well_nodes;
    std::set<std::string> well_words;
    for (const NodeFindings& node : nodes) {
      for (const Finding& finding : node.findings) {
        if (finding.subject != subject) continue;
        if (finding.level == Level::kOk) {
          if (well_nodes.empty()) well = finding;
          well_nodes.push_back(node.node);
          well_words.insert(finding.what);
          continue;
        }
        const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
          return group.finding.level == finding.level && group.finding.what == finding.what &&
                 group.finding.why == finding.why && group.finding.advice == finding.advice;
        });
        if (same != groups.end()) {
          same->nodes.push_back(node.node);
        } else {
          groups.push_back({finding, {node.node}});
        }
      }
    }
    for (Group& group : groups) {
      if (nodes.size() > 1) {
        group.finding.what =
            absl::StrCat(Names(group.nodes, nodes.size()), ": ", group.finding.what);
      }
      merged.push_back(std::move(group.finding));
    }
    if (well_nodes.empty()) continue;
    if (well_words.size() > 1) {
      absl::StrAppend(&well.what, absl::StrFormat(" (%s; %d more are well too)", well_nodes[0],
                                                  well_nodes.size() - 1));
    } else if (nodes.size() > 1 && !groups.empty()) {
      well.what = absl::StrCat(Names(well_nodes, nodes.size()), ": ", well.what);
    }
    merged.push_back(std::move(well));
  }
  return merged;
}

std::vector<Finding> JudgeCluster(const ClusterFacts& facts) {
  Findings findings;
  const bool full = Text(facts.config, "cluster-require-full-coverage") != "no";
  const bool full_known = facts.config.contains("cluster-require-full-coverage");
  if (!facts.info) {
    findings.push_back({Level::kUnknown, "slots", "not allowed to ask (CLUSTER INFO)", "",
                        "give the user the right to CLUSTER INFO to have this looked at"});
  } else {
    const std::int64_t assigned = Number(*facts.info, "cluster_slots_assigned").value_or(0);
    const std::int64_t failed = Number(*facts.info, "cluster_slots_fail").value_or(0);
    const std::int64_t served = assigned - failed;
    if (served < kSlots) {
      findings.push_back({Level::kBad, "slots",
                          absl::StrFormat("%d of %d are served by nobody", kSlots - served, kSlots),
                          full
                              ? "until all are served every server refuses everything (CLUSTERDOWN)"
                              : "names in those slots can be neither locked nor counted",
                          failed > 0 ? "bring the failed master back, or let a replica take over "
                                       "(CLUSTER FAILOVER TAKEOVER)"
                                     : "redis-cli --cluster fix"});
    } else if (Text(*facts.info, "cluster_state") != "ok") {
      findings.push_back({Level::kBad, "slots", "all are served, and the state is not ok",
                          "every server refuses everything (CLUSTERDOWN)",
                          "see that a majority of the masters is there and hears of each other"});
    } else {
      findings.push_back(
          Ok("slots", absl::StrFormat("all %d served by %d masters", kSlots, facts.masters)));
    }
  }
  if (full_known) {
    findings.push_back(
        full ? Finding{Level::kWarn, "coverage", "cluster-require-full-coverage yes",
                       "when one master and its replicas are gone every name is refused, not only "
                       "theirs",
                       "cluster-require-full-coverage no, unless nothing works without all names"}
             : Ok("coverage", "the other slots go on when some are served by nobody"));
  }
  if (!facts.bare.empty()) {
    findings.push_back({Level::kWarn, "failover",
                        absl::StrCat(Names(facts.bare, facts.masters), ": no replica"),
                        "when it fails nobody takes over, and what it holds cannot be reached",
                        "add a replica to each master"});
  }
  if (facts.bare.empty() || !facts.replicas.empty()) {
    const Finding state = ReplicaState(facts.replicas, 0, "");
    if (state.level != Level::kOk || facts.bare.empty()) findings.push_back(state);
  }
  if (facts.masters < 3) {
    findings.push_back({Level::kWarn, "failover", absl::StrFormat("%d masters", facts.masters),
                        "a majority of masters votes on a failover, which two or one cannot be "
                        "without the failed one",
                        "use three masters or more"});
  }
  if (const auto timeout = Number(facts.config, "cluster-node-timeout")) {
    findings.push_back(Noticed("node timeout", "cluster-node-timeout", absl::Milliseconds(*timeout),
                               "CONFIG SET cluster-node-timeout 5000 on every server"));
  }
  for (Finding& finding : Inside(facts.config, facts.tls, {"tls-cluster", "tls-replication"})) {
    findings.push_back(std::move(finding));
  }
  return findings;
}

std::vector<Finding> JudgeSentinels(const SentinelFacts& facts) {
  Findings findings;
  std::set<std::string> named, quorums;
  std::vector<std::string> silent, answer;
  std::int64_t most_known = 0, quorum = 0;
  std::optional<absl::Duration> down_after;
  for (const SentinelView& one : facts.sentinels) {
    if (!one.master) {
      silent.push_back(one.problem.find(one.node) == std::string::npos
                           ? absl::StrCat(one.node, ": ", one.problem)
                           : one.problem);
      continue;
    }
    answer.push_back(one.node);
    named.insert(absl::StrCat(Text(*one.master, "ip"), ":", Text(*one.master, "port")));
    quorums.insert(Text(*one.master, "quorum"));
    quorum = std::max(quorum, Number(*one.master, "quorum").value_or(0));
    most_known = std::max(most_known, Number(*one.master, "num-other-sentinels").value_or(0) + 1);
    if (const auto after = Number(*one.master, "down-after-milliseconds")) {
      down_after = std::max(down_after.value_or(absl::ZeroDuration()), absl::Milliseconds(*after));
    }
  }
  if (!silent.empty()) {
    findings.push_back(
        {answer.empty() ? Level::kBad : Level::kWarn, "sentinels",
         absl::StrCat(silent.size(), " do not answer: ", absl::StrJoin(silent, "; ")),
         "with half of them away no failover takes place, and no new client finds "
         "the master",
         "bring them back, or take them out of the URL and SENTINEL RESET the rest"});
  }
  if (answer.empty()) return findings;
  const auto in_all =
      std::max<std::int64_t>(most_known, static_cast<std::int64_t>(facts.sentinels.size()));
  if (named.size() > 1) {
    findings.push_back({Level::kBad, "sentinels",
                        absl::StrCat("they name different masters: ", absl::StrJoin(named, ", ")),
                        "two servers may take writes, and what one of them takes is lost",
                        "this passes within seconds of a failover; if it stays, see whether they "
                        "reach each other"});
  }
  if (in_all < 3) {
    findings.push_back({Level::kWarn, "sentinels", absl::StrFormat("%d in all", in_all),
                        "a majority must agree on a failover: the loss of one ends that",
                        "run three or five, on different machines"});
  } else if (silent.empty() && named.size() <= 1) {
    findings.push_back(Ok("sentinels", absl::StrFormat("%d, which agree on %s as %s", in_all,
                                                       *named.begin(), facts.name)));
  }
  if (quorums.size() > 1 || quorum * 2 <= in_all) {
    findings.push_back(
        {Level::kWarn, "quorum",
         quorums.size() > 1 ? "they have different ones: " + absl::StrJoin(quorums, ", ")
                            : absl::StrFormat("%d of %d find the master down", quorum, in_all),
         "a few that are cut off can call for a failover though most reach the master; each can "
         "lose the last writes",
         absl::StrFormat("SENTINEL SET %s quorum %d on each", facts.name, in_all / 2 + 1)});
  } else {
    findings.push_back(Ok("quorum", absl::StrFormat("%d of %d", quorum, in_all)));
  }
  if (down_after) {
    findings.push_back(Noticed(
        "down after", "down-after-milliseconds", *down_after,
        absl::StrFormat("SENTINEL SET %s down-after-milliseconds 5000 on each", facts.name)));
  }
  findings.push_back(ReplicaState(facts.replicas, 1, "the master has no replica"));
  for (Finding& finding : Inside(facts.config, facts.tls, {"tls-replication"})) {
    findings.push_back(std::move(finding));
  }
  return findings;
}

std::vector<std::string> Guarantees(const Setting& setting) {
  std::vector<std::string> lines;
  const bool kept = setting.append_only.value_or(false);
  const std::string memory =
      kept ? "a crash of the machine can lose the last second of writes, the append-only file has "
             "the rest"
      : setting.append_only
          ? "a restart forgets everything: leases, counts, limits, lists, documents"
          : "what a restart loses depends on its append-only file, which it does not tell of";
  switch (setting.kind) {
    case Setting::Kind::kServer:
    case Setting::Kind::kEmbedded:
      lines.push_back(
          "locks: one holder at a time while the server keeps its data; while it is away, nobody "
          "gets one");
      lines.push_back("data: " + memory);
      lines.push_back(
          "fencing tokens: rise also through a loss, unless the server's clock stepped back by "
          "more than it took");
      lines.push_back(
          "counters, limits, lists: atomic; with an operation id exactly once, within its window");
      if (setting.replicas > 0) {
        lines.push_back(
            "replicas: when one takes over by hand, the last writes are lost as in a failover");
      }
      if (setting.kind == Setting::Kind::kEmbedded) {
        lines.push_back("reach: this machine alone; its processes are locked against each other");
      }
      break;
    case Setting::Kind::kSentinel:
      lines.push_back(
          "locks: one holder at a time, except across a failover, which loses the last writes: a "
          "lock granted just before it can be granted again");
      lines.push_back(
          "fencing tokens: rise through failovers too, if the servers' clocks agree: check them "
          "where it matters");
      lines.push_back(
          "counters, limits, lists: atomic; with an operation id exactly once, but for what a "
          "failover loses");
      lines.push_back(
          "less is lost with wait_replicas and min-replicas-to-write; nothing only with a quorum "
          "of independent servers");
      break;
    case Setting::Kind::kCluster:
      lines.push_back(
          "locks: as with one server for each name; a failover of its master loses the last "
          "writes, and a lock granted just before it can be granted again");
      lines.push_back("fencing tokens: rise through failovers too, if the servers' clocks agree");
      lines.push_back(
          "counters, limits, lists: atomic for one name; several names in one operation must share "
          "a {tag}");
      lines.push_back(
          "while a slot moves, calls on its names wait for a moment (TRYAGAIN), within their "
          "timeout");
      break;
    case Setting::Kind::kQuorum:
      lines.push_back(absl::StrFormat(
          "locks: one holder at a time and rising tokens, while at most %d of %d servers are gone "
          "or forget at once",
          (setting.servers - 1) / 2, setting.servers));
      lines.push_back(absl::StrFormat(
          "they are granted while %d answer; without a majority there is an error, and no lock",
          setting.servers / 2 + 1));
      lines.push_back(
          "a server that was restarted does not vote for 45 s, by default: it may have forgotten "
          "what it granted");
      lines.push_back(
          "it is for mutexes alone: counters, limits and lists need a single deployment");
      break;
  }
  if (setting.tls) {
    lines.push_back(
        "TLS: nobody on the way reads or changes anything; it adds nothing to what locks promise");
  }
  return lines;
}

}  // namespace coord::tools
