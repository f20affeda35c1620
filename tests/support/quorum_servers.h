// Real servers of a test's own that vote.
#ifndef COORD_TESTS_SUPPORT_QUORUM_SERVERS_H_
#define COORD_TESTS_SUPPORT_QUORUM_SERVERS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coord/quorum.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"

namespace coord::testing {

// N servers, declared a new deployment with `options` unless `declare` is false.
class QuorumServers {
 public:
  explicit QuorumServers(std::size_t count = 5, QuorumOptions options = {}, bool declare = true)
      : options_(std::move(options)) {
    for (std::size_t i = 0; i < count; ++i) {
      servers_.push_back(std::make_unique<RedisServer>());
      urls_.push_back(servers_.back()->url());
    }
    if (!declare) return;
    const absl::Status declared = Quorum::DeclareNew(urls_, {}, options_);
    if (!declared.ok()) Fatal("not declared: " + declared.ToString());
  }

  RedisServer& operator[](std::size_t i) { return *servers_[i]; }
  std::size_t size() const { return servers_.size(); }
  const std::vector<std::string>& urls() const { return urls_; }
  const QuorumOptions& options() const { return options_; }

  Quorum Connect(ClientOptions client_options = {}) const {
    return Connect(std::move(client_options), options_);
  }
  Quorum Connect(ClientOptions client_options, QuorumOptions options) const {
    absl::StatusOr<Quorum> quorum =
        Quorum::Connect(urls_, std::move(client_options), std::move(options));
    if (!quorum.ok()) Fatal("no quorum: " + quorum.status().ToString());
    return *std::move(quorum);
  }

  // On how many of the running servers there is a lease of that name. Paused ones are left out by
  // their numbers.
  int Leases(const std::string& name, const std::vector<std::size_t>& without = {}) {
    int count = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      bool skip = !servers_[i]->Running();
      for (std::size_t w : without) skip = skip || w == i;
      if (skip) continue;
      RawRedis redis(*servers_[i]);
      count += redis.Integer({"EXISTS", "coord:{" + name + "}:lease"}) == 1 ? 1 : 0;
    }
    return count;
  }

 private:
  const QuorumOptions options_;
  std::vector<std::unique_ptr<RedisServer>> servers_;
  std::vector<std::string> urls_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_QUORUM_SERVERS_H_
