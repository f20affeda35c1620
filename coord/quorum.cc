#include "coord/quorum.h"

#include <utility>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/quorum_core.h"
#include "scripts.h"

namespace coord {
namespace internal {

struct QuorumAccess {
  static const std::shared_ptr<QuorumCore>& Of(const Quorum& quorum) { return quorum.core_; }
};

const std::shared_ptr<QuorumCore>& CoreOf(const Quorum& quorum) { return QuorumAccess::Of(quorum); }

namespace {

// Runs quorum_declare on one server; its run id.
absl::StatusOr<std::string> Declare(Session& session, const QuorumOptions& options,
                                    std::string_view how) {
  const std::string marker = StrCat(session.options().prefix, "{quorum}:birth");
  const std::string max_ttl = StrCat(CeilMilliseconds(options.max_ttl));
  const std::string tolerance = StrCat(CeilMilliseconds(options.clock_tolerance));
  absl::StatusOr<Reply> reply =
      session.Execute(Bind(kQuorumDeclare, {marker}, {max_ttl, tolerance, how}), CallOptions());
  if (!reply.ok()) return reply.status();
  const auto items = reply->items();
  if (items.size() >= 2 && items[0].integer() == 1) return items[1].text();
  const std::string name = session.node().name();
  if (items.size() < 3) {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat("quorum_declare at ", name, " answered ", reply->ToDebugString()));
  }
  const std::string& why = items[1].text();
  if (why == "marker") {
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat(name, " belongs to a quorum already, or has been seen by a client of one: ", marker,
               " is ", Quoted(items[2].text()),
               ". If nothing was ever granted there, declare it by force; else wait until it "
               "votes by itself"));
  }
  if (why == "cluster") {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat(name, " is part of a Cluster; a quorum is made of single servers"));
  }
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat(name, ": maxmemory-policy is ", items[2].text(),
                           ", so it may evict locks; a quorum needs noeviction"));
}

}  // namespace
}  // namespace internal

absl::StatusOr<Quorum> Quorum::Connect(std::span<const std::string> urls,
                                       ClientOptions client_options, QuorumOptions options) {
  absl::StatusOr<std::shared_ptr<internal::QuorumCore>> core =
      internal::QuorumCore::Open(urls, client_options, std::move(options));
  if (!core.ok()) return core.status();
  return Quorum(*std::move(core));
}

absl::Status Quorum::DeclareNew(std::span<const std::string> urls, ClientOptions client_options,
                                QuorumOptions options, bool force) {
  if (absl::Status status = internal::CheckQuorumOptions(urls.size(), options); !status.ok()) {
    return status;
  }
  std::vector<std::shared_ptr<internal::Session>> sessions;
  for (const std::string& url : urls) {
    absl::StatusOr<std::shared_ptr<internal::Session>> session =
        internal::Session::Open(url, client_options);
    if (!session.ok()) return session.status();
    sessions.push_back(*std::move(session));
  }
  // All are asked before any is changed: one that remembers shows that the deployment is not new.
  std::vector<std::string> run_ids;
  for (const auto& session : sessions) {
    absl::StatusOr<std::string> run_id =
        internal::Declare(*session, options, force ? "force" : "check");
    if (!run_id.ok()) return run_id.status();
    for (std::size_t i = 0; i < run_ids.size(); ++i) {
      if (run_ids[i] == *run_id) {
        return internal::InvalidArgument(
            internal::StrCat(session->node().name(), " and ", sessions[i]->node().name(),
                             " are the same server; each must vote once"));
      }
    }
    run_ids.push_back(*std::move(run_id));
  }
  if (force) return absl::OkStatus();
  for (const auto& session : sessions) {
    absl::StatusOr<std::string> run_id = internal::Declare(*session, options, "new");
    if (!run_id.ok()) return run_id.status();
  }
  return absl::OkStatus();
}

void Quorum::Close() const { core_->Close(); }

std::size_t Quorum::size() const { return core_->size(); }

std::string Quorum::ToString() const {
  std::string text;
  for (std::size_t i = 0; i < core_->size(); ++i) {
    text += internal::StrCat(i == 0 ? "" : ",", core_->member(i).session()->url().Redacted());
  }
  return text;
}

const QuorumOptions& Quorum::options() const { return core_->options(); }

}  // namespace coord
