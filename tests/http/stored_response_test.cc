#include "cache/http/internal/stored_response.h"

#include <random>
#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::http::internal {
namespace {

using coord::testing::IsOkAndHolds;
using coord::testing::StatusIs;

class Maker {
 public:
  explicit Maker(unsigned seed) : engine_(seed) {}

  std::size_t Below(std::size_t n) { return engine_() % n; }

  std::string Text(std::size_t most) {
    std::string text(Below(most + 1), '\0');
    for (char& c : text) c = static_cast<char>(engine_());
    return text;
  }

  absl::Time Time() {
    switch (Below(6)) {
      case 0:
        return absl::InfinitePast();
      case 1:
        return absl::InfiniteFuture();
      case 2:
        return absl::FromUnixMillis(-static_cast<std::int64_t>(engine_()));
      default:
        return absl::FromUnixMillis(std::int64_t{400} * engine_());
    }
  }

  StoredResponse Response() {
    StoredResponse response;
    response.method = Text(8);
    response.url = Text(200);
    response.status = static_cast<int>(Below(1000));
    for (std::size_t i = Below(6); i > 0; --i) response.headers.Add(Text(20), Text(140));
    response.created = Time();
    response.received = Time();
    response.initial_age = absl::Milliseconds(engine_());
    response.expires = Time();
    response.by_caller = Below(2) == 0;
    for (std::size_t i = Below(4); i > 0; --i) response.selecting.emplace_back(Text(20), Text(40));
    response.series = Text(8);
    response.body = Text(300);
    return response;
  }

 private:
  std::mt19937 engine_;
};

// What decodes is what would be written.
void ExpectTrueOrLost(std::string_view bytes, std::string_view how) {
  const absl::StatusOr<StoredResponse> decoded = DecodeStored(bytes);
  if (decoded.ok()) {
    EXPECT_EQ(EncodeStored(*decoded), bytes) << how;
  } else {
    EXPECT_THAT(decoded, StatusIs(absl::StatusCode::kDataLoss)) << how;
  }
}

TEST(StoredResponseTest, ComesBackAsItWasWhateverIsInIt) {
  Maker maker(1);
  for (int i = 0; i < 3000; ++i) {
    const StoredResponse response = maker.Response();
    const std::string bytes = EncodeStored(response);
    EXPECT_EQ(bytes.front(), '\x01');
    ASSERT_THAT(DecodeStored(bytes), IsOkAndHolds(response)) << "round " << i;
  }
}

TEST(StoredResponseTest, TruncatedItIsLostOrIsWhatWouldBeWritten) {
  Maker maker(2);
  for (int i = 0; i < 40; ++i) {
    const std::string bytes = EncodeStored(maker.Response());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      ExpectTrueOrLost(std::string_view(bytes).substr(0, size), "truncated");
    }
  }
}

TEST(StoredResponseTest, WithAByteChangedItIsLostOrIsWhatWouldBeWritten) {
  Maker maker(3);
  for (int i = 0; i < 10; ++i) {
    std::string bytes = EncodeStored(maker.Response());
    for (char& byte : bytes) {
      const char before = byte;
      for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
        byte = static_cast<char>(before ^ change);
        ExpectTrueOrLost(bytes, "changed");
      }
      byte = before;
    }
  }
}

TEST(StoredResponseTest, LengthsThatNothingStandsBehindAreLostBeforeAnythingIsAllocated) {
  const std::string huge = "\xff\xff\xff\xff\xff\xff\xff\x7f";
  const std::string start(std::string_view("\x01\x01\x00", 3));
  EXPECT_THAT(DecodeStored(start + huge), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeStored(start + "\x03GET\x01u\x01" + huge + "abcd"),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(StoredResponseTest, TimesAreKeptToTheMillisecondAndWithinReason) {
  StoredResponse response;
  response.created = absl::FromUnixMicros(1'700'000'000'123'999);
  response.received = absl::FromUnixSeconds(std::int64_t{1} << 60);
  response.initial_age = absl::InfiniteDuration();
  response.expires = absl::FromUnixMicros(-1);
  const absl::StatusOr<StoredResponse> back = DecodeStored(EncodeStored(response));
  ASSERT_OK(back);
  EXPECT_EQ(back->created, absl::FromUnixMillis(1'700'000'000'123));
  EXPECT_GT(back->received, absl::FromUnixSeconds(std::int64_t{1} << 41));
  EXPECT_GT(back->initial_age, absl::Hours(24 * 365 * 1000));
  EXPECT_EQ(back->expires, absl::FromUnixMillis(-1));
  EXPECT_EQ(EncodeStored(*back), EncodeStored(response));
}

TEST(StoredResponseTest, OfAnotherVersionItIsLost) {
  std::string bytes = EncodeStored(StoredResponse{});
  bytes[1] = 2;
  EXPECT_THAT(DecodeStored(bytes), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeStored("{\"json\":1}"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeStored(""), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace coord::http::internal
