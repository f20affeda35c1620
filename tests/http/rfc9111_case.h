// What the table of RFC 9111's claims is made of.
//
//   Case{"MaxAgeIsFreshUntilItHasPassed", "RFC 9111 5.2.2.1",
//        {Get().Miss({{"Cache-Control", "max-age=60"}}, "one"),
//         Get().After(59).Hit("one"),
//         Get().After(1).Miss({}, "two")}}
//
// In values, {now}, {now+60} and {now-3600} stand for HTTP dates by the test's clock, {path} for
// the path of the case, {base} for the origin's "http://host:port" and {elsewhere} for another's.
// {now+60:rfc850} and {now+60:asctime} are the two old ways to write one.
#ifndef COORD_TESTS_HTTP_RFC9111_CASE_H_
#define COORD_TESTS_HTTP_RFC9111_CASE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/http/expiry.h"
#include "cache/http/session_options.h"
#include "tools/dev/origin.h"

namespace coord::http::rfc {

using Fields = dev::Origin::Fields;

struct Step {
  // ---- The request ----
  std::string method = "GET";
  std::string target = {};  // behind the case's path: "", "?q=1", "/other"
  bool elsewhere = false;   // at the other origin
  std::int64_t after = 0;   // how many seconds the clock moves before it
  RequestOptions options = {};

  // ---- What the origin would say to it; nothing: it must not be asked ----
  std::optional<dev::Origin::Reply> reply = std::nullopt;
  // The same for other paths below the case's, which a redirect leads to.
  std::vector<std::pair<std::string, std::optional<dev::Origin::Reply>>> others = {};
  bool in_background = false;  // it is asked, and nobody waits for it

  // ---- What is expected ----
  int status = 200;
  std::string body = {};
  bool from_cache = false;
  bool revalidated = false;
  bool stale = false;
  std::optional<bool> stored = std::nullopt;
  std::optional<std::int64_t> age = std::nullopt;  // seconds
  Fields sees = {};                                // fields the origin must have got
  std::vector<std::string> sees_no = {};
  Fields returns = {};  // fields of the response, all lines of a name joined
  std::vector<std::string> returns_no = {};
  std::vector<std::string> lacks = {};  // texts that no field's value has in it

  Step& After(std::int64_t seconds) { return after = seconds, *this; }
  Step& Elsewhere() { return elsewhere = true, *this; }
  Step& With(std::string name, std::string value) {
    options.headers.Add(std::move(name), std::move(value));
    return *this;
  }
  Step& Ask(std::string directives) { return With("Cache-Control", std::move(directives)); }
  Step& Refresh() { return options.refresh = true, *this; }
  Step& ForceRefresh() { return options.force_refresh = true, *this; }
  Step& OnlyIfCached() { return options.only_if_cached = true, *this; }
  Step& NoRedirects() { return options.follow_redirects = false, *this; }
  Step& Expire(Expiry expire) { return options.expire = expire, *this; }
  Step& StaleIfError(std::int64_t seconds) {
    return options.stale_if_error = absl::Seconds(seconds), *this;
  }

  // The origin is asked, and what it says is the answer.
  Step& Miss(Fields fields, std::string text, int code = 200);
  // The cache answers alone.
  Step& Hit(std::string text, int code = 200);
  // As Hit, expired.
  Step& StaleHit(std::string text);
  // As StaleHit, and the origin is asked meanwhile and answers so.
  Step& StaleWhile(std::string text, Fields fields, std::string new_text, int code = 200);
  // The origin is asked and says 304.
  Step& Revalidated(Fields fields, std::string text);
  // The origin is asked, fails with `code`, and the cache answers in its place.
  Step& StaleOnError(int code, std::string text);
  // Nobody may answer.
  Step& GatewayTimeout();

  Step& Status(int code) { return status = code, *this; }
  Step& Stored(bool is) { return stored = is, *this; }
  Step& Age(std::int64_t seconds) { return age = seconds, *this; }
  Step& Sees(std::string name, std::string value) {
    sees.emplace_back(std::move(name), std::move(value));
    return *this;
  }
  Step& SeesNo(std::string name) { return sees_no.push_back(std::move(name)), *this; }
  Step& SeesNoCondition() { return SeesNo("If-None-Match").SeesNo("If-Modified-Since"); }
  Step& Returns(std::string name, std::string value) {
    returns.emplace_back(std::move(name), std::move(value));
    return *this;
  }
  Step& ReturnsNo(std::string name) { return returns_no.push_back(std::move(name)), *this; }
  Step& Lacks(std::string text) { return lacks.push_back(std::move(text)), *this; }
  Step& Also(std::string where, Fields fields, std::string text, int code = 200);
  // As Also, and that is where it ends.
  Step& Leads(std::string where, Fields fields, std::string text) {
    status = 200;
    body = text;
    return Also(std::move(where), std::move(fields), std::move(text));
  }
  Step& AlsoNotAsked(std::string where) {
    others.emplace_back(std::move(where), std::nullopt);
    return *this;
  }
};

Step Get(std::string target = {});
Step Head(std::string target = {});
Step Post(std::string target = {});
Step Send(std::string method, std::string target = {});

struct Case {
  std::string name;     // a claim
  std::string section;  // "RFC 9111 4.2.1"
  std::vector<Step> steps;
  // Beyond the defaults; `url` is where the case's path is.
  std::function<void(SessionOptions&, const std::string& url)> configure = {};
};

std::vector<Case> StoringCases();       // RFC 9111 section 3
std::vector<Case> VaryCases();          // 4.1
std::vector<Case> FreshnessCases();     // 4.2, 5.1, 5.3
std::vector<Case> ValidationCases();    // 4.3
std::vector<Case> InvalidationCases();  // 4.4
std::vector<Case> DirectiveCases();     // 5.2, 5.4, RFC 5861, RFC 8246
std::vector<Case> ExpiryCases();        // who says how long; redirects, ranges

}  // namespace coord::http::rfc

#endif  // COORD_TESTS_HTTP_RFC9111_CASE_H_
