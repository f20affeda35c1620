// The HTTP session: what a hit costs, how many ask the origin at once, what a large response takes.
#include <atomic>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/child_program.h"
#include "bench/hiredis_caller.h"
#include "bench/machine.h"
#include "bench/targets.h"
#include "cache/http/internal/stored_response.h"
#include "cache/http/session.h"
#include "cache/memory_backend.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "tools/dev/origin.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr std::size_t kBodyBytes = 4096;
constexpr std::size_t kStreamBytes = std::size_t{100} << 20;

std::unique_ptr<dev::Origin> StartOrigin() {
  absl::StatusOr<std::unique_ptr<dev::Origin>> origin = dev::Origin::Start();
  if (!origin.ok()) Fatal(origin.status().ToString());
  return *std::move(origin);
}

// As an API answers.
dev::Origin::Reply Document(std::string_view cache_control) {
  return {.status = 200,
          .headers = {{"Content-Type", "application/json"},
                      {"Cache-Control", std::string(cache_control)},
                      {"ETag", "\"5d8c72a5edda8d6a\""},
                      {"Last-Modified", "Wed, 01 Jul 2026 10:00:00 GMT"},
                      {"Server", "bench"},
                      {"Vary", "Accept"},
                      {"X-Request-Id", "0f3a2c1d-7777-4444-8888-0123456789ab"},
                      {"Strict-Transport-Security", "max-age=31536000"},
                      {"X-Content-Type-Options", "nosniff"}},
          .body = std::string(kBodyBytes, 'x')};
}

http::Session Over(std::shared_ptr<Backend> backend) {
  absl::StatusOr<http::Session> session = http::Session::Over(std::move(backend));
  if (!session.ok()) Fatal(session.status().ToString());
  return *std::move(session);
}

void MeasureMemoryHit(Run& run) {
  constexpr char kId[] = "http.hit.memory_us";
  if (!run.report.Wants(kId)) return;
  ApplyMode(Mode::kAny, run.server.pid());
  const std::unique_ptr<dev::Origin> origin = StartOrigin();
  origin->On("/doc", Document("max-age=86400"));
  auto memory = std::make_shared<MemoryBackend>(MemoryOptions{.max_bytes = 64 << 20});
  const http::Session session = Over(memory);
  const std::string url = origin->Url("/doc?page=1&size=50");
  if (!session.Get(url).ok()) Fatal("the origin does not answer");
  std::vector<double> p50, p99;
  for (int i = 0; i < run.effort.rounds; ++i) {
    const Slice slice = RunSlice(1, run.effort.slice, [&](int) {
      const absl::StatusOr<http::Response> response = session.Get(url);
      return response.ok() && response->from_cache() && response->body().size() == kBodyBytes;
    });
    p50.push_back(slice.p50_us);
    p99.push_back(slice.p99_us);
  }
  run.report.Add(kId, Mode::kAny, Median(p50), Bound::AtMost(20),
                 StrCat("a hit of ", kBodyBytes, " bytes and 9 fields, p50 in us; p99 ",
                        static_cast<int>(Median(p99)), " us"),
                 {{"p50_us", Median(p50)}, {"p99_us", Median(p99)}});
}

// Against GET with hiredis, whose bytes are then made a response of the same fields.
void MeasureRedisHit(Run& run, Mode mode) {
  const std::string id = StrCat("http.hit.redis.", ModeName(mode));
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "it needs two CPUs");
  const std::unique_ptr<dev::Origin> origin = StartOrigin();
  origin->On("/doc", Document("max-age=86400"));
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(client.status().ToString());
  absl::StatusOr<http::Session> session = http::Session::Over(*client);
  if (!session.ok()) Fatal(session.status().ToString());
  const std::string url = origin->Url("/doc?page=1&size=50");
  absl::StatusOr<http::Response> first = session->Get(url);
  if (!first.ok() || !first->stored()) Fatal("the response was not stored");
  const std::string key = first->key();
  ApplyMode(mode, run.server.pid());
  HiredisCaller raw(run.server.socket_path());
  const Comparison comparison = Alternate(
      run.effort, 1,
      [&](int) {
        const HiredisReply reply = raw.Command({"GET", key});
        if (reply == nullptr || reply->str == nullptr) return false;
        const auto decoded = http::internal::DecodeStored(std::string_view(reply->str, reply->len));
        return decoded.ok() && decoded->body.size() == kBodyBytes;
      },
      [&](int) {
        const absl::StatusOr<http::Response> response = session->Get(url);
        return response.ok() && response->from_cache() && response->body().size() == kBodyBytes;
      });
  std::vector<double> a, b, ratios;
  for (const Slice& slice : comparison.a) a.push_back(slice.p50_us);
  for (const Slice& slice : comparison.b) b.push_back(slice.p50_us);
  for (const double ratio : comparison.ratios) ratios.push_back(1 / ratio);
  char line[200];
  std::snprintf(
      line, sizeof(line),
      "a hit of %zu bytes: p50 %.1f us, hiredis GET and decoding %.1f us; rounds %.3f to %.3f",
      kBodyBytes, Median(b), Median(a), Quantile(ratios, 0), Quantile(ratios, 1));
  run.report.Add(id, mode, Median(ratios), Bound::AtMost(1.3), line,
                 {{"p50_us", Median(b)}, {"hiredis_p50_us", Median(a)}});
}

// 64 threads ask for one URL whose response has just expired, again and again.
void MeasureCollapse(Run& run) {
  constexpr char kId[] = "http.stale.requests.t64";
  if (!run.report.Wants(kId)) return;
  ApplyMode(Mode::kAny, run.server.pid());
  const std::unique_ptr<dev::Origin> origin = StartOrigin();
  origin->On("/doc", [](const dev::Origin::Request&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return Document("max-age=10");
  });
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(client.status().ToString());
  std::atomic<std::int64_t> seconds{absl::ToUnixSeconds(absl::Now())};
  absl::StatusOr<http::Session> session = http::Session::Over(
      *client,
      {.store = "collapse", .calendar = [&] { return absl::FromUnixSeconds(seconds.load()); }});
  if (!session.ok()) Fatal(session.status().ToString());
  const std::string url = origin->Url("/doc");
  if (!session->Get(url).ok()) Fatal("the origin does not answer");
  std::vector<double> asked;
  for (int round = 0; round < 5; ++round) {
    seconds += 3600;
    const int before = origin->requests();
    std::atomic<int> failed{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 64; ++i) {
      threads.emplace_back([&] {
        const absl::StatusOr<http::Response> response = session->Get(url);
        if (!response.ok() || response->status() != 200) ++failed;
      });
    }
    threads.clear();
    if (failed > 0) Fatal("a caller got nothing");
    asked.push_back(origin->requests() - before);
  }
  run.report.Add(kId, Mode::kAny, Quantile(asked, 1), Bound::AtMost(1),
                 "requests that the origin saw of 64 threads that wanted one stale URL; most of 5 "
                 "rounds",
                 {{"requests", asked}});
}

// In a process of its own, as MeasureMemory.
void MeasureStream(Run& run) {
  constexpr char kId[] = "http.stream_mb";
  if (!run.report.Wants(kId)) return;
  ApplyMode(Mode::kAny, run.server.pid());
  const std::unique_ptr<dev::Origin> origin = StartOrigin();
  origin->On("/large", dev::Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}},
                                          .chunked_bytes = kStreamBytes});
  const std::string path = run.server.directory() + "/stream";
  const int code = RunProgram({"/proc/self/exe", "--stream-probe", origin->Url("/large")}, path);
  double kilobytes = 0;
  if (code != 0 || !(std::ifstream(path) >> kilobytes)) Fatal("the stream probe failed");
  run.report.Add(kId, Mode::kAny, kilobytes / 1024, Bound::AtMost(16),
                 "by how many MB a process grows that streams 100 MB in chunks to a sink",
                 {{"kilobytes", kilobytes}});
}

}  // namespace

int RunStreamProbe(const std::string& url) {
  const http::Session session =
      Over(std::make_shared<MemoryBackend>(MemoryOptions{.max_bytes = 64 << 20}));
  const std::int64_t before = PeakKilobytes();
  std::size_t received = 0;
  const absl::StatusOr<http::Response> response =
      session.Get(url, {.sink = [&](std::string_view piece) {
                    received += piece.size();
                    return absl::OkStatus();
                  }});
  if (!response.ok()) Fatal(response.status().ToString());
  if (received != kStreamBytes) Fatal("not all was received");
  std::printf("%lld\n", static_cast<long long>(PeakKilobytes() - before));
  return 0;
}

void MeasureHttp(Run& run) {
  MeasureMemoryHit(run);
  MeasureRedisHit(run, Mode::kSame);
  MeasureRedisHit(run, Mode::kPin);
  MeasureCollapse(run);
  MeasureStream(run);
}

}  // namespace coord::bench
