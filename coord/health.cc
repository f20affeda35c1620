#include "coord/health.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <string_view>
#include <utility>

#include "coord/client.h"
#include "coord/deployment/session.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord {
namespace {

// The value of "field:value\r\n" in INFO's text.
std::string_view InfoField(std::string_view info, std::string_view field) {
  std::size_t at = 0;
  while (at < info.size()) {
    const std::size_t end = std::min(info.find('\n', at), info.size());
    std::string_view line = info.substr(at, end - at);
    at = end + 1;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.size() > field.size() && line.substr(0, field.size()) == field &&
        line[field.size()] == ':') {
      return line.substr(field.size() + 1);
    }
  }
  return {};
}

// What the server says it is, and whether that can be worked with.
void ReadInfo(const Reply& info, NodeHealth& node) {
  if (info.is_error()) {  // the user may not ask, which is no fault of the server
    node.server = "unknown (INFO refused)";
    return;
  }
  const std::string& text = info.text();
  const std::string_view valkey = InfoField(text, "valkey_version");
  node.server = valkey.empty() ? internal::StrCat("redis ", InfoField(text, "redis_version"))
                               : internal::StrCat("valkey ", valkey);
  node.role = InfoField(text, "role");
  // Valkey calls the field otherwise.
  if (InfoField(text, "redis_mode") == "sentinel" || InfoField(text, "server_mode") == "sentinel") {
    node.role = "sentinel";
  }
  if (!node.needed) return;
  if (node.role == "slave") {
    node.status = internal::MakeStatus(
        absl::StatusCode::kUnavailable,
        internal::StrCat(node.node, " is a replica and refuses writes; connect to its master, ",
                         InfoField(text, "master_host"), ":", InfoField(text, "master_port")),
        internal::kUnavailable);
  } else if (node.role == "sentinel") {
    node.status = internal::MakeStatus(
        absl::StatusCode::kUnavailable,
        internal::StrCat(node.node,
                         " is a Sentinel and keeps no data; connect to the master it watches"),
        internal::kUnavailable);
  }
}

// Of SCRIPT EXISTS; nothing when that was refused.
std::optional<int> CountLoaded(const Reply& exists) {
  if (exists.is_error()) return std::nullopt;
  int loaded = 0;
  for (const Reply& one : exists.items()) loaded += one.integer() == 1 ? 1 : 0;
  return loaded;
}

// One node's own answers, and what is remembered of it.
NodeHealth Ask(internal::Node& node, bool needed, const internal::CallLimits& limits) {
  NodeHealth health;
  const internal::NodeRecord::View seen = node.record().Look();
  health.node = node.name();
  health.state = seen.state;
  health.since = seen.since;
  health.needed = needed;
  const std::span<const internal::ScriptText* const> scripts = internal::AllScripts();
  const bool scripted = node.options().scripts && needed;
  health.scripts_expected = scripted ? static_cast<int>(scripts.size()) : 0;
  health.status = node.Connect(limits);
  if (health.status.ok()) {
    const std::string_view ping[] = {"PING"};
    internal::Request request = internal::Request::Command(ping);
    request.set_retry_safe(true);
    const auto before = std::chrono::steady_clock::now();
    health.status = node.Execute(request, limits).status();
    health.round_trip = absl::FromChrono(std::chrono::steady_clock::now() - before);
  }
  if (health.status.ok()) {
    const std::string_view info[] = {"INFO"};
    std::vector<std::string_view> exists = {"SCRIPT", "EXISTS"};
    for (const internal::ScriptText* script : scripts) exists.push_back(script->sha1);
    std::vector<internal::Request> requests = {internal::Request::Command(info)};
    if (scripted) requests.push_back(internal::Request::Command(exists));
    const absl::StatusOr<std::vector<Reply>> replies = node.ExecuteBatch(requests, limits);
    if (replies.ok()) {
      ReadInfo((*replies)[0], health);
      if (scripted) health.scripts_loaded = CountLoaded((*replies)[1]);
    } else {
      health.status = replies.status();
    }
  }
  health.node = node.name();  // it may have been found elsewhere
  const internal::NodeRecord::View now = node.record().Look();
  health.last_error = std::string(internal::FromAbsl(now.last_error.message()));
  health.last_error_at = now.last_error_at;
  health.connections_made = node.generation();
  health.latency_p50 = node.record().latency().Percentile(0.5);
  health.latency_p99 = node.record().latency().Percentile(0.99);
  return health;
}

}  // namespace

bool Health::ok() const {
  for (const NodeHealth& node : nodes) {
    if (node.needed && !node.status.ok()) return false;
  }
  return !nodes.empty();
}

bool Health::whole() const {
  for (const NodeHealth& node : nodes) {
    if (!node.status.ok()) return false;
  }
  return ok();
}

Health Client::Health(CallOptions options) const {
  coord::Health health;
  absl::StatusOr<internal::CallLimits> limits = session_->Limits(options);
  absl::Status usable = session_->Usable();
  if (usable.ok() && !limits.ok()) usable = limits.status();
  if (!usable.ok()) {
    NodeHealth node;
    node.node = ToString();
    node.status = std::move(usable);
    health.nodes.push_back(std::move(node));
    return health;
  }
  const std::vector<internal::Node*> masters = session_->deployment().Masters();
  std::vector<internal::Node*> nodes = session_->deployment().AllNodes();
  if (nodes.empty()) nodes = masters;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    // Those that follow get their share of the time.
    internal::CallLimits share = *limits;
    if (share.deadline != internal::SteadyTime::max()) {
      const auto left = static_cast<int>(nodes.size() - i);
      share.deadline = internal::DeadlineAfter(internal::TimeUntil(limits->deadline) / left);
    }
    const bool needed = std::find(masters.begin(), masters.end(), nodes[i]) != masters.end();
    health.nodes.push_back(Ask(*nodes[i], needed, share));
    for (const NodeEvent& event : nodes[i]->record().Look().history) {
      health.history.push_back(event);
    }
  }
  std::stable_sort(health.history.begin(), health.history.end(),
                   [](const NodeEvent& a, const NodeEvent& b) { return a.when < b.when; });
  return health;
}

absl::Status Client::Reconnect(CallOptions options) const {
  absl::StatusOr<internal::CallLimits> limits = session_->Limits(options);
  if (!limits.ok()) return limits.status();
  return session_->Reconnect(*limits);
}

}  // namespace coord
