#include "coord/client.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace internal {

struct ClientAccess {
  static const std::shared_ptr<Session>& Of(const Client& client) { return client.session_; }
  static Client Make(std::shared_ptr<Session> session) { return Client(std::move(session)); }
};

Session& SessionOf(const Client& client) { return *ClientAccess::Of(client); }
std::shared_ptr<Session> SharedSessionOf(const Client& client) { return ClientAccess::Of(client); }
Client ClientOf(std::shared_ptr<Session> session) { return ClientAccess::Make(std::move(session)); }

namespace {

// What would make every other caller of the connection wait, change its state under them, or answer
// at other times than asked.
constexpr std::array<std::string_view, 27> kNotOnASharedConnection = {
    "AUTH",        "BLMOVE",   "BLMPOP",     "BLPOP",     "BRPOP",        "BRPOPLPUSH",
    "BZMPOP",      "BZPOPMAX", "BZPOPMIN",   "DISCARD",   "EXEC",         "HELLO",
    "MONITOR",     "MULTI",    "PSUBSCRIBE", "PSYNC",     "PUNSUBSCRIBE", "QUIT",
    "RESET",       "SELECT",   "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC",
    "UNSUBSCRIBE", "WAIT",     "WAITAOF"};

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return upper;
}

absl::Status CheckCommand(std::span<const std::string_view> args) {
  if (args.empty() || args[0].empty()) return InvalidArgument("the command is empty");
  const std::string name = Upper(args[0]);
  bool refused = std::find(kNotOnASharedConnection.begin(), kNotOnASharedConnection.end(), name) !=
                 kNotOnASharedConnection.end();
  if (name == "WATCH" || name == "UNWATCH" || name == "ASKING" || name == "READONLY" ||
      name == "READWRITE") {
    refused = true;
  }
  if (name == "CLIENT" && args.size() > 1) {
    const std::string sub = Upper(args[1]);
    refused = sub == "REPLY" || sub == "TRACKING" || sub == "CACHING" || sub == "SETNAME" ||
              sub == "NO-EVICT" || sub == "NO-TOUCH";
  }
  if (name == "XREAD" || name == "XREADGROUP") {
    for (std::string_view arg : args) refused = refused || Upper(arg) == "BLOCK";
  }
  if (refused) {
    return InvalidArgument(
        StrCat(name,
               " is refused: it blocks the connection that all callers share, or "
               "changes its state for the others"));
  }
  return absl::OkStatus();
}

std::vector<std::string_view> Views(std::span<const std::string> strings) {
  return {strings.begin(), strings.end()};
}

}  // namespace
}  // namespace internal

absl::StatusOr<Client> Client::Connect(std::string_view url, ClientOptions options) {
  absl::StatusOr<std::shared_ptr<internal::Session>> session =
      internal::Session::Open(url, std::move(options));
  if (!session.ok()) return session.status();
  return Client(*std::move(session));
}

absl::StatusOr<Reply> Client::Command(std::span<const std::string_view> args,
                                      CallOptions options) const {
  if (absl::Status status = internal::CheckCommand(args); !status.ok()) return status;
  return session_->Execute(internal::Request::Command(args), options);
}

absl::StatusOr<Reply> Client::Command(std::initializer_list<std::string_view> args,
                                      CallOptions options) const {
  return Command(std::span<const std::string_view>(args.begin(), args.size()), std::move(options));
}

absl::StatusOr<Reply> Client::Run(const Script& script, std::span<const std::string_view> keys,
                                  std::span<const std::string_view> args,
                                  CallOptions options) const {
  return session_->Execute(internal::Request::Call(script.script_, keys, args), options);
}

absl::StatusOr<Reply> Client::Run(const Script& script,
                                  std::initializer_list<std::string_view> keys,
                                  std::initializer_list<std::string_view> args,
                                  CallOptions options) const {
  return Run(script, std::span<const std::string_view>(keys.begin(), keys.size()),
             std::span<const std::string_view>(args.begin(), args.size()), std::move(options));
}

absl::StatusOr<std::vector<Reply>> Client::Execute(const Pipeline& pipeline,
                                                   CallOptions options) const {
  std::vector<internal::Request> requests;
  requests.reserve(pipeline.steps_.size());
  for (const Pipeline::Step& step : pipeline.steps_) {
    const std::vector<std::string_view> args = internal::Views(step.args);
    const std::span<const std::string_view> all(args);
    if (step.script != nullptr) {
      requests.push_back(internal::Request::Call(step.script->script_, all.first(step.keys),
                                                 all.subspan(step.keys)));
      continue;
    }
    if (absl::Status status = internal::CheckCommand(all); !status.ok()) return status;
    requests.push_back(internal::Request::Command(all));
  }
  return session_->ExecuteBatch(requests, options);
}

void Client::Close() const { session_->Close(); }

std::string Client::ToString() const { return session_->url().Redacted(); }

const ClientOptions& Client::options() const { return session_->options(); }

Pipeline& Pipeline::Add(std::span<const std::string_view> args) {
  steps_.push_back({std::vector<std::string>(args.begin(), args.end()), nullptr, 0});
  return *this;
}

Pipeline& Pipeline::Add(std::initializer_list<std::string_view> args) {
  return Add(std::span<const std::string_view>(args.begin(), args.size()));
}

Pipeline& Pipeline::Add(const Script& script, std::initializer_list<std::string_view> keys,
                        std::initializer_list<std::string_view> args) {
  Step step{std::vector<std::string>(keys.begin(), keys.end()), &script, keys.size()};
  step.args.insert(step.args.end(), args.begin(), args.end());
  steps_.push_back(std::move(step));
  return *this;
}

}  // namespace coord
