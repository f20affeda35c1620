// A table of what RFC 9111 and its neighbours ask of a private cache, each case against a real
// origin and a clock that the test moves. The cases are in rfc9111_*_cases.cc.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/http/session.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/rfc9111_case.h"
#include "tests/support/fatal.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::http::rfc {

using ::coord::internal::StrCat;
using ::coord::testing::Eventually;
using dev::Origin;

Step& Step::Miss(Fields fields, std::string text, int code) {
  reply = Origin::Reply{.status = code, .headers = std::move(fields), .body = text};
  status = code;
  body = method == "HEAD" ? "" : std::move(text);
  return *this;
}

Step& Step::Hit(std::string text, int code) {
  status = code;
  body = std::move(text);
  from_cache = true;
  return *this;
}

Step& Step::StaleHit(std::string text) {
  stale = true;
  return Hit(std::move(text));
}

Step& Step::StaleWhile(std::string text, Fields fields, std::string new_text, int code) {
  reply = Origin::Reply{.status = code, .headers = std::move(fields), .body = std::move(new_text)};
  in_background = true;
  return StaleHit(std::move(text));
}

Step& Step::Revalidated(Fields fields, std::string text) {
  reply = Origin::Reply{.status = 304, .headers = std::move(fields)};
  revalidated = true;
  return Hit(std::move(text));
}

Step& Step::StaleOnError(int code, std::string text) {
  reply = Origin::Reply{.status = code, .body = "failed"};
  return StaleHit(std::move(text));
}

Step& Step::GatewayTimeout() {
  status = 504;
  return *this;
}

Step& Step::Also(std::string where, Fields fields, std::string text, int code) {
  others.emplace_back(
      std::move(where),
      Origin::Reply{.status = code, .headers = std::move(fields), .body = std::move(text)});
  return *this;
}

Step Send(std::string method, std::string target) {
  Step step;
  step.method = std::move(method);
  step.target = std::move(target);
  return step;
}
Step Get(std::string target) { return Send("GET", std::move(target)); }
Step Head(std::string target) { return Send("HEAD", std::move(target)); }
Step Post(std::string target) {
  Step step = Send("POST", std::move(target));
  step.options.body = "sent";
  return step;
}

void PrintTo(const Case& one, std::ostream* out) { *out << one.name << ", " << one.section; }

namespace {

std::vector<Case> AllCases() {
  std::vector<Case> all;
  for (std::vector<Case> (*const chapter)() :
       {StoringCases, VaryCases, FreshnessCases, ValidationCases, InvalidationCases, DirectiveCases,
        ExpiryCases}) {
    for (Case& one : chapter()) all.push_back(std::move(one));
  }
  return all;
}

std::unique_ptr<Origin> StartOrigin() {
  absl::StatusOr<std::unique_ptr<Origin>> origin = Origin::Start();
  if (!origin.ok()) coord::testing::Fatal(origin.status().ToString());
  return *std::move(origin);
}

// A whole second, so that dates lose nothing.
constexpr std::int64_t kStart = 1767225600;  // 2026-01-01 00:00:00

class CacheCaseTest : public ::testing::TestWithParam<Case> {
 protected:
  CacheCaseTest()
      : origin_(StartOrigin()),
        elsewhere_(StartOrigin()),
        path_(StrCat("/", GetParam().name)),
        now_(std::make_shared<std::atomic<std::int64_t>>(kStart)) {}

  absl::StatusOr<Session> Open() {
    SessionOptions options{.backend = "memory", .store = GetParam().name.substr(0, 64)};
    options.transport.proxy = "none";
    options.calendar = [now = now_] { return absl::FromUnixSeconds(now->load()); };
    if (GetParam().configure) GetParam().configure(options, origin_->Url(path_));
    return Session::Open(std::move(options));
  }

  std::string Date(std::int64_t seconds, std::string_view form) const {
    const char* const pattern = form == ":rfc850"    ? "%A, %d-%b-%y %H:%M:%S GMT"
                                : form == ":asctime" ? "%a %b %e %H:%M:%S %Y"
                                                     : "%a, %d %b %Y %H:%M:%S GMT";
    return absl::FormatTime(pattern, absl::FromUnixSeconds(seconds), absl::UTCTimeZone());
  }

  // What stands for a placeholder, without its braces; nothing: it is none.
  std::optional<std::string> Meaning(std::string_view name) const {
    if (name == "path") return path_;
    if (name == "base") return origin_->Url("");
    if (name == "elsewhere") return elsewhere_->Url("");
    if (name.substr(0, 3) != "now") return std::nullopt;
    name.remove_prefix(3);
    const std::size_t colon = std::min(name.find(':'), name.size());
    std::int64_t offset = 0;
    if (colon > 0) {
      const auto number = ::coord::internal::ParseInt64(
          name.substr(name[0] == '+' ? 1 : 0, colon - (name[0] == '+' ? 1 : 0)));
      if (!number.has_value()) return std::nullopt;
      offset = *number;
    }
    return Date(now_->load() + offset, name.substr(colon));
  }

  std::string Fill(std::string_view text) const {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      if (text[at] == '{') {
        const std::size_t end = text.find('}', at);
        if (end != std::string_view::npos) {
          if (const auto value = Meaning(text.substr(at + 1, end - at - 1))) {
            out += *value;
            at = end + 1;
            continue;
          }
        }
      }
      out += text[at++];
    }
    return out;
  }

  Origin::Reply Fill(Origin::Reply reply) const {
    for (auto& field : reply.headers) field.second = Fill(field.second);
    return reply;
  }

  std::string PathOf(std::string_view target) const {
    return StrCat(path_, target.substr(0, target.find_first_of("?#")));
  }

  void Prepare(Origin& origin, std::string_view target,
               const std::optional<Origin::Reply>& reply) const {
    origin.On(PathOf(target), reply.has_value()
                                  ? Fill(*reply)
                                  : Origin::Reply{.status = 500, .body = "it must not be asked"});
  }

  void Run(const Session& session, const Step& step) {
    now_->fetch_add(step.after);
    Origin& origin = step.elsewhere ? *elsewhere_ : *origin_;
    const std::string path = PathOf(step.target);
    Prepare(origin, step.target, step.reply);
    std::vector<int> others_before;
    for (const auto& [target, reply] : step.others) {
      Prepare(origin, target, reply);
      others_before.push_back(origin.requests(PathOf(target)));
    }
    const int before = origin.requests(path);
    RequestOptions options = step.options;
    options.headers = {};
    for (const auto& [name, value] : step.options.headers) options.headers.Add(name, Fill(value));

    const absl::StatusOr<Response> response =
        session.Send(step.method, origin.Url(StrCat(path_, step.target)), options);
    ASSERT_OK(response);
    ExpectAnswer(step, *response);

    const int asked = step.reply.has_value() ? 1 : 0;
    if (step.in_background) {
      EXPECT_TRUE(Eventually([&] { return origin.requests(path) == before + 1; }));
      // What the refresh brought is there once it may be served without the origin.
      EXPECT_TRUE(Eventually([&] {
        RequestOptions look = options;
        look.only_if_cached = true;
        const auto found = session.Send(step.method, origin.Url(StrCat(path_, step.target)), look);
        return found.ok() && found->status() == 200 && !found->stale();
      })) << "the refresh changed nothing";
    }
    EXPECT_EQ(origin.requests(path) - before, asked) << "requests at the origin";
    for (std::size_t i = 0; i < step.others.size(); ++i) {
      EXPECT_EQ(origin.requests(PathOf(step.others[i].first)) - others_before[i],
                step.others[i].second.has_value() ? 1 : 0)
          << "requests at the origin for " << step.others[i].first;
    }
    if (asked == 1 && origin.requests(path) > before) {
      ExpectRequest(step, origin.log(path).back());
    }
  }

  void ExpectAnswer(const Step& step, const Response& response) const {
    EXPECT_EQ(response.status(), step.status);
    EXPECT_EQ(response.body(), step.body);
    EXPECT_EQ(response.from_cache(), step.from_cache) << "from_cache";
    EXPECT_EQ(response.revalidated(), step.revalidated) << "revalidated";
    EXPECT_EQ(response.stale(), step.stale) << "stale";
    if (step.stored.has_value()) {
      EXPECT_EQ(response.stored(), *step.stored) << "stored";
    }
    if (step.age.has_value()) {
      EXPECT_EQ(response.age(), absl::Seconds(*step.age));
      EXPECT_EQ(response.header("Age"), StrCat(*step.age));
    }
    for (const auto& [name, value] : step.returns) {
      EXPECT_EQ(response.headers().Get(name).value_or("(none)"), Fill(value)) << name;
    }
    for (const std::string& name : step.returns_no) {
      EXPECT_FALSE(response.headers().Has(name)) << name;
    }
    for (const std::string& text : step.lacks) {
      for (const auto& [name, value] : response.headers()) {
        EXPECT_THAT(value, ::testing::Not(::testing::HasSubstr(text))) << name;
      }
    }
  }

  void ExpectRequest(const Step& step, const Origin::Request& request) const {
    EXPECT_EQ(request.method, step.method);
    for (const auto& [name, value] : step.sees)
      EXPECT_EQ(request.header(name), Fill(value)) << name;
    for (const std::string& name : step.sees_no) EXPECT_EQ(request.header(name), "") << name;
  }

  const std::unique_ptr<Origin> origin_;
  const std::unique_ptr<Origin> elsewhere_;
  const std::string path_;
  const std::shared_ptr<std::atomic<std::int64_t>> now_;
};

TEST_P(CacheCaseTest, Holds) {
  SCOPED_TRACE(GetParam().section);
  const absl::StatusOr<Session> session = Open();
  ASSERT_OK(session);
  int number = 0;
  for (const Step& step : GetParam().steps) {
    SCOPED_TRACE(StrCat("step ", ++number, ": ", step.method, " ", step.target));
    Run(*session, step);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Rfc9111, CacheCaseTest, ::testing::ValuesIn(AllCases()),
                         [](const auto& one) { return one.param.name; });

TEST(CacheCaseTableTest, HasNoNameTwiceAndASectionForEach) {
  std::set<std::string> names;
  for (const Case& one : AllCases()) {
    EXPECT_TRUE(names.insert(one.name).second) << one.name;
    EXPECT_EQ(one.section.substr(0, 4), "RFC ") << one.name;
    EXPECT_FALSE(one.steps.empty()) << one.name;
  }
  EXPECT_GE(names.size(), 150u);
}

}  // namespace
}  // namespace coord::http::rfc
