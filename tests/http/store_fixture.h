// A ResponseStore over each kind of backend, whose calls are counted, with a calendar of the
// test's.
#ifndef COORD_TESTS_HTTP_STORE_FIXTURE_H_
#define COORD_TESTS_HTTP_STORE_FIXTURE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/backend.h"
#include "cache/disk_backend.h"
#include "cache/http/internal/response_store.h"
#include "cache/memory_backend.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "coord/internal/sync.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace coord::http::internal {

// Passes everything on, counts what costs a round trip, and remembers the options of the last call.
class CountingBackend final : public Backend {
 public:
  explicit CountingBackend(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

  // Calls since the last time this was asked.
  int Taken() { return calls_.exchange(0); }
  absl::Duration last_timeout() const { return absl::Nanoseconds(last_timeout_.load()); }
  // Of Set.
  absl::Duration last_ttl() const {
    const coord::internal::MutexLock lock(mutex_);
    return last_ttl_;
  }
  // Called in the middle of the next Set, once. While no other thread calls anything.
  void BeforeNextSet(std::function<void()> act) { before_set_ = std::move(act); }
  // The same for a Get, the `nth` from now on, from 1. One thread.
  void BeforeGet(int nth, std::function<void()> act) {
    gets_left_ = nth;
    before_get_ = std::move(act);
  }

  std::string_view kind() const override { return backend_->kind(); }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want,
                                            const CallOptions& call) override {
    Count(call);
    if (before_get_ && --gets_left_ == 0) std::exchange(before_get_, nullptr)();
    return backend_->Get(key, want, call);
  }
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want,
                                                             const CallOptions& call) override {
    Count(call);
    return backend_->GetMany(keys, want, call);
  }
  absl::StatusOr<bool> Set(const Write& write, SetIf condition, const CallOptions& call) override {
    Count(call);
    if (before_set_) std::exchange(before_set_, nullptr)();
    {
      const coord::internal::MutexLock lock(mutex_);
      last_ttl_ = write.ttl;
    }
    return backend_->Set(write, condition, call);
  }
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call) override {
    Count(call);
    return backend_->SetMany(writes, call);
  }
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call) override {
    Count(call);
    return backend_->Delete(key, call);
  }
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call) override {
    Count(call);
    return backend_->DeleteMany(keys, call);
  }
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call) override {
    Count(call);
    return backend_->Exists(key, call);
  }
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call) override {
    Count(call);
    return backend_->Ttl(key, call);
  }
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions& call) override {
    Count(call);
    return backend_->Expire(key, ttl, call);
  }
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call) override {
    Count(call);
    return backend_->Persist(key, call);
  }
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor,
                                std::size_t count, const CallOptions& call) override {
    Count(call);
    return backend_->Scan(pattern, cursor, count, call);
  }
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call) override {
    Count(call);
    return backend_->DeleteMatching(pattern, call);
  }
  absl::Status Clear(const CallOptions& call) override {
    Count(call);
    return backend_->Clear(call);
  }
  absl::Status Ping(const CallOptions& call) override { return backend_->Ping(call); }
  absl::Status Reconnect(const CallOptions& call) override { return backend_->Reconnect(call); }
  void Close() override { backend_->Close(); }

 private:
  void Count(const CallOptions& call) {
    ++calls_;
    last_timeout_ = absl::ToInt64Nanoseconds(call.timeout.value_or(absl::ZeroDuration()));
  }

  const std::shared_ptr<Backend> backend_;
  std::atomic<int> calls_{0};
  std::atomic<std::int64_t> last_timeout_{0};
  mutable coord::internal::Mutex mutex_;
  absl::Duration last_ttl_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> before_set_, before_get_;
  int gets_left_ = 0;
};

template <typename T>
T OrEnd(absl::StatusOr<T> made) {
  if (!made.ok()) coord::testing::Fatal(made.status().ToString());
  return *std::move(made);
}

// The parameter is the backend's kind.
class StoreFixture : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr std::string_view kUrl = "http://h/a";

  StoreFixture() {
    std::shared_ptr<Backend> backend;
    if (GetParam() == "memory") {
      backend = std::make_shared<MemoryBackend>(MemoryOptions{.max_entries = 100'000});
    } else if (GetParam() == "disk") {
      backend = OrEnd(DiskBackend::Open({.path = directory_.File("c.db")}));
    } else {
      server_ = std::make_unique<coord::testing::RedisServer>();
      backend = std::make_shared<RedisBackend>(OrEnd(Client::Connect(server_->url())));
    }
    backend_ = std::make_shared<CountingBackend>(std::move(backend));
    Open();
  }

  StoreRules Rules() {
    return {.timeout = absl::Seconds(20),
            .calendar = [this] { return now(); },
            .on_problem =
                [this](const absl::Status& problem) {
                  const coord::internal::MutexLock lock(mutex_);
                  problems_.push_back(problem.ToString());
                }};
  }
  KeyRules Names() {
    return {.prefix = "t[e]*st:",
            .ignored_parameters = {"utm"},
            .secret_parameters = {"Authorization", "Cookie", "token"},
            .identity_secret = "pepper"};
  }
  void Open() { Open(Names(), Rules()); }
  void Open(KeyRules names, StoreRules rules) {
    store_ = std::make_shared<const ResponseStore>(backend_, KeyMaker(std::move(names)),
                                                   std::move(rules));
  }

  absl::Time now() const { return absl::FromUnixMillis(now_ms_.load()); }
  void Advance(absl::Duration by) { now_ms_ += absl::ToInt64Milliseconds(by); }
  std::vector<std::string> problems() {
    const coord::internal::MutexLock lock(mutex_);
    return std::exchange(problems_, {});
  }

  std::string PrimaryOf(std::string_view url, const Headers& headers = {},
                        std::string_view method = "GET") {
    const KeyMaker::Identified who = OrEnd(store_->keys().Identify(method, url, headers, ""));
    return store_->keys().Primary(method, who, "", "");
  }
  // Fresh for a minute.
  StoredResponse Make(std::string_view url, std::string_view body,
                      const std::vector<std::string>& vary = {}, const Headers& request = {}) {
    StoredResponse response;
    response.method = "GET";
    response.url = OrEnd(store_->keys().Identify("GET", url, request, "")).url;
    response.status = 200;
    response.headers = {{"Content-Type", "text/plain"}};
    response.created = response.received = now();
    response.expires = now() + absl::Minutes(1);
    response.selecting = store_->keys().SelectingFields(vary, request);
    response.body = body;
    return response;
  }
  ResponseStore::Found Find(std::string_view url, const Headers& request = {}) {
    return OrEnd(store_->Find(PrimaryOf(url, request), request, {}));
  }
  // What a session does: looks, and puts what came there.
  std::string Store(std::string_view url, std::string_view body,
                    const std::vector<std::string>& vary = {}, const Headers& request = {}) {
    const ResponseStore::Found found = Find(url, request);
    EXPECT_OK(store_->Put(found, Make(url, body, vary, request), absl::ZeroDuration(), {}));
    return found.key;
  }
  // The body, or "-".
  std::string Body(std::string_view url, const Headers& request = {}) {
    const ResponseStore::Found found = Find(url, request);
    return found.response == nullptr ? "-" : found.response->body;
  }
  std::vector<std::string> AllKeys() {
    std::vector<std::string> all;
    std::string cursor;
    do {
      ScanPage page = OrEnd(backend_->Scan("*", cursor, 100, {}));
      all.insert(all.end(), page.keys.begin(), page.keys.end());
      cursor = page.cursor;
    } while (!cursor.empty());
    return all;
  }
  void SetRaw(std::string_view key, std::string_view value) {
    EXPECT_OK(backend_->Set({.key = key, .value = value}, SetIf::kAlways, {}));
  }
  bool Exists(std::string_view key) { return OrEnd(backend_->Exists(key, {})); }

  const coord::testing::TempDir directory_;
  std::unique_ptr<coord::testing::RedisServer> server_;
  std::shared_ptr<CountingBackend> backend_;
  std::shared_ptr<const ResponseStore> store_;
  std::atomic<std::int64_t> now_ms_{1'700'000'000'000};
  coord::internal::Mutex mutex_;
  std::vector<std::string> problems_;
};

}  // namespace coord::http::internal

#endif  // COORD_TESTS_HTTP_STORE_FIXTURE_H_
