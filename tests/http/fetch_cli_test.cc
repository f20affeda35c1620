// coord fetch, from outside.
#ifdef COORD_PROGRAM

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/raw_origin.h"
#include "tests/support/certificates.h"
#include "tests/support/deployment.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::testing {
namespace {

using dev::Origin;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

constexpr char kSecret[] = "hunter2";

void WriteFile(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Words NamesIn(const std::string& directory) {
  Words names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class FetchCliTest : public ::testing::Test {
 protected:
  FetchCliTest() {
    Serve("/a", "the page\n");
    origin_->On("/down", Origin::Reply{.status = 503, .body = "down"});
  }

  void Serve(const std::string& path, std::string body) {
    origin_->On(
        path, Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}}, .body = std::move(body)});
  }
  std::string Url(const std::string& target) const { return origin_->Url(target); }

  static Words Argv(const Words& words) {
    Words argv = {COORD_PROGRAM, "fetch"};
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }
  ProcessOptions Env(std::string backend) const {
    return {.env = {{"COORD_URL", std::move(backend)}, {"COORD_CACHE_URL", ""}, {"no_proxy", "*"}}};
  }
  ProcessResult RunAt(const std::string& backend, const Words& words) const {
    return RunProgram(Argv(words), Env(backend));
  }
  ProcessResult Run(const Words& words) const { return RunAt(server_.url(), words); }
  Process Start(const Words& words) const { return Process(Argv(words), Env(server_.url())); }
  Json RunJson(Words words) const {
    words.emplace_back("--json");
    const ProcessResult result = Run(words);
    Json value = Json::parse(result.out, nullptr, false);
    EXPECT_TRUE(value.is_object()) << result.out << result.err;
    return value;
  }

  const std::unique_ptr<Origin> origin_ = OrFatal(Origin::Start());
  const TempDir directory_;
  const std::string file_ = directory_.File("page");
  RedisServer server_;
  RawRedis redis_{server_};
};

// How many wait for another's request.
std::int64_t WaitersIn(RawRedis& redis) {
  std::int64_t waiters = 0;
  const Reply queues = redis.Command({"KEYS", "*{flight:*}:queue"});
  for (const Reply& key : queues.items()) {
    waiters += redis.Integer({"LLEN", key.text()});
  }
  return waiters;
}

// Sends half of what it announces, and then nothing until it is told.
RawOrigin HalfABody() {
  return RawOrigin([](const std::string&, RawOrigin::Connection& connection) {
    connection.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
    connection.Hold();
    connection.Close();
  });
}

// ---- What is fetched ----

TEST_F(FetchCliTest, PrintsTheBodyAndNothingElse) {
  const std::string bytes("\0\xff\n\0end", 7);
  Serve("/bytes", bytes);
  const ProcessResult got = Run({Url("/bytes")});
  EXPECT_EQ(got.exit_code, 0);
  EXPECT_EQ(got.out, bytes);
  EXPECT_EQ(got.err, "");
  EXPECT_EQ(Run({Url("/bytes"), "-o", "-"}).out, bytes);
}

TEST_F(FetchCliTest, AskedTwiceTheOriginIsAskedOnce) {
  EXPECT_EQ(Run({Url("/a")}).out, "the page\n");
  EXPECT_EQ(Run({Url("/a")}).out, "the page\n");
  EXPECT_EQ(origin_->requests(), 1);
}

TEST_F(FetchCliTest, OfEightAtOnceOneAsksTheOrigin) {
  origin_->On("/slow", [this](const Origin::Request&) {
    // By then the others have looked, found nothing, and stand in line.
    RawRedis redis(server_);
    EXPECT_TRUE(Eventually([&] { return WaitersIn(redis) == 7; }));
    return Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}}, .body = "slow"};
  });
  std::vector<Process> eight;
  for (int i = 0; i < 8; ++i) eight.push_back(Start({Url("/slow")}));
  for (Process& process : eight) {
    const ProcessResult result = process.Wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, "slow");
  }
  EXPECT_EQ(origin_->requests("/slow"), 1);
}

TEST_F(FetchCliTest, IncludeTellsWhatTheCacheHadToDoWithIt) {
  const ProcessResult first = Run({Url("/a"), "-i"});
  EXPECT_THAT(first.out, StartsWith("HTTP 200\n"));
  EXPECT_THAT(first.out, HasSubstr("\nCache-Control: max-age=60\n"));
  EXPECT_THAT(first.out, HasSubstr("\nfrom-cache: no\n"));
  EXPECT_THAT(first.out, EndsWith("\n\nthe page\n"));
  EXPECT_THAT(Run({Url("/a"), "-i"}).out, HasSubstr("\nfrom-cache: yes\n"));
}

TEST_F(FetchCliTest, JsonHasTheBodyAsTextOrAsBase64) {
  const Json text = RunJson({Url("/a")});
  EXPECT_EQ(text["status"], 200);
  EXPECT_EQ(text["body"], "the page\n");
  EXPECT_EQ(text["from_cache"], false);
  Serve("/bytes", "\xff");
  const Json bytes = RunJson({Url("/bytes")});
  EXPECT_EQ(bytes["body_base64"], "/w==");
  EXPECT_FALSE(bytes.contains("body"));
}

TEST_F(FetchCliTest, ExpireSaysHowLongWhateverTheOriginSays) {
  Serve("/b", "b");
  Serve("/c", "c");
  const Json never = RunJson({Url("/a"), "--expire", "never"});
  EXPECT_TRUE(never["expires"].is_null() || never["expires"] == "never") << never;
  EXPECT_THAT(Run({"--list", Url("/a")}).out, HasSubstr("\tfresh\tnever\t"));
  Run({Url("/b"), "--expire", "3d"});
  EXPECT_THAT(Run({"--list", Url("/b")}).out, HasSubstr("(in 3 days)"));
  Run({Url("/c"), "--expire", "0s"});
  Run({Url("/c")});
  EXPECT_EQ(origin_->requests("/c"), 2);
}

TEST_F(FetchCliTest, RefreshAsksWhetherItStillHoldsAndForceRefreshDoesNot) {
  origin_->On("/tagged", [](const Origin::Request& request) {
    const Origin::Fields fields = {{"Cache-Control", "max-age=60"}, {"ETag", "\"1\""}};
    if (request.header("If-None-Match") == "\"1\"") {
      return Origin::Reply{.status = 304, .headers = fields};
    }
    return Origin::Reply{.headers = fields, .body = "tagged"};
  });
  Run({Url("/tagged")});
  const Json asked = RunJson({Url("/tagged"), "--refresh"});
  EXPECT_EQ(asked["revalidated"], true);
  EXPECT_EQ(asked["body"], "tagged");
  const Json forced = RunJson({Url("/tagged"), "--force-refresh"});
  EXPECT_EQ(forced["from_cache"], false);
  EXPECT_EQ(origin_->requests(), 3);
}

TEST_F(FetchCliTest, OnlyIfCachedAsksNobodyAndSaysWhenThereIsNothing) {
  const ProcessResult missing = Run({Url("/a"), "--only-if-cached", "-o", file_});
  EXPECT_EQ(missing.exit_code, 75);
  EXPECT_EQ(missing.out, "");
  EXPECT_EQ(missing.err, "coord: nothing is cached that may be used\n");
  EXPECT_THAT(NamesIn(directory_.path()), IsEmpty());
  EXPECT_EQ(origin_->requests(), 0);
  Run({Url("/a")});
  const ProcessResult there = Run({Url("/a"), "--only-if-cached"});
  EXPECT_EQ(there.exit_code, 0);
  EXPECT_EQ(there.out, "the page\n");
  EXPECT_EQ(origin_->requests(), 1);
}

TEST_F(FetchCliTest, WithoutACacheNoServerIsNeededAndNothingIsKept) {
  EXPECT_EQ(Run({Url("/a"), "--no-cache"}).out, "the page\n");
  EXPECT_EQ(Run({Url("/a"), "--no-cache"}).out, "the page\n");
  EXPECT_EQ(origin_->requests(), 2);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  EXPECT_EQ(RunAt("redis://127.0.0.1:1", {Url("/a"), "--no-cache"}).exit_code, 0);
}

TEST_F(FetchCliTest, AStaleResponseTakesThePlaceOfAnErrorOnRequest) {
  Run({Url("/a"), "--expire", "0s", "--stale-if-error", "1h"});
  origin_->On("/a", Origin::Reply{.status = 503, .body = "down"});
  const Json stale = RunJson({Url("/a"), "--stale-if-error", "1h"});
  EXPECT_EQ(stale["status"], 200);
  EXPECT_EQ(stale["stale"], true);
  EXPECT_EQ(stale["body"], "the page\n");
  EXPECT_EQ(Run({Url("/a")}).out, "down");
}

TEST_F(FetchCliTest, MethodBodyAndHeadersAreSentAsGiven) {
  Serve("/echo", "");
  const std::string lines = directory_.File("lines");
  WriteFile(lines, "X-Three: 3\r\n\r\nX-Four:4");
  EXPECT_EQ(Run({Url("/echo"), "-X", "PUT", "-d", "@a b", "-H", "X-One: 1 ", "-H", "X-Two:2", "-H",
                 "@" + lines})
                .exit_code,
            0);
  EXPECT_EQ(Run({Url("/echo"), "-d", ""}).exit_code, 0);
  const std::vector<Origin::Request> log = origin_->log("/echo");
  ASSERT_EQ(log.size(), 2);
  EXPECT_EQ(log[0].method, "PUT");
  EXPECT_EQ(log[0].body, "@a b");
  EXPECT_EQ(log[0].header("X-One") + log[0].header("X-Two") + log[0].header("X-Three") +
                log[0].header("X-Four"),
            "1234");
  EXPECT_EQ(log[1].method, "POST");
}

TEST_F(FetchCliTest, RedirectsAreFollowedUnlessToldOtherwise) {
  origin_->On("/from", Origin::Reply{.status = 302, .headers = {{"Location", "/a"}}, .body = "x"});
  EXPECT_EQ(RunJson({Url("/from")})["url"], Url("/a"));
  EXPECT_EQ(RunJson({Url("/from"), "--no-redirects"})["status"], 302);
}

TEST_F(FetchCliTest, AnErrorsStatusIsNoErrorUnlessToldOtherwise) {
  const ProcessResult as_it_is = Run({Url("/down")});
  EXPECT_EQ(as_it_is.exit_code, 0);
  EXPECT_EQ(as_it_is.out, "down");
  const ProcessResult failed = Run({"-f", Url("/down"), "-o", file_});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_EQ(failed.out, "");
  EXPECT_EQ(failed.err, "coord: the origin answered 503\n");
  EXPECT_THAT(NamesIn(directory_.path()), IsEmpty());
  EXPECT_FALSE(RunJson({"-f", Url("/down")}).contains("body"));
}

TEST_F(FetchCliTest, EachIdentityHasAResponseOfItsOwnAndNoSecretIsKept) {
  origin_->On("/me", [](const Origin::Request& request) {
    return Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}},
                         .body = request.header("Authorization").empty() ? "nobody" : "somebody"};
  });
  const std::string header = std::string("Authorization: Bearer ") + kSecret;
  const std::string url = Url(std::string("/me?token=") + kSecret);
  EXPECT_EQ(Run({url, "-H", header}).out, "somebody");
  EXPECT_EQ(Run({url}).out, "nobody");
  EXPECT_EQ(Run({url, "-H", header}).out, "somebody");
  EXPECT_EQ(origin_->requests(), 2);
  EXPECT_EQ(origin_->log("/me")[0].header("Authorization"), header.substr(15));
  const std::string shown = Run({url, "-H", header, "-i"}).out +
                            Run({url, "-H", header, "--json"}).out + Run({"--list"}).out +
                            Run({"--list", "--json"}).out;
  EXPECT_THAT(shown, HasSubstr("token=REDACTED"));
  EXPECT_THAT(shown, Not(HasSubstr(kSecret)));
}

// ---- -o ----

TEST_F(FetchCliTest, AFileIsReplacedWithItsModeAndNothingIsLeftBesideIt) {
  WriteFile(file_, "old");
  chmod(file_.c_str(), 0640);
  std::ifstream reader(file_);
  EXPECT_EQ(Run({Url("/a"), "-o", file_}).exit_code, 0);
  EXPECT_EQ(ReadFile(file_), "the page\n");
  struct stat now = {};
  ASSERT_EQ(stat(file_.c_str(), &now), 0);
  EXPECT_EQ(now.st_mode & 07777, 0640);
  EXPECT_THAT(NamesIn(directory_.path()), ElementsAre("page"));
  // Who had it open still reads what it was.
  std::string before;
  std::getline(reader, before);
  EXPECT_EQ(before, "old");
}

TEST_F(FetchCliTest, ASymbolicLinkStaysAndItsFileIsReplaced) {
  WriteFile(file_, "old");
  const std::string link = directory_.File("link");
  ASSERT_EQ(symlink("page", link.c_str()), 0);
  EXPECT_EQ(Run({Url("/a"), "-o", link}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(ReadFile(file_), "the page\n");
}

TEST_F(FetchCliTest, ADeviceOrAPipeIsWrittenTo) {
  EXPECT_EQ(Run({Url("/a"), "-o", "/dev/null"}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  const ProcessResult full = Run({Url("/a"), "-o", "/dev/full"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("/dev/full"));
  ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
  Process writer = Start({Url("/a"), "-o", file_});
  EXPECT_EQ(ReadFile(file_), "the page\n");  // opens when the other does
  EXPECT_EQ(writer.Wait().exit_code, 0);
}

TEST_F(FetchCliTest, AFileThatCannotBeWrittenIsSaidBeforeAnythingIsSent) {
  for (const std::string& path : {directory_.path(), directory_.File("none/page")}) {
    const ProcessResult result = Run({Url("/a"), "-o", path, "-d", "order"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("\"" + path + "\""));
  }
  EXPECT_EQ(origin_->requests(), 0);
}

TEST_F(FetchCliTest, WhenTheOriginBreaksOffTheFileIsAsItWas) {
  RawOrigin origin = HalfABody();
  origin.Release();
  WriteFile(file_, "old");
  const ProcessResult result = Run({origin.Url("/x"), "-o", file_});
  EXPECT_EQ(result.exit_code, 69);
  EXPECT_THAT(result.err, HasSubstr("ended early"));
  EXPECT_EQ(ReadFile(file_), "old");
  EXPECT_THAT(NamesIn(directory_.path()), ElementsAre("page"));
}

TEST_F(FetchCliTest, ALargeBodyGoesToAFileWhole) {
  const std::string large(std::size_t{20} << 20, 'x');
  Serve("/large", large);
  EXPECT_EQ(Run({Url("/large"), "-o", file_}).exit_code, 0);
  EXPECT_TRUE(ReadFile(file_) == large);
}

// ---- Signals ----

TEST_F(FetchCliTest, ASignalEndsItAndLeavesNoFile) {
  RawOrigin origin = HalfABody();
  for (const int signal : {SIGINT, SIGTERM}) {
    const int before = origin.requests();
    Process process = Start({origin.Url("/x"), "-o", file_});
    ASSERT_TRUE(Eventually([&] {
      const Words names = NamesIn(directory_.path());
      return origin.requests() > before && names.size() == 1 &&
             std::filesystem::file_size(directory_.File(names[0])) == 5;
    }));
    process.Signal(signal);
    const ProcessResult result = process.Wait();
    EXPECT_EQ(result.exit_code, 128 + signal);
    EXPECT_THAT(result.err, HasSubstr("stopped by a signal"));
    EXPECT_THAT(NamesIn(directory_.path()), IsEmpty());
  }
}

TEST_F(FetchCliTest, ASignalEndsWaitingForAnothersRequest) {
  RawOrigin origin = HalfABody();
  Process first = Start({origin.Url("/x")});
  ASSERT_TRUE(Eventually([&] { return origin.requests() == 1; }));
  Process second = Start({origin.Url("/x")});
  ASSERT_TRUE(Eventually([&] { return WaitersIn(redis_) == 1; }));
  second.Signal(SIGINT);
  EXPECT_EQ(second.Wait().exit_code, 130);
  EXPECT_TRUE(first.Running());
  EXPECT_EQ(origin.requests(), 1);
}

TEST_F(FetchCliTest, WhoIsInterruptedKeepsNobodyElseWaiting) {
  RawOrigin origin = HalfABody();
  Process first = Start({origin.Url("/x")});
  ASSERT_TRUE(Eventually([&] { return origin.requests() == 1; }));
  first.Signal(SIGINT);
  EXPECT_EQ(first.Wait().exit_code, 130);
  EXPECT_EQ(redis_.Command({"KEYS", "*{flight:*}:lease"}).items().size(), 0);
  Process second = Start({origin.Url("/x")});
  EXPECT_TRUE(Eventually([&] { return origin.requests() == 2; }));
}

TEST_F(FetchCliTest, ASignalEndsItWhenNobodyReadsWhatItPrints) {
  Serve("/large", std::string(std::size_t{1} << 20, 'x'));
  const std::string shell = "exec \"$0\" fetch \"$1\" > \"$2\"";
  const std::string other = directory_.File("other");
  // Once as a file to write to, once as standard output.
  for (const auto& [pipe, argv] :
       {std::pair(file_, Argv({Url("/large"), "-o", file_})),
        std::pair(other, Words{"sh", "-c", shell, COORD_PROGRAM, Url("/large"), other})}) {
    ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
    const UniqueFd reader(open(pipe.c_str(), O_RDONLY | O_NONBLOCK));
    Process process(argv, Env(server_.url()));
    int waiting = 0;
    ASSERT_TRUE(
        Eventually([&] { return ioctl(reader.get(), FIONREAD, &waiting) == 0 && waiting > 0; }));
    process.Signal(SIGTERM);
    EXPECT_EQ(process.Wait().exit_code, 143);
  }
}

// ---- What is cached ----

TEST_F(FetchCliTest, ListShowsWhatIsCachedAndDeleteForgetsIt) {
  Serve("/b/c", "12345");
  Run({Url("/a"), "--expire", "1h"});
  Run({Url("/b/c")});
  const ProcessResult all = Run({"--list"});
  EXPECT_EQ(all.exit_code, 0);
  EXPECT_THAT(all.out, StartsWith("200\t9\tfresh\t"));
  EXPECT_THAT(all.out, HasSubstr("\tGET " + Url("/a") + "\n200\t5\tfresh\t"));
  const std::string only_b = Run({"--list", "*/b/*"}).out;
  EXPECT_THAT(only_b, HasSubstr(Url("/b/c")));
  EXPECT_THAT(only_b, Not(HasSubstr(Url("/a"))));
  const Json entry = RunJson({"--list", Url("/a")});
  EXPECT_EQ(entry["bytes"], 9);
  EXPECT_FALSE(entry.contains("body"));
  EXPECT_EQ(Run({"--delete", "*/b/*"}).out, "1\n");
  const ProcessResult again = Run({"--delete", "*/b/*"});
  EXPECT_EQ(again.exit_code, 75);
  EXPECT_EQ(again.out, "0\n");
  EXPECT_EQ(RunJson({"--delete", "*"})["deleted"], 1);
  EXPECT_EQ(Run({"--list"}).out, "");
}

TEST_F(FetchCliTest, StoresAndPrefixesAreApart) {
  Run({Url("/a"), "--store", "mine"});
  EXPECT_EQ(Run({"--list"}).out, "");
  EXPECT_THAT(Run({"--list", "--store", "mine"}).out, HasSubstr(Url("/a")));
  Run({Url("/a"), "--prefix", "other:"});
  EXPECT_EQ(origin_->requests(), 2);
  EXPECT_THAT(Run({"--list", "--prefix", "other:"}).out, HasSubstr(Url("/a")));
}

TEST_F(FetchCliTest, TheCacheMayBeAFileOrOneRunsMemory) {
  const std::string disk = "disk://" + directory_.File("cache.db");
  EXPECT_EQ(RunAt(disk, {Url("/a")}).out, "the page\n");
  EXPECT_EQ(RunAt(disk, {Url("/a")}).out, "the page\n");
  EXPECT_EQ(origin_->requests(), 1);
  EXPECT_THAT(RunAt(disk, {"--list"}).out, HasSubstr(Url("/a")));
  EXPECT_EQ(Run({Url("/a"), "--url", "memory://"}).exit_code, 0);
  EXPECT_EQ(origin_->requests(), 2);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(FetchCliTest, TheCachesOwnVariableGoesBeforeTheServers) {
  ProcessOptions options = Env("redis://127.0.0.1:1");
  options.env[1].second = server_.url();
  EXPECT_EQ(RunProgram(Argv({Url("/a")}), options).exit_code, 0);
  EXPECT_THAT(Run({"--list"}).out, HasSubstr(Url("/a")));
}

// ---- Mistakes ----

TEST_F(FetchCliTest, WhatIsNoRequestIsRefusedAndNothingSent) {
  const std::string url = Url("/a");
  const std::string bad_lines = directory_.File("lines");
  WriteFile(bad_lines, std::string("A: b\n") + kSecret + "\n");
  const std::vector<std::pair<Words, std::string>> cases = {
      {{}, "URL is missing"},
      {{url, url}, "not expected"},
      {{std::string("ftp://me:") + kSecret + "@host/"}, "http:// or https://"},
      {{"example.com"}, "http:// or https://"},
      {{url, "-H", kSecret}, "'Name: value'"},
      {{url, "-H", std::string("A: b\r\nC: ") + kSecret}, "control character"},
      {{url, "-H", std::string("A B: ") + kSecret}, "\"A B\""},
      {{url, "-H", "@" + bad_lines}, "line 2"},
      {{url, "-H", "@" + directory_.path()}, "cannot read"},
      {{url, "-H", "@" + directory_.File("none")}, "cannot read"},
      {{url, "-X", "BAD METHOD"}, "BAD METHOD"},
      {{url, "--expire", "10"}, "--expire"},
      {{url, "--expire", "4000d"}, "--expire"},
      {{url, "--stale-if-error", "never"}, "--stale-if-error"},
      {{url, "--max-time", "0s"}, "--max-time"},
      {{url, "--max-time", "25h"}, "24h"},
      {{url, "-o", file_, "-i"}, "-o"},
      {{url, "-o", file_, "--json"}, "-o"},
      {{url, "--only-if-cached", "--refresh"}, "--only-if-cached"},
      {{url, "--store", "a b"}, "store"},
      {{"--list", "--delete", "*"}, "--list and --delete"},
      {{"--delete", "*", url}, "not expected"},
      {{"--delete", ""}, "\"*\" is for all"},
      {{"--list", "-o", file_}, "--output"},
      {{url, "--url", "redis://a", "--url", "redis://b"}, "quorum"},
      {{url, "--url", "nonsense"}, "nonsense"},
  };
  for (const auto& [words, said] : cases) {
    const ProcessResult result = Run(words);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("coord: "));
    EXPECT_THAT(result.err, HasSubstr(said));
    EXPECT_THAT(result.err, Not(HasSubstr(kSecret)));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
  EXPECT_EQ(origin_->requests(), 0);
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(FetchCliTest, WhoDoesNotAnswerIsNamedWithoutSecrets) {
  const std::string secret = kSecret;
  const ProcessResult origin = Run({"http://me:" + secret + "@127.0.0.1:1/x?token=" + secret, "-H",
                                    "Authorization: Bearer " + secret});
  EXPECT_EQ(origin.exit_code, 69);
  EXPECT_THAT(origin.err, StartsWith("coord: GET http://127.0.0.1:1/x"));
  EXPECT_THAT(origin.err, Not(HasSubstr(secret)));
  const ProcessResult host = Run({"http://no-such-host.invalid/"});
  EXPECT_EQ(host.exit_code, 69);
  EXPECT_THAT(host.err, HasSubstr("no-such-host.invalid"));
  const ProcessResult cache = RunAt("redis://me:" + secret + "@127.0.0.1:1", {Url("/a")});
  EXPECT_EQ(cache.exit_code, 69);
  EXPECT_THAT(cache.err, HasSubstr("the cache (--no-cache does without)"));
  EXPECT_THAT(cache.err, Not(HasSubstr(secret)));
}

TEST_F(FetchCliTest, AnOriginThatTakesTooLongIsGivenUp) {
  RawOrigin origin = HalfABody();
  const ProcessResult result = Run({origin.Url("/x"), "--max-time", "300ms"});
  EXPECT_EQ(result.exit_code, 69);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("out of time"));
}

TEST_F(FetchCliTest, ACertificateThatNobodyVouchesForIsRefused) {
  CertificateAuthority authority;
  const Certificate certificate = authority.Issue({.addresses = {"127.0.0.1"}});
  const std::unique_ptr<Origin> tls = OrFatal(
      Origin::Start({.cert_file = certificate.cert_file, .key_file = certificate.key_file}));
  const ProcessResult result = Run({tls->Url("/a")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("certificate"));
  EXPECT_EQ(tls->requests(), 0);
}

TEST_F(FetchCliTest, AServerThatFailsOnTheWayCostsTheCacheAndNotTheResponse) {
  origin_->On("/a", [this](const Origin::Request&) {
    server_.Kill();
    return Origin::Reply{.headers = {{"Cache-Control", "max-age=60"}}, .body = "anyway"};
  });
  const ProcessResult result = Run({Url("/a")});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "anyway");
  EXPECT_THAT(result.err, HasSubstr("coord: the cache: "));
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
