#include "tools/deployment_facts.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/deployment/url.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/duration_text.h"
#include "tools/server_facts.h"

namespace coord::tools {
namespace {

using internal::StrCat;

absl::Status Missing(std::string message) {
  return internal::MakeStatus(absl::StatusCode::kUnavailable, std::move(message),
                              internal::kUnavailable);
}

std::string Prefix(std::string_view host, std::string_view port) {
  return host.find(':') == std::string_view::npos ? StrCat(host, ":", port)
                                                  : StrCat("[", host, "]:", port);
}

NodeHealth ReplicaAsKnown(const Fields& fields) {
  NodeHealth node;
  node.node = Prefix(Text(fields, "ip"), Text(fields, "port"));
  node.role = "slave";
  node.needed = false;
  node.since = absl::Now();
  const std::string flags = Text(fields, "flags");
  const std::string link = Text(fields, "master-link-status");
  if (flags.find("s_down") != std::string::npos || flags.find("o_down") != std::string::npos ||
      flags.find("disconnected") != std::string::npos) {
    node.state = NodeState::kDown;
    node.status = Missing(StrCat(node.node, ": a replica that the Sentinels do not reach"));
  } else if (!link.empty() && link != "ok") {
    node.state = NodeState::kDegraded;
    node.status = Missing(StrCat(node.node, ": a replica whose link to its master is down"));
  } else {
    node.state = NodeState::kReady;
  }
  return node;
}

}  // namespace

std::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kServer:
      return "server";
    case Kind::kEmbedded:
      return "embedded";
    case Kind::kSentinel:
      return "sentinel";
    case Kind::kCluster:
      return "cluster";
    case Kind::kQuorum:
      return "quorum";
  }
  return "";
}

Kind KindOf(const Client& client) {
  const absl::StatusOr<internal::Url> url = internal::ParseUrl(client.ToString());
  if (!url.ok()) return Kind::kServer;
  switch (url->scheme) {
    case internal::Url::Scheme::kSentinel:
      return Kind::kSentinel;
    case internal::Url::Scheme::kCluster:
      return Kind::kCluster;
    case internal::Url::Scheme::kEmbedded:
      return Kind::kEmbedded;
    default:
      return Kind::kServer;
  }
}

Encrypted EncryptionOf(const Client& client) {
  const absl::StatusOr<internal::Url> url = internal::ParseUrl(client.ToString());
  if (!url.ok()) return {};
  return {url->tls, url->insecure};
}

std::string MasterName(const Client& client) {
  const absl::StatusOr<internal::Url> url = internal::ParseUrl(client.ToString());
  return url.ok() ? url->sentinel_master : "";
}

std::vector<NodeAccess> NodesOf(const Client& client) {
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client);
  const std::vector<internal::Node*> masters = session->deployment().Masters();
  std::vector<internal::Node*> all = session->deployment().AllNodes();
  if (all.empty()) all = masters;
  std::vector<NodeAccess> nodes;
  for (internal::Node* node : all) {
    NodeAccess access;
    access.name = node->name();
    access.needed = std::find(masters.begin(), masters.end(), node) != masters.end();
    access.ask = [session, node](const std::vector<std::string>& words) -> absl::StatusOr<Reply> {
      const absl::StatusOr<internal::CallLimits> limits = session->Limits({});
      if (!limits.ok()) return limits.status();
      const std::vector<std::string_view> views(words.begin(), words.end());
      internal::Request request = internal::Request::Command(views);
      request.set_retry_safe(true);
      return node->Execute(request, *limits);
    };
    access.ask_all = [session, node](const std::vector<std::vector<std::string>>& commands)
        -> absl::StatusOr<std::vector<Reply>> {
      const absl::StatusOr<internal::CallLimits> limits = session->Limits({});
      if (!limits.ok()) return limits.status();
      std::vector<internal::Request> requests;
      for (const std::vector<std::string>& words : commands) {
        const std::vector<std::string_view> views(words.begin(), words.end());
        requests.push_back(internal::Request::Command(views));
      }
      return node->ExecuteBatch(requests, *limits);
    };
    nodes.push_back(std::move(access));
  }
  return nodes;
}

std::vector<NodeHealth> ReplicasBySentinels(const Client& client) {
  const std::string master = MasterName(client);
  std::vector<NodeHealth> replicas;
  if (master.empty()) return replicas;
  for (const NodeAccess& node : NodesOf(client)) {
    if (node.needed) continue;
    const absl::StatusOr<Reply> reply = node.ask({"SENTINEL", "REPLICAS", master});
    if (!reply.ok()) continue;
    for (const Reply& one : reply->items()) replicas.push_back(ReplicaAsKnown(ReadFields(one)));
    break;
  }
  return replicas;
}

absl::Status JudgeVote(std::string_view marker, std::string_view run_id, std::int64_t now_us) {
  // "<run id, 40> <us, 16> ..."
  if (marker.size() < 57) {
    return Missing(
        "it does not vote yet: no client has used it; `coord quorum init` declares a new quorum");
  }
  if (marker.substr(0, 40) != run_id) {
    return Missing("it does not vote: it was started anew, and no client has noticed yet");
  }
  const auto from = internal::ParseInt64(marker.substr(41, 16));
  if (!from || *from <= now_us) return absl::OkStatus();
  return Missing(StrCat("it does not vote for another ", Brief(absl::Microseconds(*from - now_us)),
                        ": it may have forgotten what it granted"));
}

absl::Status AskVote(const Client& client) {
  const std::string key = StrCat(client.options().prefix, "{quorum}:birth");
  Pipeline pipeline;
  pipeline.Add({"GET", key}).Add({"INFO", "server"}).Add({"TIME"});
  const absl::StatusOr<std::vector<Reply>> replies = client.Execute(pipeline);
  if (!replies.ok()) return replies.status();
  const Reply& time = (*replies)[2];
  // A user who may not ask, which is no fault of the server.
  if ((*replies)[0].is_error() || (*replies)[1].is_error() || time.items().size() != 2) {
    return absl::OkStatus();
  }
  const auto seconds = internal::ParseInt64(time.items()[0].text());
  const auto micros = internal::ParseInt64(time.items()[1].text());
  const std::string marker = (*replies)[0].is_nil() ? std::string() : (*replies)[0].text();
  return JudgeVote(marker, Text(ParseInfo((*replies)[1].text()), "run_id"),
                   seconds.value_or(0) * 1000000 + micros.value_or(0));
}

absl::StatusOr<Client> ConnectOne(const Program& program, const std::string& url,
                                  ClientOptions options) {
  if (!program.quorum()) return program.Connect(std::move(options));
  absl::StatusOr<ClientOptions> wanted = program.Options(std::move(options));
  if (!wanted.ok()) return wanted.status();
  return Client::Connect(url, *std::move(wanted));
}

std::string ShownUrl(const std::string& url) { return HidePasswords(url); }

std::string Tried(const Program& program) {
  if (!program.urls.empty()) {
    std::string tried;
    for (const std::string& url : program.urls) {
      tried += (tried.empty() ? "" : " ") + HidePasswords(url);
    }
    return tried;
  }
  const char* from_environment = std::getenv("COORD_URL");
  return from_environment != nullptr && *from_environment != '\0' ? HidePasswords(from_environment)
                                                                  : "embedded://";
}

}  // namespace coord::tools
