#include "coord/deployment/handshake.h"

#include <algorithm>

#include "coord/deployment/server_error.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/wire/resp.h"

namespace coord::internal {
namespace {

// HELLO's answer: field names and values in turn.
ServerFacts ReadFacts(const Reply& hello) {
  ServerFacts facts;
  const auto items = hello.items();
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i].text() == "server") facts.name = items[i + 1].text();
    if (items[i].text() != "version") continue;
    const std::string_view version = items[i + 1].text();
    const auto dot = version.find('.');
    const auto number = [](std::string_view text) {
      return static_cast<int>(ParseInt64(text).value_or(0));
    };
    facts.major = number(version.substr(0, dot));
    if (dot == std::string_view::npos) continue;
    const std::string_view rest = version.substr(dot + 1);
    facts.minor = number(rest.substr(0, rest.find('.')));
  }
  return facts;
}

// Whether ROLE's answer is a master's; else what to say. A server that a failover has left behind
// still takes writes for a while, which nobody will ever see again.
absl::Status CheckRole(const Reply& role, const std::string& peer) {
  const std::string_view name =
      role.items().empty() ? std::string_view() : std::string_view(role.items()[0].text());
  if (name == "master") return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat(peer, " says that its role is ", Quoted(name),
                           ", so it is not the master that was looked for"),
                    kUnavailable);
}

}  // namespace

Handshake::Handshake(const Identity& identity, std::span<const ScriptText* const> scripts,
                     Protocol protocol)
    : password_(identity.password), db_(identity.db) {
  const bool sign_in = !identity.password.empty() || !identity.user.empty();
  const std::string_view user = identity.user.empty() ? "default" : std::string_view(identity.user);
  std::vector<std::string_view> args;
  if (protocol == Protocol::kResp3) {
    args = {"HELLO", "3"};
    if (sign_in) args.insert(args.end(), {"AUTH", user, identity.password});
    Add(Step::kHello, args);
  } else if (sign_in) {
    args = {"AUTH"};
    if (!identity.user.empty()) args.push_back(identity.user);  // before 6.0 there were no users
    args.push_back(identity.password);
    Add(Step::kAuth, args);
  }
  if (!identity.client_name.empty()) {
    args = {"CLIENT", "SETNAME", identity.client_name};
    Add(Step::kSetName, args);
  }
  if (identity.db != 0) {
    const std::string db = StrCat(identity.db);
    args = {"SELECT", db};
    Add(Step::kSelect, args);
  }
  if (identity.must_be_master) {
    args = {"ROLE"};
    Add(Step::kRole, args);
  }
  if (!identity.channel.empty() && protocol == Protocol::kResp3) {
    args = {"SUBSCRIBE", identity.channel};
    Add(Step::kSubscribe, args);
  }
  for (const ScriptText* script : scripts) {
    args = {"SCRIPT", "LOAD", script->text};
    Add(Step::kLoad, args);
  }
}

std::string Handshake::Hidden(std::string_view text) const {
  const std::size_t code = std::min(text.find(' '), text.size());
  std::string hidden(text.substr(0, code));
  std::string_view rest = text.substr(code);
  while (!password_.empty()) {
    const std::size_t at = rest.find(password_);
    if (at == rest.npos) break;
    hidden += StrCat(rest.substr(0, at), "***");
    rest.remove_prefix(at + password_.size());
  }
  return hidden += rest;
}

void Handshake::Add(Step step, std::span<const std::string_view> args) {
  AppendCommand(bytes_, args);
  if (steps_.empty()) first_size_ = bytes_.size();
  steps_.push_back(step);
}

Handshake::Result Handshake::Judge(std::span<const Reply> replies, const std::string& peer) const {
  Result result;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Reply& reply = replies[i];
    if (!reply.is_error()) {
      if (steps_[i] == Step::kLoad) ++result.scripts_loaded;
      if (steps_[i] == Step::kSubscribe) result.subscribed = true;
      if (steps_[i] == Step::kHello) result.facts = ReadFacts(reply);
      if (steps_[i] == Step::kRole) {
        result.status = CheckRole(reply, peer);
        if (!result.status.ok()) return result;
      }
      continue;
    }
    const std::string_view code = ErrorCode(reply.text());
    switch (steps_[i]) {
      case Step::kHello:
        // Unknown before 6.0, and a least-rights user may not be allowed it. Not these: wrong
        // password, starting up.
        if (code == "ERR" || code == "NOPROTO" || code == "NOPERM") {
          result.try_resp2 = true;
          return result;
        }
        result.status = ServerError(Hidden(reply.text()), StrCat("signing in at ", peer));
        return result;
      case Step::kAuth:
        result.status = ServerError(Hidden(reply.text()), StrCat("signing in at ", peer));
        if (code == "ERR") {  // "AUTH <password> called without any password configured"
          result.status =
              MakeStatus(absl::StatusCode::kUnauthenticated, FromAbsl(result.status.message()));
        }
        return result;
      case Step::kSelect:
        result.status =
            ServerError(Hidden(reply.text()), StrCat("selecting database ", db_, " at ", peer));
        if (code == "ERR") {
          result.status =
              MakeStatus(absl::StatusCode::kFailedPrecondition, FromAbsl(result.status.message()));
        }
        return result;
      case Step::kRole:
        result.status = ServerError(Hidden(reply.text()), StrCat("asking ", peer, " for its role"));
        return result;
      case Step::kSetName:
        break;  // only a name
      case Step::kSubscribe:
        break;  // without messages, those who wait ask more often
      case Step::kLoad:
        // Without the right to load, each first use goes as EVAL. Signed out or starting up is
        // another matter.
        if (code == "NOAUTH" || code == "LOADING") {
          result.status = ServerError(Hidden(reply.text()), StrCat("signing in at ", peer));
          return result;
        }
        break;
    }
  }
  return result;
}

bool IsLasting(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnauthenticated ||
         status.code() == absl::StatusCode::kPermissionDenied ||
         status.code() == absl::StatusCode::kInvalidArgument ||
         status.code() == absl::StatusCode::kFailedPrecondition;
}

}  // namespace coord::internal
