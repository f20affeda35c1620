#include "tools/dev/sentinels.h"

#include <span>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/dev/wait_until.h"

namespace coord::dev {
namespace {

using internal::StrCat;

// For looking: who does not answer in this time is asked again.
constexpr absl::Duration kLook = absl::Seconds(2);

bool Up(const std::unique_ptr<Server>& server) { return server->Running() && !server->paused(); }

// Of a flat list of names and values.
std::string Field(std::span<const Reply> items, std::string_view name) {
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i].text() == name) return items[i + 1].text();
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sentinels>> Sentinels::Start(SentinelsOptions options) {
  if (options.sentinels < 1 || options.quorum < 1 || options.quorum > options.sentinels) {
    return internal::InvalidArgument(
        StrCat("a quorum of ", options.quorum, " of ", options.sentinels, " Sentinels"));
  }
  absl::StatusOr<std::unique_ptr<Place>> place = Place::Make(options.tls);
  if (!place.ok()) return place.status();
  std::unique_ptr<Sentinels> sentinels(new Sentinels(std::move(options)));
  sentinels->place_ = *std::move(place);
  if (absl::Status status = sentinels->Build(); !status.ok()) return status;
  return sentinels;
}

absl::StatusOr<std::unique_ptr<Server>> Sentinels::StartServer(std::size_t number) {
  ServerOptions server;
  server.credentials = options_.credentials;
  server.append_only = options_.append_only;
  server.settings = {"repl-diskless-sync yes", "repl-diskless-sync-delay 0"};
  if (options_.tls) server.settings.emplace_back("tls-replication yes");
  if (number > 0) {
    server.settings.push_back(StrCat("replicaof 127.0.0.1 ", servers_[0]->port()));
  }
  server.settings.insert(server.settings.end(), options_.settings.begin(), options_.settings.end());
  return place_->Start(std::move(server));
}

absl::StatusOr<std::unique_ptr<Server>> Sentinels::StartSentinel() {
  ServerOptions server;
  server.sentinel = true;
  server.credentials.password = options_.sentinel_password;
  const auto set = [&](std::string_view what, std::string_view value) {
    server.settings.push_back(StrCat("sentinel ", what, " ", options_.name, " ", value));
  };
  server.settings = {StrCat("sentinel monitor ", options_.name, " 127.0.0.1 ", servers_[0]->port(),
                            " ", options_.quorum),
                     "sentinel announce-ip 127.0.0.1"};
  set("down-after-milliseconds", StrCat(absl::ToInt64Milliseconds(options_.down_after)));
  set("failover-timeout", StrCat(absl::ToInt64Milliseconds(options_.failover_timeout)));
  set("parallel-syncs", StrCat(options_.replicas + 1));
  const auto& [user, password] = options_.credentials;
  if (!user.empty()) set("auth-user", user);
  if (!password.empty()) set("auth-pass", ConfigText(password));
  if (!options_.sentinel_password.empty()) {
    server.settings.push_back(
        StrCat("sentinel sentinel-pass ", ConfigText(options_.sentinel_password)));
  }
  if (options_.tls) server.settings.emplace_back("tls-replication yes");
  return place_->Start(std::move(server));
}

absl::Status Sentinels::Build() {
  for (std::size_t i = 0; i <= options_.replicas; ++i) {
    if (options_.stop.stop_requested()) return absl::CancelledError("stopped");
    absl::StatusOr<std::unique_ptr<Server>> server = StartServer(i);
    if (!server.ok()) return server.status();
    servers_.push_back(*std::move(server));
  }
  // A Sentinel asks the master for its replicas at once, and then every 10 s.
  absl::Status status = WaitUntil("replicas", options_.start_timeout, options_.stop,
                                  [this] { return CheckReplicas(0); });
  if (!status.ok()) return status;
  for (std::size_t i = 0; i < options_.sentinels; ++i) {
    if (options_.stop.stop_requested()) return absl::CancelledError("stopped");
    absl::StatusOr<std::unique_ptr<Server>> server = StartSentinel();
    if (!server.ok()) return server.status();
    sentinels_.push_back(*std::move(server));
  }
  return WaitUntilOk(options_.start_timeout);
}

// That it is a master, and all others that run are its replicas and linked, as both ends say.
absl::Status Sentinels::CheckReplicas(std::size_t master) const {
  const absl::StatusOr<std::string> role = servers_[master]->Info("replication", "role");
  if (!role.ok()) return role.status();
  if (*role != "master") return NotYet("server ", master, " is no master");
  std::size_t replicas = 0;
  for (std::size_t i = 0; i < size(); ++i) {
    if (i == master || !Up(servers_[i])) continue;
    ++replicas;
    const absl::StatusOr<std::string> port = servers_[i]->Info("replication", "master_port");
    if (!port.ok()) return port.status();
    const absl::StatusOr<std::string> link = servers_[i]->Info("replication", "master_link_status");
    if (!link.ok()) return link.status();
    if (*port != StrCat(servers_[master]->port()) || *link != "up") {
      return NotYet("server ", i, " is not linked to server ", master);
    }
  }
  const absl::StatusOr<std::string> seen =
      servers_[master]->Info("replication", "connected_slaves");
  if (!seen.ok()) return seen.status();
  if (internal::ParseInt64(*seen).value_or(0) < static_cast<std::int64_t>(replicas)) {
    return NotYet("server ", master, " has ", *seen, " replicas");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::size_t> Sentinels::MasterOf(std::size_t sentinel) const {
  absl::StatusOr<Reply> address =
      sentinels_[sentinel]->Ask({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", options_.name}, kLook);
  if (!address.ok()) return address.status();
  for (std::size_t i = 0; i < size() && address->items().size() == 2; ++i) {
    if (address->items()[1].text() == StrCat(servers_[i]->port())) return i;
  }
  return NotYet("sentinel ", sentinel, " names a master that is none of ours");
}

absl::StatusOr<std::size_t> Sentinels::FirstSentinel() const {
  for (std::size_t i = 0; i < sentinels_.size(); ++i) {
    if (Up(sentinels_[i])) return i;
  }
  return internal::MakeStatus(absl::StatusCode::kUnavailable, "no Sentinel runs");
}

absl::StatusOr<std::size_t> Sentinels::master() {
  const absl::StatusOr<std::size_t> sentinel = FirstSentinel();
  if (!sentinel.ok()) return sentinel.status();
  return MasterOf(*sentinel);
}

absl::Status Sentinels::CheckSentinel(std::size_t i, std::size_t& master) const {
  const absl::StatusOr<std::size_t> named = MasterOf(i);
  if (!named.ok()) return named.status();
  master = *named;
  absl::StatusOr<Reply> state = sentinels_[i]->Ask({"SENTINEL", "MASTER", options_.name}, kLook);
  if (!state.ok()) return state.status();
  if (const std::string flags = Field(state->items(), "flags"); flags != "master") {
    return NotYet("sentinel ", i, " says of the master: ", flags);
  }
  const std::string others = Field(state->items(), "num-other-sentinels");
  if (others != StrCat(sentinels_.size() - 1)) {
    return NotYet("sentinel ", i, " knows ", others, " others");
  }
  absl::StatusOr<Reply> replicas = sentinels_[i]->Ask({"SENTINEL", "SLAVES", options_.name}, kLook);
  if (!replicas.ok()) return replicas.status();
  for (std::size_t k = 0; k < size(); ++k) {
    if (k == master || !Up(servers_[k])) continue;
    std::string flags = "nothing";
    for (const Reply& replica : replicas->items()) {
      if (Field(replica.items(), "port") != StrCat(servers_[k]->port())) continue;
      // Its link is not looked at: a Sentinel asks only every 10 s, and CheckReplicas() knows
      // better.
      flags = Field(replica.items(), "flags");
    }
    if (flags != "slave") return NotYet("sentinel ", i, " says of server ", k, ": ", flags);
  }
  return absl::OkStatus();
}

absl::Status Sentinels::CheckOk() const {
  const absl::StatusOr<std::size_t> first = FirstSentinel();
  if (!first.ok()) return first.status();
  std::size_t agreed = 0;
  for (std::size_t i = *first; i < sentinels_.size(); ++i) {
    if (!Up(sentinels_[i])) continue;
    std::size_t master = 0;
    if (absl::Status status = CheckSentinel(i, master); !status.ok()) return status;
    if (i == *first) agreed = master;
    if (master != agreed) return NotYet("the Sentinels name server ", agreed, " and ", master);
  }
  if (!Up(servers_[agreed])) return NotYet("server ", agreed, ", the master, does not run");
  return CheckReplicas(agreed);
}

absl::Status Sentinels::WaitUntilOk(absl::Duration timeout) {
  return WaitUntil("Sentinels", timeout, options_.stop, [this] { return CheckOk(); });
}

std::string Sentinels::url() const {
  std::string hosts;
  for (const auto& sentinel : sentinels_) {
    hosts += StrCat(hosts.empty() ? "" : ",", "127.0.0.1:", sentinel->port());
  }
  return StrCat(options_.tls ? "rediss" : "redis", "+sentinel://", hosts, "/", options_.name,
                place_->Query());
}

std::string Sentinels::ca_file() const { return options_.tls ? place_->tls()->ca_file : ""; }

absl::StatusOr<std::size_t> Sentinels::KillMaster() {
  const absl::StatusOr<std::size_t> killed = master();
  if (killed.ok()) servers_[*killed]->Kill();
  return killed;
}

absl::Status Sentinels::RestartNode(std::size_t i, Server::Data data) {
  if (i < size()) return servers_[i]->Restart(data);
  return internal::InvalidArgument(StrCat("no server ", i));
}

absl::Status Sentinels::Failover(absl::Duration timeout) {
  const absl::StatusOr<std::size_t> sentinel = FirstSentinel();
  if (!sentinel.ok()) return sentinel.status();
  const absl::StatusOr<std::size_t> before = MasterOf(*sentinel);
  if (!before.ok()) return before.status();
  absl::StatusOr<Reply> asked =
      sentinels_[*sentinel]->Ask({"SENTINEL", "FAILOVER", options_.name}, kLook);
  if (!asked.ok()) return asked.status();
  return WaitUntil("failover", timeout, options_.stop, [&]() -> absl::Status {
    const absl::StatusOr<std::size_t> now = MasterOf(*sentinel);
    if (!now.ok()) return now.status();
    if (*now == *before) return NotYet("server ", *now, " is the master still");
    for (std::size_t i = 0; i < sentinels_.size(); ++i) {
      if (!Up(sentinels_[i])) continue;
      const absl::StatusOr<std::size_t> named = MasterOf(i);
      if (!named.ok()) return named.status();
      if (*named != *now) return NotYet("sentinel ", i, " still names server ", *named);
    }
    const absl::StatusOr<std::string> role = servers_[*now]->Info("replication", "role");
    if (!role.ok()) return role.status();
    return *role == "master" ? absl::OkStatus() : NotYet("server ", *now, " is no master");
  });
}

}  // namespace coord::dev
