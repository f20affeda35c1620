#include "tools/demo_fetch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "cache/http/session.h"
#include "tools/demo_crew.h"
#include "tools/demo_shares.h"
#include "tools/dev/origin.h"
#include "tools/duration_text.h"

namespace coord::tools {
namespace {

constexpr absl::Duration kAnswering = absl::Milliseconds(250);
constexpr char kPage[] = "page";

// The last part of the URL's path is the demo's own name, so two demos share nothing.
absl::StatusOr<http::Session> Open(const Client& client, const std::string& url) {
  return http::Session::Over(client, {.store = url.substr(url.rfind('/') + 1),
                                      .ttl_offset = kKeysLive,
                                      .stale_if_error = kKeysLive});
}

// Takes out what the scene has left, however it ends: the page, and the lock under which it was
// fetched.
class Sweeper {
 public:
  Sweeper(const DemoStage& stage, const http::Session& session, std::string url)
      : stage_(stage), session_(session), url_(std::move(url)) {}
  ~Sweeper() {
    const absl::StatusOr<http::Response> page = session_.Get(url_, {.only_if_cached = true});
    if (!page.ok()) return;  // it goes by itself
    Pipeline pipeline;
    pipeline.Add({"DEL", page->key()});
    for (const char* const part : {"queue", "lease", "fence", "readers"}) {
      pipeline.Add(
          {"DEL", stage_.client.options().prefix + "{flight:" + page->key() + "}:" + part});
    }
    (void)stage_.client.Execute(pipeline, {.timeout = absl::Seconds(1)});
  }
  Sweeper(const Sweeper&) = delete;
  Sweeper& operator=(const Sweeper&) = delete;

 private:
  const DemoStage& stage_;
  const http::Session& session_;
  const std::string url_;
};

}  // namespace

absl::Status FetchPage(const Client& client, const WorkerTask& task, const Post& post) {
  const absl::StatusOr<http::Session> session = Open(client, task.name);
  if (!session.ok()) return session.status();
  const absl::StatusOr<http::Response> page = session->Get(task.name);
  if (!page.ok()) return page.status();
  post.Log("page",
           {page->status(), static_cast<std::int64_t>(page->body().size()), page->stale() ? 1 : 0});
  return absl::OkStatus();
}

absl::Status PlayFetch(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("fetch", absl::StrFormat("Eight processes fetch the same page at one moment; its "
                                        "origin needs %s for it. Then the page expires, while the "
                                        "origin fails, and four more want it.",
                                        Brief(kAnswering)));
  absl::StatusOr<std::unique_ptr<dev::Origin>> origin = dev::Origin::Start();
  if (!origin.ok()) return origin.status();
  const std::string path = "/" + stage.Name(kPage);
  const std::string url = (*origin)->Url(path);
  (*origin)->On(path, [](const dev::Origin::Request&) {
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(kAnswering));
    return dev::Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}}, .body = "the page"};
  });
  const absl::StatusOr<http::Session> session = Open(stage.client, url);
  if (!session.ok()) return session.status();
  const Sweeper sweeper(stage, *session, url);
  Crew crew(stage.place);
  if (absl::Status status = RunCrew(crew, "ABCDEFGH", "fetch", {url}); !status.ok()) return status;
  const int asked = (*origin)->requests(path);
  const Shares first = Sum(crew.Log(), "page", 1);

  const absl::StatusOr<std::int64_t> expired =
      session->cache().ResetExpiry(http::Expiry::Immediately());
  if (!expired.ok()) return expired.status();
  (*origin)->On(path, dev::Origin::Reply{.status = 503, .body = "down"});
  Crew late(stage.place);
  if (absl::Status status = RunCrew(late, "IJKL", "fetch", {url}); !status.ok()) return status;
  const Shares statuses = Sum(late.Log(), "page", 0);
  const Shares stale = Sum(late.Log(), "page", 2);

  report.Line(absl::StrFormat("  requests at the origin, of eight processes: %d; then four got %s",
                              asked, statuses.text));
  report.Line();
  report.Check(asked == 1, "one of the eight asked the origin, once",
               absl::StrFormat("it was asked %d times; it must be once", asked));
  report.Check(first.workers == 8 && first.sum == 8 * 8, "all eight have the page",
               absl::StrFormat("they have %s bytes", first.text));
  report.Check(statuses.sum == 4 * 200 && stale.sum == 4,
               "the four have the page that was, and know that it is stale",
               absl::StrFormat("they have %s; stale are %s", statuses.text, stale.text));
  report.Fact("asked", asked);
  return absl::OkStatus();
}

}  // namespace coord::tools
