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
  if (InfoField(text, "redis_mode") == "sentinel") node.role = "sentinel";
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

}  // namespace

bool Health::ok() const {
  for (const NodeHealth& node : nodes) {
    if (!node.status.ok()) return false;
  }
  return !nodes.empty();
}

Health Client::Health(CallOptions options) const {
  NodeHealth node;
  node.node = session_->node().name();
  const std::span<const internal::ScriptText* const> scripts = internal::AllScripts();
  node.scripts_expected = static_cast<int>(scripts.size());
  const auto before = std::chrono::steady_clock::now();
  node.status = Command({"PING"}, options).status();
  node.round_trip = absl::FromChrono(std::chrono::steady_clock::now() - before);
  if (node.status.ok()) {
    std::vector<std::string_view> exists = {"SCRIPT", "EXISTS"};
    for (const internal::ScriptText* script : scripts) exists.push_back(script->sha1);
    const absl::StatusOr<std::vector<Reply>> replies =
        Execute(Pipeline().Add({"INFO"}).Add(exists), options);
    if (replies.ok()) {
      ReadInfo((*replies)[0], node);
      node.scripts_loaded = CountLoaded((*replies)[1]);
    } else {
      node.status = replies.status();
    }
  }
  node.connections_made = session_->node().generation();
  coord::Health health;
  health.nodes.push_back(std::move(node));
  return health;
}

}  // namespace coord
