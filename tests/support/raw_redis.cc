#include "tests/support/raw_redis.h"

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "coord/internal/strings.h"
#include "gtest/gtest.h"
#include "tests/support/acl_rights.h"
#include "tests/support/redis_server.h"

namespace coord::testing {
namespace {

constexpr std::string_view kConnectionError = "IOERR ";

Reply ConnectionError(std::string_view why) {
  return Reply::Text(Reply::Kind::kError, internal::StrCat(kConnectionError, why));
}

// hiredis 0.14 writes without MSG_NOSIGNAL. To ignore the signal everywhere would hide the same
// fault in coord, so it is kept from this thread alone, for as long as this lives.
class NoSigPipe {
 public:
  NoSigPipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigPipe() {
    const timespec now{};
    sigtimedwait(&pipe_, nullptr, &now);  // one that came meanwhile
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigPipe(const NoSigPipe&) = delete;
  NoSigPipe& operator=(const NoSigPipe&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
};

bool PeerIsGone(int fd) {
  char byte = 0;
  const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

Reply Convert(const redisReply& reply) {
  const auto text = [&reply](Reply::Kind kind) {
    return Reply::Text(kind, std::string(reply.str, static_cast<std::size_t>(reply.len)));
  };
  switch (reply.type) {
    case REDIS_REPLY_NIL:
      return Reply();
    case REDIS_REPLY_INTEGER:
      return Reply::Integer(reply.integer);
    case REDIS_REPLY_STATUS:
      return text(Reply::Kind::kStatus);
    case REDIS_REPLY_ERROR:
      return text(Reply::Kind::kError);
    case REDIS_REPLY_ARRAY: {
      std::vector<Reply> items;
      for (std::size_t i = 0; i < static_cast<std::size_t>(reply.elements); ++i) {
        items.push_back(Convert(*reply.element[i]));
      }
      return Reply::Items(Reply::Kind::kArray, std::move(items));
    }
    default:
      return text(Reply::Kind::kString);  // RESP3 is never asked for
  }
}

}  // namespace

RawRedis::RawRedis(const RedisServer& server) : RawRedis(server.unix_url()) {}

RawRedis::RawRedis(std::string_view url, absl::Duration timeout)
    : endpoint_(ParseEndpoint(url)), timeout_(timeout) {}

void RawRedis::Free::operator()(redisContext* context) const { redisFree(context); }

Reply RawRedis::Connect() {
  if (context_ != nullptr && context_->err == 0 && !PeerIsGone(context_->fd)) return Reply();
  const timeval limit = absl::ToTimeval(timeout_);
  context_.reset(endpoint_.path.empty()
                     ? redisConnectWithTimeout(endpoint_.host.c_str(), endpoint_.port, limit)
                     : redisConnectUnixWithTimeout(endpoint_.path.c_str(), limit));
  if (context_ == nullptr) return ConnectionError("out of memory");
  if (context_->err != 0) return ConnectionError(context_->errstr);
  redisSetTimeout(context_.get(), limit);
  if (LeastRights()) {
    // Refused by a server that RedisServer did not start; it has no such user and needs none.
    const NoSigPipe no_sigpipe;
    freeReplyObject(redisCommand(context_.get(), "AUTH %s %s", kAdmin, kAdminPassword));
  }
  return Reply();
}

Reply RawRedis::Command(const std::vector<std::string>& arguments) {
  if (Reply failure = Connect(); failure.is_error()) return failure;
  std::vector<const char*> data;
  std::vector<std::size_t> sizes;
  for (const std::string& argument : arguments) {
    data.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  const NoSigPipe no_sigpipe;
  auto* const reply = static_cast<redisReply*>(redisCommandArgv(
      context_.get(), static_cast<int>(arguments.size()), data.data(), sizes.data()));
  if (reply == nullptr) return ConnectionError(context_->errstr);
  Reply result = Convert(*reply);
  freeReplyObject(reply);
  return result;
}

std::string RawRedis::NextMessage() {
  void* raw = nullptr;
  const NoSigPipe no_sigpipe;
  if (redisGetReply(context_.get(), &raw) != REDIS_OK) {
    return ConnectionError(context_->errstr).text();
  }
  const Reply reply = Convert(*static_cast<redisReply*>(raw));
  freeReplyObject(raw);
  return reply.items().size() == 3 ? reply.items()[2].text() : reply.ToDebugString(100);
}

std::string RawRedis::Text(const std::vector<std::string>& arguments) {
  const Reply reply = Command(arguments);
  const bool fits = reply.is_string() || reply.kind() == Reply::Kind::kStatus;
  EXPECT_TRUE(fits) << arguments[0] << " answered no text; error, if it is one: " << reply.text();
  return fits ? reply.text() : "";
}

std::int64_t RawRedis::Integer(const std::vector<std::string>& arguments) {
  const Reply reply = Command(arguments);
  EXPECT_TRUE(reply.is_integer()) << arguments[0]
                                  << " answered no integer; text, if it is one: " << reply.text();
  return reply.is_integer() ? reply.integer() : -1;
}

bool RawRedis::IsConnectionError(const Reply& reply) {
  return reply.is_error() && reply.text().starts_with(kConnectionError);
}

std::int64_t CommandCalls(RawRedis& redis, std::string_view command) {
  const std::string stats = redis.Text({"INFO", "commandstats"});
  const std::string label = internal::StrCat("cmdstat_", command, ":calls=");
  const std::size_t at = stats.find(label);
  return at == std::string::npos ? 0 : std::strtoll(stats.c_str() + at + label.size(), nullptr, 10);
}

std::int64_t AllCalls(RawRedis& redis) {
  std::istringstream lines(redis.Text({"INFO", "commandstats"}));
  std::int64_t calls = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find(":calls=");
    if (line.rfind("cmdstat_", 0) != 0 || at == std::string::npos) continue;
    // What the one who asks signed in with.
    if (LeastRights() && line.rfind("cmdstat_auth", 0) == 0) continue;
    if (line.rfind("cmdstat_info", 0) == 0 || line.rfind("cmdstat_config", 0) == 0) continue;
    calls += std::stoll(line.substr(at + 7));
  }
  return calls;
}

}  // namespace coord::testing
