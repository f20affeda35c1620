// Capped lists under many writers and readers at once: the cap, the numbers and the counts hold.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;

constexpr int kWriters = 8;
constexpr int kPushes = 150;
constexpr std::int64_t kCap = 20;

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

// What one writer was told of its pushes.
struct Told {
  PushResult result;
  std::vector<std::string> items;
};

// Writers each with a connection of its own; every third push is of one item, others of up to 7.
std::vector<Told> WriteAll(const std::string& url, const CappedListOptions& options) {
  std::mutex mutex;
  std::vector<Told> all;
  std::vector<std::jthread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      const CappedList list(ConnectTo(url), "events", options);
      for (int round = 0; round < kPushes; ++round) {
        Told told;
        for (int i = round % 3 == 0 ? 0 : (round + writer) % 7; i >= 0; --i) {
          told.items.push_back(std::to_string(writer) + "/" + std::to_string(round) + "/" +
                               std::to_string(i));
        }
        const std::vector<std::string_view> items(told.items.begin(), told.items.end());
        const absl::StatusOr<PushResult> result = list.Push(items);
        EXPECT_OK(result.status());
        if (!result.ok()) return;
        told.result = *result;
        const std::scoped_lock lock(mutex);
        all.push_back(std::move(told));
      }
    });
  }
  writers.clear();
  return all;
}

class ListConcurrencyTest : public ::testing::Test {
 protected:
  static CappedListOptions Options() {
    CappedListOptions options;
    options.max_items = kCap;
    return options;
  }
  // Replays the pushes in the order of their numbers and checks each answer against the model.
  // What stands under each number.
  static std::map<std::int64_t, std::string> Check(std::vector<Told> all, std::int64_t before,
                                                   std::int64_t length) {
    std::sort(all.begin(), all.end(),
              [](const Told& a, const Told& b) { return a.result.sequence < b.result.sequence; });
    std::map<std::int64_t, std::string> by_number;
    for (const Told& told : all) {
      const auto count = static_cast<std::int64_t>(told.items.size());
      // Unique, and without a gap.
      EXPECT_EQ(told.result.sequence, before + count);
      const std::int64_t left = std::min(length + count, kCap);
      EXPECT_EQ(told.result.length, left);
      EXPECT_EQ(told.result.evicted, length + count - left);
      for (const std::string& item : told.items) by_number[++before] = item;
      length = left;
    }
    return by_number;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(ListConcurrencyTest, NumbersLengthsAndCountsAddUpAndTheCapHoldsAtEveryMoment) {
  const CappedList list(client_, "events", Options());
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("first"));
  std::int64_t longest = 0;
  int looks = 0;
  std::jthread observer([&](std::stop_token stop) {
    RawRedis redis(server_);
    while (!stop.stop_requested()) {
      longest = std::max(longest, redis.Integer({"LLEN", "coord:{events}:list"}));
      ++looks;
    }
  });
  std::vector<Told> all = WriteAll(server_.url(), Options());
  observer.request_stop();
  observer.join();
  EXPECT_EQ(longest, kCap);
  EXPECT_GT(looks, 50);
  ASSERT_EQ(all.size(), std::size_t{kWriters} * kPushes);
  const std::map<std::int64_t, std::string> by_number = Check(std::move(all), first.sequence, 1);
  ASSERT_OK_AND_ASSIGN(const ListSlice left, list.Newest(kCap + 1));
  ASSERT_EQ(left.items.size(), std::size_t{kCap});
  for (const ListItem& item : left.items) EXPECT_EQ(item.value, by_number.at(item.sequence));
  EXPECT_EQ(left.newest, by_number.rbegin()->first);
}

TEST_F(ListConcurrencyTest, FollowersGetEveryNumberOnceInOrderOrCounted) {
  struct Reader {
    std::vector<ListItem> items;
    std::atomic<std::int64_t> at = 0;
    bool orderly = true;
    std::int64_t missed = 0;
  };
  const CappedList list(client_, "events", Options());
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("first"));
  // One on each of two connections, and one that comes late to each slice.
  const Client other = ConnectTo(server_.url());
  std::vector<Reader> readers(3);
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    Reader& reader = readers[i];
    reader.at = first.sequence;
    threads.emplace_back([&, i](std::stop_token stop) {
      const CappedList followed(i == 0 ? client_ : other, "events", Options());
      const absl::Status status = followed.Follow(
          first.sequence,
          [&](const ListSlice& slice) {
            std::int64_t at = reader.at + slice.missed;
            reader.missed += slice.missed;
            for (const ListItem& item : slice.items) {
              if (item.sequence != ++at) reader.orderly = false;
              reader.items.push_back(item);
            }
            reader.at = at;
            if (i == 2) {
              // Late: not before a whole list has come after this.
              (void)Eventually(
                  [&] {
                    const absl::StatusOr<ListSlice> newest = list.Newest(1);
                    return stop.stop_requested() || (newest.ok() && newest->newest > at + 2 * kCap);
                  },
                  absl::Milliseconds(300));
            }
            return true;
          },
          stop);
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    });
  }
  std::vector<Told> all = WriteAll(server_.url(), Options());
  ASSERT_EQ(all.size(), std::size_t{kWriters} * kPushes);
  const std::map<std::int64_t, std::string> by_number = Check(std::move(all), first.sequence, 1);
  const std::int64_t last = by_number.rbegin()->first;
  for (const Reader& reader : readers) {
    EXPECT_TRUE(Eventually([&] { return reader.at == last; })) << reader.at << " of " << last;
  }
  threads.clear();
  for (const Reader& reader : readers) {
    EXPECT_TRUE(reader.orderly);
    EXPECT_EQ(static_cast<std::int64_t>(reader.items.size()) + reader.missed,
              last - first.sequence);
    for (const ListItem& item : reader.items) EXPECT_EQ(item.value, by_number.at(item.sequence));
  }
  EXPECT_GT(readers[2].missed, 0);
}

TEST_F(ListConcurrencyTest, RejectedPushesLeaveNoGapAndNoneIsOverTheCap) {
  CappedListOptions options = Options();
  options.overflow = CappedListOptions::Overflow::kReject;
  std::vector<Told> all = WriteAll(server_.url(), options);
  std::int64_t applied = 0;
  std::int64_t items = 0;
  for (const Told& told : all) {
    EXPECT_LE(told.result.length, kCap);
    EXPECT_EQ(told.result.evicted, 0);
    if (told.result.applied) {
      ++applied;
      items += static_cast<std::int64_t>(told.items.size());
    }
  }
  EXPECT_GT(applied, 0);
  EXPECT_EQ(items, kCap);  // single ones fill it to the brim
  EXPECT_EQ(redis_.Integer({"LLEN", "coord:{events}:list"}), kCap);
}

}  // namespace
}  // namespace coord
