#include "cache/registry.h"

#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "cache/internal/cache_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace coord {
namespace {

using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

RegistryOptions With(std::map<std::string, std::string> variables) {
  RegistryOptions options;
  options.environment = [variables](std::string_view name) -> std::optional<std::string> {
    const auto found = variables.find(std::string(name));
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
  return options;
}

TEST(RegistryTest, ReadsTheReferenceConfiguration) {
  RedisServer server;
  ASSERT_OK_AND_ASSIGN(const Registry caches,
                       Registry::FromToml(R"(
    title = "somebody else's"
    [caches.default]
    provider = "redis"
    URI = "${CACHE_URL|redis://localhost:1/2}"
    TTL = 300
    ttl_jitter = 0.0
  )",
                                          With({{"CACHE_URL", server.url()}})));
  ASSERT_OK_AND_ASSIGN(const Cache cache, caches.Get());
  EXPECT_OK(cache.Ping());
  ASSERT_OK(cache.Set("k", 1));
  ASSERT_OK_AND_ASSIGN(const TimeLeft left, cache.TtlOf("k"));
  EXPECT_GT(left.left(), absl::Seconds(290));
  EXPECT_LE(left.left(), absl::Seconds(300));
  EXPECT_EQ(cache.options().name, "default");
}

TEST(RegistryTest, OpensEveryKindOfBackend) {
  RedisServer server;
  const TempDir directory;
  const std::string text = R"(
    [caches.memory]
    provider = "memory"
    max_entries = 100
    eviction = "lru"
    TTL = "2h30m"
    [caches.disk]
    provider = "disk"
    path = "${DIR}/cache.db"
    max_bytes = "1MiB"
    TTL = "never"
    [caches.near]
    provider = "redis"
    URI = "${URL}"
    near = { max_entries = 10, max_ttl = "5s" }
    [caches.tiers]
    provider = "tiered"
    tiers = [{ provider = "memory", max_entries = 10, max_ttl = 1 }, { provider = "redis", URI = "${URL}" }]
  )";
  ASSERT_OK_AND_ASSIGN(
      const Registry caches,
      Registry::FromToml(text, With({{"DIR", directory.path()}, {"URL", server.url()}})));
  EXPECT_THAT(caches.names(), ElementsAre("disk", "memory", "near", "tiers"));
  const std::map<std::string, std::string> kinds = {
      {"disk", "disk"}, {"memory", "memory"}, {"near", "near"}, {"tiers", "tiered"}};
  for (const auto& [name, kind] : kinds) {
    ASSERT_OK_AND_ASSIGN(const Cache cache, caches.Get(name));
    EXPECT_EQ(cache.backend().kind(), kind);
    ASSERT_OK(cache.Set("k", name));
    ASSERT_OK_AND_ASSIGN(const Lookup<std::string> found, cache.Get<std::string>("k"));
    EXPECT_EQ(found.value_or(""), name) << name;
  }
  ASSERT_OK_AND_ASSIGN(const Cache again, caches.Get("memory"));
  EXPECT_THAT(again.Exists("k"), IsOkAndHolds(true)) << "callers share what was opened";
}

TEST(RegistryTest, EveryErrorNamesTheCacheAndTheKey) {
  const std::map<std::string, std::string> wrong = {
      {"provider = \"mysql\"", "caches.x: provider must be one of"},
      {"TTL = 300", "caches.x: provider is missing"},
      {"provider = \"redis\"\nTTL = -1", "caches.x: ttl is wrong"},
      {"provider = \"redis\"\nTTL = \"1hfoo\"", "caches.x: ttl is wrong"},
      {"provider = \"redis\"\nTTL = 1.5", "caches.x: ttl must be"},
      {"provider = \"redis\"\nTTLL = 300", "caches.x: TTLL is none of the keys"},
      {"provider = \"redis\"\nURI = 5", "caches.x: uri must be a string"},
      {"provider = \"redis\"\nURI = \"${NOWHERE}\"", "NOWHERE"},
      {"provider = \"redis\"\nuri = \"a\"\nURI = \"b\"", "is there twice"},
      {"provider = \"disk\"", "caches.x: path is missing"},
      {"provider = \"tiered\"", "caches.x: tiers must be"},
      {"provider = \"tiered\"\ntiers = [{provider = \"tape\"}]", "caches.x.tiers[0]: provider"},
      {"provider = \"memory\"\nmax_entries = 0", "caches.x: max_entries"},
      {"provider = \"memory\"\nclear_by_epoch = 1", "caches.x: clear_by_epoch must be"},
      {"provider = \"redis\"\nnear = 3", "caches.x: near must be"},
  };
  for (const auto& [lines, message] : wrong) {
    EXPECT_THAT(Registry::FromToml("[caches.x]\n" + lines, With({})),
                StatusIs(kInvalid, HasSubstr(message)))
        << lines;
  }
  EXPECT_THAT(Registry::FromToml("[caches.x", With({})), StatusIs(kInvalid, HasSubstr("line 1")));
  EXPECT_THAT(Registry::FromToml("a = 1", With({})), StatusIs(kInvalid));
}

TEST(RegistryTest, WhatAVariableHoldsIsNeverShown) {
  const absl::Status status = Registry::FromToml("[caches.x]\nprovider = \"redis\"\nTTL = \"${T}\"",
                                                 With({{"T", "hunter2"}}))
                                  .status();
  EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("ttl"), Not(HasSubstr("hunter2")))));
}

TEST(RegistryTest, AnUnknownCacheIsToldWithThoseThereAre) {
  ASSERT_OK_AND_ASSIGN(const Registry caches,
                       Registry::FromToml("[caches.a]\nprovider = \"memory\"", With({})));
  EXPECT_THAT(caches.Get("b"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("there are: a")));
}

TEST(RegistryTest, AServerThatIsDownIsToldByGetAndAskedAgain) {
  RedisServer server;
  server.Kill();
  RegistryOptions options = With({{"URL", server.url()}});
  options.client.connect_timeout = absl::Milliseconds(300);
  ASSERT_OK_AND_ASSIGN(
      const Registry caches,
      Registry::FromToml("[caches.a]\nprovider = \"redis\"\nURI = \"${URL}\"", options));
  EXPECT_THAT(caches.Get("a"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("caches.a")));
  server.Start();
  EXPECT_OK(caches.Get("a"));
}

TEST(RegistryTest, AFileThatCannotBeReadIsNamed) {
  EXPECT_THAT(Registry::FromFile("/nowhere/caches.toml"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/caches.toml")));
}

TEST(RegistryTest, VariablesAreReplaced) {
  const internal::Environment environment = With({{"A", "1"}, {"EMPTY", ""}}).environment;
  EXPECT_THAT(internal::ExpandVariables("x${A}y${B|2}z$$w$", environment),
              IsOkAndHolds("x1y2z$w$"));
  EXPECT_THAT(internal::ExpandVariables("${EMPTY|no}", environment), IsOkAndHolds(""));
  EXPECT_THAT(internal::ExpandVariables("${B|}", environment), IsOkAndHolds(""));
  EXPECT_THAT(internal::ExpandVariables("${B}", environment), StatusIs(kInvalid));
  EXPECT_THAT(internal::ExpandVariables("${A", environment), StatusIs(kInvalid));
  EXPECT_THAT(internal::ExpandVariables("${}", environment), StatusIs(kInvalid));
}

TEST(RegistryTest, SizesAreBytesOrHaveAUnit) {
  EXPECT_THAT(internal::ParseSize("1024"), IsOkAndHolds(1024u));
  EXPECT_THAT(internal::ParseSize("64MiB"), IsOkAndHolds(std::uint64_t{64} << 20));
  for (const char* bad : {"", "MiB", "-1", "1MB", "1 MiB", "9999999999GiB", "1.5GiB"}) {
    EXPECT_THAT(internal::ParseSize(bad), StatusIs(kInvalid)) << bad;
  }
}

TEST(OpenBackendTest, TakesUrlsOfItsOwnAndLeavesTheOthersToTheClient) {
  const TempDir directory;
  ASSERT_OK_AND_ASSIGN(auto memory, OpenBackend("memory://?max_entries=10&eviction=lru"));
  EXPECT_EQ(memory->kind(), "memory");
  ASSERT_OK_AND_ASSIGN(auto disk,
                       OpenBackend("disk://" + directory.path() + "/c.db?max_bytes=1MiB"));
  EXPECT_EQ(disk->kind(), "disk");
  ASSERT_OK_AND_ASSIGN(auto redis, OpenBackend("embedded://?private"));
  EXPECT_EQ(redis->kind(), "redis");
  for (const char* bad : {"disk://", "memory:///x", "memory://?max_entries=0", "memory://?size=1",
                          "disk:///x?max_entries=1", "http://x"}) {
    EXPECT_THAT(OpenBackend(bad), StatusIs(kInvalid)) << bad;
  }
}

}  // namespace
}  // namespace coord
