// Somebody else's program: names come as every kind of string there is.
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "cache/cache.h"
#include "cache/redis_backend.h"
#include "cache/registry.h"
#include "coord/client.h"
#include "coord/mutex.h"

int main() {
  const absl::StatusOr<coord::Client> client = coord::Client::Connect();
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", client.status().ToString().c_str());
    return 1;
  }
  const std::string text = "a";
  const char* pointer = "b";
  const std::string_view view = "c";
  for (const coord::Mutex& mutex :
       {coord::Mutex(*client, text), coord::Mutex(*client, pointer), coord::Mutex(*client, view)}) {
    absl::StatusOr<coord::Lease> lease = mutex.Acquire(absl::Seconds(5));
    if (!lease.ok() || !lease->Release().ok()) return 1;
  }
  const coord::Cache cache(std::make_shared<coord::RedisBackend>(*client));
  const auto computed = cache.GetOrCompute("answer", [] { return 42; });
  const auto found = cache.Get<int>("answer");
  if (!computed.ok() || !found.ok() || found->value_or(0) != 42) return 1;
  const auto caches = coord::Registry::FromToml("[caches.default]\nprovider = \"memory\"");
  if (!caches.ok() || !caches->Get().ok() || !caches->Get()->Set("k", "v").ok()) return 1;
  return 0;
}
