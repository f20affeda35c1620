// What the tests of the near cache share.
#ifndef COORD_TESTS_CACHE_NEAR_FIXTURE_H_
#define COORD_TESTS_CACHE_NEAR_FIXTURE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/memory_backend.h"
#include "cache/near_backend.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::testing {

inline Client MustConnect(const std::string& url) {
  ClientOptions options;
  options.timeout = absl::Seconds(20);
  options.connect_timeout = absl::Seconds(20);
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

// A near cache with what it stands on.
struct Near {
  explicit Near(Client with, std::vector<std::string> prefixes = {"k:"},
                absl::Duration max_local_ttl = absl::Seconds(60))
      : Near(std::make_shared<RedisBackend>(std::move(with)), std::move(prefixes), max_local_ttl) {}
  explicit Near(std::shared_ptr<Backend> from, std::vector<std::string> prefixes = {"k:"},
                absl::Duration max_local_ttl = absl::Seconds(60))
      : remote(std::move(from)) {
    MemoryOptions memory;
    memory.max_entries = 10'000;
    local = std::make_shared<MemoryBackend>(memory);
    auto made = NearBackend::Make(remote, local, {std::move(prefixes), max_local_ttl});
    if (!made.ok()) Fatal(made.status().ToString());
    cache = *std::move(made);
  }

  bool BecomesActive() const {
    return Eventually([&] { return cache->active(); }, absl::Seconds(20));
  }
  // "(none)" when there is no such key.
  std::string Read(const std::string& key) const {
    absl::StatusOr<std::optional<Stored>> got = cache->Get(key);
    if (!got.ok()) return got.status().ToString();
    return got->has_value() ? (*got)->value : "(none)";
  }
  // The copy alone.
  std::string Copy(const std::string& key) const {
    absl::StatusOr<std::optional<Stored>> got = local->Get(key);
    return got.ok() && got->has_value() ? (*got)->value : "(none)";
  }

  std::shared_ptr<Backend> remote;
  std::shared_ptr<MemoryBackend> local;
  std::shared_ptr<NearBackend> cache;
};

// A Redis backend whose reads can be held up after they have been answered.
class HeldRemote final : public Backend {
 public:
  explicit HeldRemote(Client client) : inner_(std::move(client)) {}
  // Called with each value read, before it is handed on. To be set before use.
  std::function<void(const std::optional<Stored>& value)> on_value;

  std::string_view kind() const override { return "held"; }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want,
                                            const CallOptions& call) override {
    absl::StatusOr<std::optional<Stored>> got = inner_.Get(key, want, call);
    if (got.ok() && on_value) on_value(*got);
    return got;
  }
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want,
                                                             const CallOptions& call) override {
    return inner_.GetMany(keys, want, call);
  }
  absl::StatusOr<bool> Set(const Write& write, SetIf condition, const CallOptions& call) override {
    return inner_.Set(write, condition, call);
  }
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call) override {
    return inner_.SetMany(writes, call);
  }
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call) override {
    return inner_.Delete(key, call);
  }
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call) override {
    return inner_.DeleteMany(keys, call);
  }
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call) override {
    return inner_.Exists(key, call);
  }
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call) override {
    return inner_.Ttl(key, call);
  }
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions& call) override {
    return inner_.Expire(key, ttl, call);
  }
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call) override {
    return inner_.Persist(key, call);
  }
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor,
                                std::size_t count, const CallOptions& call) override {
    return inner_.Scan(pattern, cursor, count, call);
  }
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call) override {
    return inner_.DeleteMatching(pattern, call);
  }
  absl::Status Clear(const CallOptions& call) override { return inner_.Clear(call); }
  absl::Status Ping(const CallOptions& call) override { return inner_.Ping(call); }
  absl::Status Reconnect(const CallOptions& call) override { return inner_.Reconnect(call); }
  void Close() override { inner_.Close(); }
  const Client* client() const override { return inner_.client(); }

 private:
  RedisBackend inner_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_CACHE_NEAR_FIXTURE_H_
