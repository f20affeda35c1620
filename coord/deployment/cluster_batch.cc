// Pipelines in a Cluster: split by master, sent all at once, put together again.
#include <algorithm>
#include <deque>
#include <utility>

#include "coord/deployment/cluster.h"
#include "coord/deployment/server_error.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// What goes to one master.
struct Part {
  explicit Part(Node& to) : node(to) {}
  Node& node;
  std::vector<std::size_t> places;  // in the batch
  std::vector<std::string_view> scripts;
  std::string bytes;
  std::size_t first_size = 0;
  std::vector<Reply> replies;
  std::shared_ptr<Connection> connection;
  std::unique_ptr<Exchange> exchange;

  void Add(Request& request, std::size_t place) {
    // As in any batch: a script that the server has forgotten must not be healed behind the
    // commands that follow it.
    if (request.is_script() &&
        std::find(scripts.begin(), scripts.end(), request.what()) == scripts.end()) {
      scripts.push_back(request.what());
      request.UseEval();
    }
    places.push_back(place);
    bytes += request.bytes();
    if (first_size == 0) first_size = bytes.size();
  }
};

// The command has not run, and may where it is sent to next.
bool NotHere(const Reply& reply) {
  if (!reply.is_error()) return false;
  const std::string_view code = ErrorCode(reply.text());
  return code == "MOVED" || code == "ASK" || PassesByItself(code);
}

}  // namespace

absl::StatusOr<std::vector<Reply>> Cluster::ExecuteBatch(std::span<Request> requests,
                                                         const CallLimits& limits) {
  std::vector<Reply> replies(requests.size());
  if (requests.empty()) return replies;
  const std::string what = StrCat("pipeline of ", requests.size(), " commands");
  // All of it is judged before any of it is sent.
  std::vector<Route> routes;
  routes.reserve(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    absl::StatusOr<Route> route = RouteOrAsk(requests[i], limits);
    if (!route.ok()) {
      return Annotate(route.status(), StrCat("command ", i + 1, " of a ", what, "; none was sent"));
    }
    routes.push_back(*route);
  }
  std::deque<Part> parts;
  std::vector<std::size_t> again;  // to be sent one by one
  Node* whichever = nullptr;       // of those without keys
  for (std::size_t i = 0; i < requests.size(); ++i) {
    Node* node = routes[i].kind == Route::Kind::kSlot ? Pick(routes[i]) : whichever;
    if (node == nullptr && routes[i].kind != Route::Kind::kSlot) node = whichever = AnyMaster();
    if (node == nullptr) {
      again.push_back(i);
      continue;
    }
    const auto part = std::find_if(parts.begin(), parts.end(),
                                   [&](const Part& known) { return &known.node == node; });
    (part != parts.end() ? *part : parts.emplace_back(*node)).Add(requests[i], i);
  }
  for (Part& part : parts) {
    CallLimits reach = limits;
    reach.deadline = std::min(reach.deadline, DeadlineAfter(absl::Seconds(1)));
    absl::StatusOr<std::shared_ptr<Connection>> connection =
        part.node.shared().Get(reach, Channel::Patience::kIfDue);
    if (!connection.ok()) continue;  // its commands look for another way, one by one
    part.connection = *std::move(connection);
    part.replies.resize(part.places.size());
    part.exchange = std::make_unique<Exchange>(part.bytes, part.first_size, part.replies);
    part.connection->Submit(*part.exchange);
  }
  absl::Status failed;
  for (Part& part : parts) {
    bool sent = false;
    if (part.exchange != nullptr) {
      const Connection::WaitResult result =
          WaitDoubting(*part.connection, *part.exchange, limits, *this, part.node);
      const absl::Status status =
          EndExchange(*part.connection, *part.exchange, result, what, part.connection->peer());
      const bool not_sent = part.exchange->done() && part.exchange->not_sent();
      if (!status.ok() && !not_sent && failed.ok()) failed = status;
      sent = !not_sent;
    }
    for (std::size_t i = 0; i < part.places.size(); ++i) {
      if (!sent || NotHere(part.replies[i])) {
        again.push_back(part.places[i]);
      } else {
        replies[part.places[i]] = std::move(part.replies[i]);
      }
    }
  }
  if (!failed.ok()) return failed;
  std::sort(again.begin(), again.end());
  for (const std::size_t place : again) {
    CallProgress progress;
    Attempt attempt = TryAll(requests[place], limits, progress, {});
    if (attempt.reply.ok()) {
      replies[place] = *std::move(attempt.reply);
    } else if (!attempt.refusal.empty()) {
      replies[place] = Reply::Text(Reply::Kind::kError, std::move(attempt.refusal));
    } else {
      return Annotate(attempt.reply.status(),
                      StrCat("command ", place + 1, " of a ", what, "; others were applied"));
    }
  }
  return replies;
}

}  // namespace coord::internal
