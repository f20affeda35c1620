#include "cache/redis_backend.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::InvalidArgument;
using internal::MakeStatus;
using internal::Quoted;
using internal::Request;
using internal::Session;
using internal::StrCat;

Request Read(std::span<const std::string_view> words) {
  Request request = Request::Command(words);
  request.set_retry_safe(true);
  return request;
}
Request Read(std::initializer_list<std::string_view> words) {
  return Read(std::span(words.begin(), words.size()));
}

Request SetRequest(const Write& write, SetIf condition) {
  std::string_view words[6] = {"SET", write.key, write.value};
  std::size_t count = 3;
  std::string ms;
  if (write.ttl != absl::InfiniteDuration()) {
    ms = StrCat(absl::ToInt64Milliseconds(write.ttl));
    words[count++] = "PX";
    words[count++] = ms;
  }
  if (condition != SetIf::kAlways) words[count++] = condition == SetIf::kAbsent ? "NX" : "XX";
  return Request::Command({words, count});
}

absl::Status CheckCacheTtl(absl::Duration ttl) {
  if (ttl == absl::InfiniteDuration()) return absl::OkStatus();
  if (absl::Status status = internal::CheckDataTtl(ttl); !status.ok()) return status;
  if (absl::Trunc(ttl, absl::Milliseconds(1)) == ttl) return absl::OkStatus();
  return InvalidArgument(
      StrCat("ttl is ", internal::ToText(ttl), "; it must be whole milliseconds"));
}

absl::Status OfKey(const absl::Status& status, std::string_view key) {
  return internal::Annotate(status, StrCat("cache key ", Quoted(key)));
}

absl::Status Unexpected(std::string_view command, const Reply& reply) {
  return MakeStatus(absl::StatusCode::kDataLoss,
                    StrCat(command, " answered ", reply.ToDebugString(64)));
}

// One by one in a pipeline, what became of it: an error as Client::Command would have it.
absl::Status Refused(const Client& client, std::string_view command, std::string_view key,
                     const Reply& reply) {
  return OfKey(internal::ServerError(reply.text(), StrCat(command, " at ", client.ToString())),
               key);
}

// Whether a server that will be ready soon has refused some of it.
bool AskedForAMoment(std::span<const Reply> replies) {
  for (const Reply& reply : replies) {
    if (reply.is_error() && internal::PassesByItself(internal::ErrorCode(reply.text()))) {
      return true;
    }
  }
  return false;
}

// All in one round trip, repeated as a single read is: while connections break, or servers ask for
// a moment, within the time.
absl::StatusOr<std::vector<Reply>> ReadAll(Session& session, std::span<Request> requests,
                                           const CallOptions& call) {
  const absl::StatusOr<CallLimits> limits = session.Limits(call);
  if (!limits.ok()) return limits.status();
  while (true) {
    if (absl::Status status = session.Usable(); !status.ok()) return status;
    absl::StatusOr<std::vector<Reply>> replies =
        session.deployment().ExecuteBatch(requests, *limits);
    const bool again = replies.ok() ? AskedForAMoment(*replies) && internal::PauseForServer(*limits)
                                    : IsOutcomeUnknown(replies.status()) &&
                                          coord::IsUnavailable(replies.status()) &&
                                          !internal::Passed(limits->deadline);
    if (!again) return replies;
    // A redirection may have added it.
    for (Request& request : requests) request.SetAsking(false);
  }
}

// What PTTL says: 0 of a key that lives to the end of this millisecond.
TimeLeft ToTimeLeft(const Reply& pttl) {
  if (pttl.integer() == -1) return TimeLeft::Forever();
  if (pttl.integer() < 0) return TimeLeft::Missing();
  return TimeLeft::Of(absl::Milliseconds(std::max<std::int64_t>(pttl.integer(), 1)));
}

// A value and, where it was asked for, what PTTL said behind it.
std::optional<Stored> ToStored(Reply& value, const Reply* pttl) {
  if (!value.is_string()) return std::nullopt;
  if (pttl == nullptr) return Stored{std::move(value.mutable_text())};
  const TimeLeft left = ToTimeLeft(*pttl);
  if (left.kind() == TimeLeft::Kind::kMissing) return std::nullopt;
  return Stored{std::move(value.mutable_text()), left.left()};
}

}  // namespace

RedisBackend::RedisBackend(Client client, bool owned)
    : client_(std::move(client)),
      owned_(owned),
      cluster_(internal::SessionOf(client_).url().scheme == internal::Url::Scheme::kCluster) {}

absl::StatusOr<std::shared_ptr<RedisBackend>> RedisBackend::Connect(std::string_view url,
                                                                    ClientOptions options) {
  if (url.empty()) {
    const char* const from_environment = std::getenv("COORD_CACHE_URL");
    if (from_environment != nullptr) url = from_environment;
  }
  absl::StatusOr<Client> client = Client::Connect(url, std::move(options));
  if (!client.ok()) return client.status();
  return std::shared_ptr<RedisBackend>(new RedisBackend(*std::move(client), /*owned=*/true));
}

absl::Status RedisBackend::Open() const {
  if (!closed_.load(std::memory_order_relaxed)) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kFailedPrecondition, "the cache's backend is closed");
}

absl::Status RedisBackend::Check(std::string_view key) const {
  if (absl::Status status = Open(); !status.ok()) return status;
  if (!key.empty() && key.size() <= kMaxKey) return absl::OkStatus();
  return InvalidArgument(
      StrCat("cache key has ", key.size(), " bytes; it must have 1 to ", kMaxKey));
}

absl::Status RedisBackend::Check(const Write& write) const {
  if (absl::Status status = Check(write.key); !status.ok()) return status;
  if (write.value.size() > kMaxValue) {
    return OfKey(InvalidArgument(StrCat("the value has ", write.value.size(),
                                        " bytes; it may have at most ", kMaxValue)),
                 write.key);
  }
  if (absl::Status status = CheckCacheTtl(write.ttl); !status.ok()) {
    return OfKey(status, write.key);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Stored>> RedisBackend::Get(std::string_view key, Want want,
                                                        const CallOptions& call) {
  if (absl::Status status = Check(key); !status.ok()) return status;
  Session& session = internal::SessionOf(client_);
  if (want == Want::kValue) {
    absl::StatusOr<Reply> reply = session.Execute(Read({"GET", key}), call);
    if (!reply.ok()) return OfKey(reply.status(), key);
    if (!reply->is_string() && !reply->is_nil()) return OfKey(Unexpected("GET", *reply), key);
    return ToStored(*reply, nullptr);
  }
  Request requests[] = {Read({"GET", key}), Read({"PTTL", key})};
  absl::StatusOr<std::vector<Reply>> replies = ReadAll(session, requests, call);
  if (!replies.ok()) return OfKey(replies.status(), key);
  for (const Reply& reply : *replies) {
    if (reply.is_error()) return Refused(client_, "GET", key, reply);
  }
  return ToStored((*replies)[0], &(*replies)[1]);
}

absl::StatusOr<std::vector<std::optional<Stored>>> RedisBackend::GetMany(
    std::span<const std::string> keys, Want want, const CallOptions& call) {
  if (absl::Status status = Open(); !status.ok()) return status;
  for (const std::string& key : keys) {
    if (absl::Status status = Check(key); !status.ok()) return status;
  }
  std::vector<std::optional<Stored>> found;
  if (keys.empty()) return found;
  found.reserve(keys.size());
  Session& session = internal::SessionOf(client_);
  std::vector<Request> requests;
  if (!cluster_) {
    std::vector<std::string_view> words = {"MGET"};
    words.insert(words.end(), keys.begin(), keys.end());
    requests.push_back(Read(words));
    if (want == Want::kValue) {
      absl::StatusOr<Reply> reply = session.Execute(std::move(requests[0]), call);
      if (!reply.ok()) return reply.status();
      if (reply->items().size() != keys.size()) return Unexpected("MGET", *reply);
      for (Reply& value : reply->mutable_items()) found.push_back(ToStored(value, nullptr));
      return found;
    }
  }
  requests.reserve(2 * keys.size());
  for (const std::string& key : keys) {
    if (cluster_) requests.push_back(Read({"GET", key}));
    if (want == Want::kValueAndTtl) requests.push_back(Read({"PTTL", key}));
  }
  absl::StatusOr<std::vector<Reply>> replies = ReadAll(session, requests, call);
  if (!replies.ok()) return replies.status();
  std::size_t next = 0;
  std::span<Reply> values;
  if (!cluster_) {
    Reply& all = (*replies)[next++];
    if (all.is_error()) return Refused(client_, "MGET", keys[0], all);
    if (all.items().size() != keys.size()) return Unexpected("MGET", all);
    values = all.mutable_items();
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    Reply& value = cluster_ ? (*replies)[next++] : values[i];
    // As MGET has it: another type is no value.
    if (value.is_error() && internal::ErrorCode(value.text()) != "WRONGTYPE") {
      return Refused(client_, "GET", keys[i], value);
    }
    const Reply* const pttl = want == Want::kValueAndTtl ? &(*replies)[next++] : nullptr;
    if (pttl != nullptr && pttl->is_error()) return Refused(client_, "PTTL", keys[i], *pttl);
    found.push_back(ToStored(value, pttl));
  }
  return found;
}

absl::StatusOr<bool> RedisBackend::Set(const Write& write, SetIf condition,
                                       const CallOptions& call) {
  if (absl::Status status = Check(write); !status.ok()) return status;
  const absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(SetRequest(write, condition), call);
  if (!reply.ok()) return OfKey(reply.status(), write.key);
  return !reply->is_nil();
}

absl::Status RedisBackend::SetMany(std::span<const Write> writes, const CallOptions& call) {
  if (absl::Status status = Open(); !status.ok()) return status;
  for (const Write& write : writes) {
    if (absl::Status status = Check(write); !status.ok()) return status;
  }
  if (writes.empty()) return absl::OkStatus();
  std::vector<Request> requests;
  requests.reserve(writes.size());
  for (const Write& write : writes) requests.push_back(SetRequest(write, SetIf::kAlways));
  const absl::StatusOr<std::vector<Reply>> replies =
      internal::SessionOf(client_).ExecuteBatch(requests, call);
  if (!replies.ok()) return replies.status();
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const Reply& reply = (*replies)[i];
    if (reply.is_error()) return Refused(client_, "SET", writes[i].key, reply);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> RedisBackend::Delete(std::string_view key, const CallOptions& call) {
  if (absl::Status status = Check(key); !status.ok()) return status;
  const absl::StatusOr<Reply> reply = client_.Command({"UNLINK", key}, call);
  if (!reply.ok()) return OfKey(reply.status(), key);
  return reply->integer() > 0;
}

absl::StatusOr<std::int64_t> RedisBackend::DeleteMany(std::span<const std::string> keys,
                                                      const CallOptions& call) {
  if (absl::Status status = Open(); !status.ok()) return status;
  for (const std::string& key : keys) {
    if (absl::Status status = Check(key); !status.ok()) return status;
  }
  if (keys.empty()) return 0;
  if (!cluster_) {
    std::vector<std::string_view> words = {"UNLINK"};
    words.insert(words.end(), keys.begin(), keys.end());
    const absl::StatusOr<Reply> reply = client_.Command(words, call);
    if (!reply.ok()) return reply.status();
    return reply->integer();
  }
  std::vector<Request> requests;
  requests.reserve(keys.size());
  for (const std::string& key : keys) {
    const std::string_view words[] = {"UNLINK", key};
    requests.push_back(Request::Command(words));
  }
  const absl::StatusOr<std::vector<Reply>> replies =
      internal::SessionOf(client_).ExecuteBatch(requests, call);
  if (!replies.ok()) return replies.status();
  std::int64_t deleted = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Reply& reply = (*replies)[i];
    if (reply.is_error()) return Refused(client_, "UNLINK", keys[i], reply);
    deleted += reply.integer();
  }
  return deleted;
}

absl::StatusOr<bool> RedisBackend::Exists(std::string_view key, const CallOptions& call) {
  if (absl::Status status = Check(key); !status.ok()) return status;
  const absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(Read({"EXISTS", key}), call);
  if (!reply.ok()) return OfKey(reply.status(), key);
  return reply->integer() > 0;
}

absl::StatusOr<TimeLeft> RedisBackend::Ttl(std::string_view key, const CallOptions& call) {
  if (absl::Status status = Check(key); !status.ok()) return status;
  const absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(Read({"PTTL", key}), call);
  if (!reply.ok()) return OfKey(reply.status(), key);
  return ToTimeLeft(*reply);
}

absl::StatusOr<bool> RedisBackend::Expire(std::string_view key, absl::Duration ttl,
                                          const CallOptions& call) {
  if (ttl == absl::InfiniteDuration()) return Persist(key, call);
  if (absl::Status status = Check(key); !status.ok()) return status;
  if (absl::Status status = CheckCacheTtl(ttl); !status.ok()) return OfKey(status, key);
  const std::string ms = StrCat(absl::ToInt64Milliseconds(ttl));
  const absl::StatusOr<Reply> reply = client_.Command({"PEXPIRE", key, ms}, call);
  if (!reply.ok()) return OfKey(reply.status(), key);
  return reply->integer() > 0;
}

absl::StatusOr<bool> RedisBackend::Persist(std::string_view key, const CallOptions& call) {
  if (absl::Status status = Check(key); !status.ok()) return status;
  const std::string_view words[] = {"PERSIST", key};
  // PERSIST says no also of a key that has no end; one that has, or is not there, when it is asked
  // for right behind that, was not there.
  Request requests[] = {Request::Command(words), Read({"PTTL", key})};
  const absl::StatusOr<std::vector<Reply>> replies =
      internal::SessionOf(client_).ExecuteBatch(requests, call);
  if (!replies.ok()) return OfKey(replies.status(), key);
  for (const Reply& reply : *replies) {
    if (reply.is_error()) return Refused(client_, "PERSIST", key, reply);
  }
  return (*replies)[0].integer() > 0 || (*replies)[1].integer() == -1;
}

absl::Status RedisBackend::Ping(const CallOptions& call) {
  if (absl::Status status = Open(); !status.ok()) return status;
  return internal::SessionOf(client_).Execute(Read({"PING"}), call).status();
}

absl::Status RedisBackend::Reconnect(const CallOptions& call) {
  if (absl::Status status = Open(); !status.ok()) return status;
  return client_.Reconnect(call);
}

void RedisBackend::Close() {
  if (closed_.exchange(true)) return;
  if (owned_) client_.Close();
}

}  // namespace coord
