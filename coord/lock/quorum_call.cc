#include "coord/lock/quorum_call.h"

#include <chrono>
#include <span>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {

Request QuorumAcquireRequest(const QuorumKeys& keys, std::string_view marker,
                             std::string_view owner, absl::Duration ttl, Ballot ballot,
                             std::string_view settings, const std::string* listener) {
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  const std::string text = BallotText(ballot);
  const std::string_view all_keys[] = {keys.lease, keys.fence, marker, keys.hints};
  const std::string_view all_args[] = {owner, ms, text, settings,
                                       listener != nullptr ? *listener : std::string_view()};
  return Request::Call(kQuorumAcquire, std::span(all_keys).first(listener != nullptr ? 4 : 3),
                       std::span(all_args).first(listener != nullptr ? 5 : 4));
}

QuorumCall::QuorumCall(std::size_t server, Kind kind, Ballot ballot,
                       std::shared_ptr<Connection> connection,
                       std::shared_ptr<const Request> request, absl::Time sent)
    : server_(server),
      kind_(kind),
      ballot_(ballot),
      connection_(std::move(connection)),
      request_(std::move(request)),
      sent_(sent),
      exchange_(request_->bytes(), request_->bytes().size(), std::span<Reply>(&reply_, 1)) {
  connection_->Submit(exchange_);
}

QuorumCall::~QuorumCall() {
  if (!exchange_.done()) connection_->Abandon(exchange_);
}

bool QuorumCall::Look() {
  if (done()) return true;
  connection_->Wait(exchange_, {std::chrono::steady_clock::now(), {}});
  return done();
}

absl::StatusOr<Reply> QuorumCall::Result(const std::string& name) {
  if (!exchange_.status().ok()) return exchange_.status();
  if (reply_.is_error()) return ServerError(reply_.text(), StrCat(request_->what(), " at ", name));
  return std::move(reply_);
}

bool QuorumCall::NeedsText() const {
  return exchange_.status().ok() && reply_.is_error() && request_->is_script() &&
         ErrorCode(reply_.text()) == "NOSCRIPT";
}

void FanOut::Send(std::size_t server, QuorumCall::Kind kind, Ballot ballot,
                  std::shared_ptr<Connection> connection, std::shared_ptr<const Request> request) {
  calls_.push_back(std::make_unique<QuorumCall>(server, kind, ballot, std::move(connection),
                                                std::move(request), core_.clock().Now()));
  any_->Add(*calls_.back()->connection(), calls_.back()->exchange());
}

WaitAny::Result FanOut::Next(const CallLimits& limits, QuorumCall** call) {
  while (true) {
    std::size_t which = 0;
    const WaitAny::Result result = any_->Next(limits, &which);
    if (result != WaitAny::Result::kDone) return result;
    QuorumCall& done = *calls_[which];
    if (!done.NeedsText()) {
      *call = &done;
      return result;
    }
    auto with_text = std::make_shared<Request>(*done.request());
    with_text->UseEval();
    Send(done.server(), done.kind(), done.ballot(), done.connection(), std::move(with_text));
  }
}

std::vector<std::unique_ptr<QuorumCall>> FanOut::TakeStragglers() {
  any_.reset();
  std::vector<std::unique_ptr<QuorumCall>> stragglers;
  for (auto& call : calls_) {
    if (!call->done()) stragglers.push_back(std::move(call));
  }
  calls_.clear();
  return stragglers;
}

}  // namespace coord::internal
