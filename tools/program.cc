#include "tools/program.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/escaping.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::tools {
namespace {

using internal::FromAbsl;
using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;
using internal::ToAbsl;

constexpr absl::Duration kLongest = absl::Hours(24 * 365 * 100);

absl::Status Overruled(std::string_view option, std::string_view given, std::string_view in_url) {
  return InvalidArgument(StrCat("--", option, " is ", Quoted(given), ", and the URL has ", option,
                                "=", in_url, ", which goes before it; leave one of them out"));
}

// Days are no unit of Abseil's, whose own extras ("inf", signs, a bare 0) have no place here.
bool ReadDuration(std::string_view text, absl::Duration& duration) {
  duration = absl::ZeroDuration();
  if (text.empty() || text.front() < '0' || text.front() > '9') return false;
  if (const std::size_t end = text.find('d'); end != std::string_view::npos) {
    const std::optional<std::int64_t> days = internal::ParseInt64(text.substr(0, end));
    if (!days) return false;
    duration = *days > 36500 ? absl::InfiniteDuration() : *days * absl::Hours(24);
    text.remove_prefix(end + 1);
    if (text.empty()) return true;
    if (text.front() < '0' || text.front() > '9') return false;
  }
  absl::Duration rest;
  if (text.find_first_not_of("0123456789.hmsun") != std::string_view::npos) return false;
  if (text.find_first_of("hms") == std::string_view::npos) return false;
  if (!absl::ParseDuration(ToAbsl(text), &rest)) return false;
  duration += rest;
  return true;
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  if (IsBusy(status)) return kExitNotGranted;
  if (IsLost(status)) return kExitLost;
  if (coord::IsUnavailable(status) || absl::IsUnavailable(status) ||
      absl::IsDeadlineExceeded(status)) {
    return kExitUnreachable;
  }
  return kExitError;
}

absl::StatusOr<ClientOptions> Program::Options(ClientOptions options) const {
  if (!prefix.empty()) options.prefix = prefix;
  if (!timeout.empty()) {
    absl::StatusOr<absl::Duration> parsed = ParseDuration("--timeout", timeout);
    if (!parsed.ok()) return parsed.status();
    options.timeout = *parsed;
    options.connect_timeout = *parsed;
  }
  return options;
}

absl::StatusOr<Quorum> Program::ConnectQuorum(QuorumOptions options) const {
  absl::StatusOr<ClientOptions> client_options = Options();
  if (!client_options.ok()) return client_options.status();
  return Quorum::Connect(urls, *std::move(client_options), std::move(options));
}

absl::StatusOr<Client> Program::Connect(ClientOptions given) const {
  if (quorum()) {
    return internal::InvalidArgument(
        "several --url make a quorum, which serves `coord lock`, `unlock`, `quorum`, `health` and "
        "`doctor` alone; give one");
  }
  absl::StatusOr<ClientOptions> options = Options(std::move(given));
  if (!options.ok()) return options.status();
  const ClientOptions wanted = *options;
  absl::StatusOr<Client> client = Client::Connect(url(), *std::move(options));
  if (!client.ok()) return client;
  if (client->ToString().find("insecure=true") != std::string::npos) {
    Say("insecure=true: the server's certificate is not looked at, so it may be anybody's");
  }
  // The library lets a URL's own options go before a program's. Who types an option means it,
  // though.
  const ClientOptions& had = client->options();
  if (!prefix.empty() && had.prefix != wanted.prefix) {
    return Overruled("prefix", prefix, Quoted(had.prefix));
  }
  if (!timeout.empty() && had.timeout != wanted.timeout) {
    return Overruled("timeout", timeout, internal::ToText(had.timeout));
  }
  return client;
}

int Program::Fail(const absl::Status& status) const {
  Say(FromAbsl(status.message()));
  return ExitCodeOf(status);
}

int Program::Usage(std::string_view message) const { return Fail(InvalidArgument(message)); }

int Program::Finish(const absl::StatusOr<int>& outcome) const {
  return outcome.ok() ? *outcome : Fail(outcome.status());
}

void Say(std::string_view text) {
  const std::string line = StrCat("coord: ", text, "\n");
  (void)!write(STDERR_FILENO, line.data(), line.size());
}

void PrintJson(const nlohmann::json& value) { PrintLine(value.dump()); }

nlohmann::json JsonText(std::string_view bytes) {
  // The library's own writer decides what is UTF-8.
  try {
    nlohmann::json text = std::string(bytes);
    (void)text.dump();
    return text;
  } catch (const nlohmann::json::exception&) {
    return {{"base64", absl::Base64Escape(ToAbsl(bytes))}};
  }
}

void PrintLine(std::string_view bytes) {
  std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  std::fputc('\n', stdout);
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view what, std::string_view text) {
  absl::Duration duration;
  if (!ReadDuration(text, duration)) {
    return InvalidArgument(StrCat(what, " is ", Quoted(text),
                                  "; it must be a time with its unit, such as 250ms, 10s, 1.5s, "
                                  "5m, 2h30m or 1d"));
  }
  if (duration > kLongest) {
    return InvalidArgument(StrCat(what, " is ", Quoted(text), "; the longest is 36500d"));
  }
  return duration;
}

}  // namespace coord::tools
