// Changes of a document with operation ids while replies are lost: the number in it is in the end
// exactly how many of them say that they were made.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::FaultProxy;
using ::coord::testing::RedisServer;
using Json = nlohmann::json;

Client ConnectTo(const std::string& url) {
  ClientOptions options;
  options.timeout = absl::Seconds(5);
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

// Every second one has no time to find out by repeating.
absl::Duration TimeoutOf(int round) { return absl::Milliseconds(round % 2 == 0 ? 5'000 : 8); }

constexpr int kThreads = 8;

TEST(JsonFaultTest, ApplyWithAnOperationIdCountsExactlyWhileRepliesAreLost) {
  constexpr int kOperations = 150;
  RedisServer server({.port = 0});
  FaultProxy proxy(server.tcp_url());
  const JsonDocument document(ConnectTo(proxy.url()), "d");
  const JsonDocument direct(ConnectTo(server.unix_url()), "d");
  ASSERT_OK(direct.Set(R"({"n": 0})"));
  std::atomic<std::int64_t> applied = 0;
  std::atomic<std::int64_t> mismatches = 0;
  std::atomic<int> running = kThreads;
  std::mutex mutex;
  std::vector<OperationId> unknown;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < kOperations; ++round) {
          // As it stands, seen past the proxy; it may be another one when the change arrives.
          const auto seen = direct.Get();
          EXPECT_OK(seen);
          const std::int64_t n = Json::parse(seen->value_or("{}")).value("n", std::int64_t{-1});
          const OperationId id = OperationId::New();
          const auto result = document.Apply(
              {.when = {{{"/n", StrCat(n)}}}, .set = {{"/n", StrCat(n + 1)}}, .operation_id = id},
              {.timeout = TimeoutOf(round)});
          if (result.ok()) {
            ++(result->applied() ? applied : mismatches);
          } else if (IsOutcomeUnknown(result.status())) {
            // All others were certainly not applied.
            const std::scoped_lock lock(mutex);
            unknown.push_back(id);
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        --running;
      });
    }
    proxy.LoseRepliesWhile(running);
  }
  std::int64_t found = 0;
  for (const OperationId& id : unknown) {
    ASSERT_OK_AND_ASSIGN(const std::optional<CasResult> kept, direct.Resolve(id));
    if (kept && kept->applied()) ++found;
  }
  RecordProperty("unknown", std::to_string(unknown.size()));
  RecordProperty("found", std::to_string(found));
  EXPECT_GT(found, 0) << "no reply was lost for good, so nothing was shown";
  EXPECT_GT(applied, 0);
  ASSERT_OK_AND_ASSIGN(const std::optional<std::string> text, direct.Get());
  EXPECT_EQ(text, StrCat(R"({"n": )", applied + found, "}"))
      << found << " of " << unknown.size() << " unknown ones were applied, " << mismatches
      << " others were too late";
}

// `found`: how many were applied that said it was unknown.
void CountUpdates(std::int64_t& found) {
  constexpr int kOperations = 60;
  RedisServer server({.port = 0});
  FaultProxy proxy(server.tcp_url());
  const JsonDocument document(ConnectTo(proxy.url()), "d");
  const JsonDocument direct(ConnectTo(server.unix_url()), "d");
  std::atomic<int> running = kThreads;
  std::mutex mutex;
  std::set<std::string> done, failed, unknown;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        for (int round = 0; round < kOperations; ++round) {
          // Beside the count, each leaves a mark, by which an unknown outcome can be told: the ids
          // are Update's own.
          const std::string mark = StrCat(i, "-", round);
          const auto result = document.Update(
              [&](const std::optional<std::string>& text) -> absl::StatusOr<std::string> {
                Json json = Json::parse(text.value_or(R"({"n":0,"marks":[]})"));
                json["n"] = json["n"].get<std::int64_t>() + 1;
                json["marks"].push_back(mark);
                return json.dump();
              },
              {.max_attempts = round % 3 == 0 ? 3 : 1000}, {.timeout = TimeoutOf(round)});
          {
            const std::scoped_lock lock(mutex);
            (result.ok()                         ? done
             : IsOutcomeUnknown(result.status()) ? unknown
                                                 : failed)
                .insert(mark);
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        --running;
      });
    }
    proxy.LoseRepliesWhile(running);
  }
  ASSERT_OK_AND_ASSIGN(const std::optional<std::string> text, direct.Get());
  const Json json = Json::parse(text.value_or("{}"));
  std::map<std::string, int> times;
  for (const Json& mark : json["marks"]) ++times[mark];
  for (const auto& [mark, count] : times) {
    EXPECT_EQ(count, 1) << mark << " was applied more than once";
    EXPECT_FALSE(failed.contains(mark)) << mark << " is reported as failed, and was applied";
    found += unknown.contains(mark) ? 1 : 0;
  }
  for (const std::string& mark : done) EXPECT_TRUE(times.contains(mark)) << mark << " was lost";
  EXPECT_EQ(json["n"], static_cast<std::int64_t>(done.size()) + found);
}

TEST(JsonFaultTest, UpdateCountsExactlyWhileRepliesAreLost) {
  std::int64_t found = 0;
  // On a slow machine it may be that no reply is lost for good.
  for (int attempt = 0; attempt < 5 && found == 0; ++attempt) CountUpdates(found);
  EXPECT_GT(found, 0) << "no reply was lost for good, so nothing was shown";
}

}  // namespace
}  // namespace coord
