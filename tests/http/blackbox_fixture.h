// What the tests share that look at a session from outside: an origin, a clock, and what went
// wrong.
#ifndef COORD_TESTS_HTTP_BLACKBOX_FIXTURE_H_
#define COORD_TESTS_HTTP_BLACKBOX_FIXTURE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/http/session.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tools/dev/origin.h"

namespace coord::http {

template <typename T>
T OrEnd(absl::StatusOr<T> made) {
  if (!made.ok()) coord::testing::Fatal(made.status().ToString());
  return *std::move(made);
}

// What on_problem was told. Thread-safe.
class Problems {
 public:
  void Add(const absl::Status& status) {
    coord::internal::MutexLock lock(mutex_);
    all_.push_back(status);
  }
  std::vector<absl::Status> all() const {
    coord::internal::MutexLock lock(mutex_);
    return all_;
  }

 private:
  mutable coord::internal::Mutex mutex_;
  std::vector<absl::Status> all_;
};

inline dev::Origin::Reply Answer(int status, dev::Origin::Fields headers, std::string body) {
  return {.status = status, .headers = std::move(headers), .body = std::move(body)};
}
// Fresh for a minute.
inline dev::Origin::Reply Fresh(std::string body) {
  return Answer(200, {{"Cache-Control", "max-age=60"}, {"ETag", "\"a\""}}, std::move(body));
}
inline dev::Origin::Reply RedirectTo(std::string where, int status = 302) {
  return Answer(status, {{"Location", std::move(where)}}, "moved");
}

class BlackboxTest : public ::testing::Test {
 protected:
  BlackboxTest() : origin_(OrEnd(dev::Origin::Start())) {}

  // Over memory, by the test's clock.
  SessionOptions Options() const {
    SessionOptions options;
    options.backend = "memory";
    options.store = "test";
    options.transport.proxy = "none";
    options.calendar = [now = now_] { return absl::FromUnixSeconds(now->load()); };
    options.on_problem = [problems = problems_](const absl::Status& status) {
      problems->Add(status);
    };
    return options;
  }
  // For Session::Over.
  SessionOptions OverOptions() const { return OptionsAt({}); }
  SessionOptions OptionsAt(std::string backend) const {
    SessionOptions options = Options();
    options.backend = std::move(backend);
    return options;
  }
  static Session Open(SessionOptions options) { return OrEnd(Session::Open(std::move(options))); }
  Session Open() const { return Open(Options()); }

  void Advance(std::int64_t seconds) { now_->fetch_add(seconds); }
  std::string Url(std::string_view target) const { return origin_->Url(target); }

  const std::unique_ptr<dev::Origin> origin_;
  const std::shared_ptr<std::atomic<std::int64_t>> now_ =
      std::make_shared<std::atomic<std::int64_t>>(absl::ToUnixSeconds(absl::Now()));
  const std::shared_ptr<Problems> problems_ = std::make_shared<Problems>();
};

}  // namespace coord::http

#endif  // COORD_TESTS_HTTP_BLACKBOX_FIXTURE_H_
