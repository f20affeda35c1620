// coord fetch: an HTTP request through a cache that all processes share.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cache/http/session.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/duration_text.h"
#include "tools/fetch_output.h"
#include "tools/fetch_words.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

using Words = FetchWords;

std::string When(absl::Time moment) {
  if (moment == absl::InfiniteFuture()) return "never";
  if (moment == absl::InfinitePast()) return "at once";
  const absl::Duration left = moment - absl::Now();
  return StrCat(
      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", moment, absl::UTCTimeZone()), " (",
      left < absl::ZeroDuration() ? StrCat(Brief(-left), " ago") : StrCat("in ", Brief(left)), ")");
}

void PrintHead(const http::Response& response) {
  PrintLine(StrCat("HTTP ", response.status()));
  for (const auto& [name, value] : response.headers()) PrintLine(StrCat(name, ": ", value));
  PrintLine(StrCat("from-cache: ", response.from_cache() ? "yes" : "no",
                   response.revalidated() ? ", revalidated" : "",
                   response.stale() ? ", stale" : ""));
  PrintLine(StrCat("age: ", Brief(response.age())));
  PrintLine(StrCat("expires: ", When(response.expires())));
  PrintLine(StrCat("cache-status: ", response.cache_status()));
  PrintLine("");
}

nlohmann::json JsonOf(const http::Response& response, bool with_body) {
  nlohmann::json json = nlohmann::json::parse(response.ToJson(), nullptr, false);
  if (!with_body) {
    json.erase("body");
    json.erase("body_base64");
  }
  return json;
}

void PrintEntry(const Program& program, const http::Response& response) {
  if (program.json) {
    nlohmann::json entry = JsonOf(response, /*with_body=*/false);
    for (const char* const of_a_call : {"cache_status", "elapsed", "from_cache", "history"}) {
      entry.erase(of_a_call);
    }
    entry["bytes"] = response.body().size();
    PrintJson(entry);
    return;
  }
  PrintLine(StrCat(response.status(), "\t", response.body().size(), "\t",
                   response.is_expired() ? "expired" : "fresh", "\t", When(response.expires()),
                   "\t", response.method(), " ", response.url()));
}

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

absl::StatusOr<http::Session> Open(Program program, const Words& words) {
  http::SessionOptions options;
  if (words.store) options.store = *words.store;
  if (!program.timeout.empty()) {
    absl::StatusOr<absl::Duration> timeout = ParseDuration("--timeout", program.timeout);
    if (!timeout.ok()) return timeout.status();
    options.backend_timeout = *timeout;
  }
  options.on_problem = [](const absl::Status& problem) {
    Say(StrCat("the cache: ", internal::FromAbsl(problem.message())));
  };
  // The same place that a program's session has by default. Without a cache no server is needed.
  const std::string of_caches = Environment("COORD_CACHE_URL");
  if (words.no_cache) {
    program.urls = {"memory://"};
  } else if (program.urls.empty() && !of_caches.empty()) {
    program.urls = {of_caches};
  }
  const std::string where = program.urls.empty() ? Environment("COORD_URL") : program.url();
  if (!program.quorum() && (where.starts_with("memory:") || where.starts_with("disk:"))) {
    options.backend = where;
    return http::Session::Open(std::move(options));
  }
  absl::StatusOr<Client> client = program.Connect();
  if (client.ok()) return http::Session::Over(*client, std::move(options));
  return coord::IsUnavailable(client.status()) && words.url
             ? internal::Annotate(client.status(), "the cache (--no-cache does without)")
             : client.status();
}

absl::StatusOr<int> Inspect(const Program& program, const Words& words) {
  http::ResponseFilter filter;
  const Text& pattern = words.list ? words.url : words.remove;
  if (pattern) filter.urls.emplace(std::string_view(*pattern));
  if (filter.urls.has_value() && !filter.urls->status().ok()) return filter.urls->status();
  absl::StatusOr<http::Session> session = Open(program, words);
  if (!session.ok()) return session.status();
  if (!words.list) {
    absl::StatusOr<std::int64_t> gone = session->cache().DeleteWhere(filter);
    if (!gone.ok()) return gone.status();
    if (program.json) {
      PrintJson({{"deleted", *gone}});
    } else {
      PrintLine(StrCat(*gone));
    }
    return *gone == 0 ? kExitNotGranted : kExitOk;
  }
  absl::StatusOr<std::vector<http::Response>> found = session->cache().Filter(filter);
  if (!found.ok()) return found.status();
  std::sort(found->begin(), found->end(), [](const http::Response& a, const http::Response& b) {
    return std::pair(a.url(), a.key()) < std::pair(b.url(), b.key());
  });
  for (const http::Response& response : *found) PrintEntry(program, response);
  return kExitOk;
}

// The bytes and nothing else, so that what is piped on is what was sent.
void PrintBody(std::string_view body) {
  std::fwrite(body.data(), 1, body.size(), stdout);
  if (isatty(STDOUT_FILENO) == 1 && !body.ends_with('\n')) std::fputc('\n', stdout);
}

// `ended_by` is the signal that ended it before anything was written, if one did.
absl::StatusOr<int> Fetch(const Program& program, const Words& words, const CaughtSignals& signals,
                          std::optional<signalfd_siginfo>& ended_by) {
  absl::StatusOr<http::RequestOptions> request = ReadFetchRequest(words);
  if (!request.ok()) return request.status();
  const std::stop_source stop;
  request->stop = stop.get_token();
  StopOnSignal stopper(signals, stop);
  std::optional<OutputFile> output;
  if (words.output && *words.output != "-") {
    if (absl::Status found = output.emplace(*words.output).Find(); !found.ok()) return found;
    request->sink = [&](std::string_view piece) { return output->Write(piece, request->stop); };
  }
  absl::StatusOr<http::Session> session = Open(program, words);
  if (!session.ok()) return session.status();
  const http::Session scope = words.no_cache ? session->Disabled() : *session;
  stopper.ReadyToStop();
  if (output) {
    if (absl::Status begun = output->Begin(); !begun.ok()) return begun;
  }
  const std::string method = words.method.value_or(words.data ? "POST" : "GET");
  const absl::StatusOr<http::Response> response = scope.Send(method, *words.url, *request);
  ended_by = stopper.Finish();
  if (ended_by && response.ok()) return absl::CancelledError("the response has just come");
  if (!response.ok()) {
    return !output && absl::IsResourceExhausted(response.status())
               ? internal::Annotate(response.status(), "-o FILE takes bodies of any size")
               : response.status();
  }
  // Who reads what we print may have stopped to, and then a signal ends us.
  const StopOnSignal printing(signals, {});
  const bool missing = words.only_if_cached && response->status() == 504 && !response->from_cache();
  const bool failed = words.fail && response->status() >= 400;
  if (output && !failed && !missing) {
    if (absl::Status kept = output->Keep(); !kept.ok()) return kept;
  }
  if (program.json) PrintJson(JsonOf(*response, /*with_body=*/!failed));
  if (words.include) PrintHead(*response);
  if (!program.json && !failed) PrintBody(response->body());
  std::fflush(stdout);
  if (missing) {
    Say("nothing is cached that may be used");
    return kExitNotGranted;
  }
  if (failed) Say(StrCat("the origin answered ", response->status()));
  return failed ? kExitError : kExitOk;
}

int Run(const Program& program, const Words& words) {
  if (words.list && words.remove) return program.Usage("--list and --delete exclude each other");
  if (words.remove && words.url) {
    return program.Usage("--delete has its PATTERN; another argument was not expected");
  }
  if (words.list || words.remove) return program.Finish(Inspect(program, words));
  if (!words.url) return program.Usage("URL is missing; or --list, or --delete PATTERN");
  if (words.output && (words.include || program.json)) {
    return program.Usage("-o is for the body alone, without -i and --json");
  }
  if (words.only_if_cached && (words.refresh || words.force_refresh || words.no_cache)) {
    return program.Usage("--only-if-cached excludes --refresh, --force-refresh and --no-cache");
  }
  const CaughtSignals signals;
  std::optional<signalfd_siginfo> ended_by;
  const absl::StatusOr<int> outcome = Fetch(program, words, signals, ended_by);
  if (!ended_by) return program.Finish(outcome);
  Say(StrCat("stopped by a signal: ", internal::FromAbsl(outcome.status().message())));
  return EndBySignal(*ended_by);
}

}  // namespace

void AddFetch(CLI::App& app, Program& program) {
  auto words = std::make_shared<Words>();
  CLI::App* const fetch = app.add_subcommand(
      "fetch",
      "An HTTP request through a cache that all processes share (RFC 9111): what is fresh is not "
      "fetched again");
  AddText(*fetch, "URL", words->url, "http:// or https://; with --list, a PATTERN of URLs", "");
  AddText(*fetch, "--expire", words->expire,
          "How long what is fetched is fresh, whatever the origin says: 1h, 0s, never", "TIME");
  fetch->add_flag("--refresh", words->refresh, "Ask the origin whether what is cached still holds");
  fetch->add_flag("--force-refresh", words->force_refresh, "Fetch it as if nothing were cached");
  fetch->add_flag("--no-cache", words->no_cache, "Neither look nor store; needs no server");
  fetch->add_flag("--only-if-cached", words->only_if_cached,
                  "Never ask the origin; status 75 when nothing usable is cached");
  AddText(*fetch, "--stale-if-error", words->stale_if_error,
          "How long after it expired a response may be used when the origin fails", "TIME");
  fetch->add_flag("-i,--include", words->include,
                  "Print status, header, from-cache, age and expiry before the body");
  AddText(*fetch, "-o,--output", words->output,
          "Write the body there, of any size; the file appears when it is whole", "FILE");
  fetch
      ->add_option("-H,--header", words->headers,
                   "A request header, 'Name: value'; @FILE reads lines of them, unseen by others")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  AddText(*fetch, "-X,--request", words->method, "The method (GET; POST with --data)", "METHOD");
  AddText(*fetch, "-d,--data", words->data, "The request's body, as it stands", "TEXT");
  AddText(*fetch, "--max-time", words->max_time, "How long the origin may take (30s)", "TIME");
  fetch->add_flag("-f,--fail", words->fail, "Status 1, and no body, for 400 and above");
  fetch->add_flag("--no-redirects", words->no_redirects, "Do not follow redirects");
  const std::vector<CLI::Option*> of_requests = fetch->get_options([](const CLI::Option* option) {
    return option->nonpositional() && option->get_name() != "--help";
  });
  fetch->add_flag("--list", words->list, "What is cached: status, bytes, freshness, expiry, URL");
  AddText(*fetch, "--delete", words->remove,
          "Delete what is cached of matching URLs, and print how many there were", "PATTERN");
  AddText(*fetch, "--store", words->store, "Where in the cache (http_cache)", "NAME");
  fetch->footer(
      "--url may also be memory:// or disk:///FILE; without it $COORD_CACHE_URL goes before\n"
      "$COORD_URL. Each identity (Authorization, cookies, API keys) has responses of its own, and\n"
      "no secret is stored. Of many that want the same URL at once, one asks the origin.\n"
      "A PATTERN is a glob: 'example.com' for all below it, '*.example.com/static/*', '*/rates*', "
      "'*'.\n"
      "Exit status: 0 for a response, whatever its status without -f; 69 when the origin, or the\n"
      "server of the cache, does not answer; 75 when --only-if-cached or --delete finds nothing;\n"
      "128+n when signal n ended it.\n"
      "Examples:\n"
      "  coord fetch https://api.example/rates --expire 1h --stale-if-error 1d | jq .eur\n"
      "  coord fetch https://api.example/me -H @token.txt -i\n"
      "  coord fetch -f https://example.com/a.tar.gz -o a.tar.gz\n"
      "  coord fetch --list example.com && coord fetch --delete '*.example.com/old/*'");
  fetch->callback([words, of_requests, &program] {
    for (const CLI::Option* const option : of_requests) {
      if (option->count() == 0 || !(words->list || words->remove)) continue;
      program.exit_code = program.Usage(
          StrCat(option->get_name(), " is for a request, not for --list and --delete"));
      return;
    }
    program.exit_code = Run(program, *words);
  });
}

}  // namespace coord::tools
