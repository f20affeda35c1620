#include "cache/internal/envelope.h"

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "coord/internal/limits.h"
#include "coord/internal/strings.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Algorithm = Compression::Algorithm;

constexpr std::size_t kMiB = std::size_t{1} << 20;

const Signer& TheSigner() {
  static const Signer* const signer = new Signer({SigningKey{"2026-11", "0123456789abcdef"}});
  return *signer;
}

std::string Text(std::mt19937_64& random, std::size_t most) {
  std::string text(random() % (most + 1), '\0');
  for (char& c : text) c = static_cast<char>(random() % 4 == 0 ? random() : 'a');
  return text;
}

absl::Duration Length(std::mt19937_64& random) {
  if (random() % 2 == 0) return absl::ZeroDuration();
  const auto most = static_cast<std::uint64_t>(absl::ToInt64Milliseconds(kMaxDataTtl));
  return absl::Milliseconds(static_cast<std::int64_t>((random() >> (random() % 60)) % (most + 1)));
}

EnvelopeFields Fields(std::mt19937_64& random) {
  EnvelopeFields fields;
  fields.null = random() % 8 == 0;
  fields.stale_for = Length(random);
  fields.cost = Length(random);
  fields.ttl = Length(random);
  if (random() % 2 == 0) {
    for (std::size_t i = random() % (kMaxTags + 1); i > 0; --i) {
      fields.tags.emplace_back(StrCat(i, ":", Text(random, kMaxTagBytes - 4)),
                               Text(random, kMaxGenerationBytes));
    }
  }
  return fields;
}

std::string Sealed(std::string_view payload, const EnvelopeFields& fields = {},
                   const SealOptions& options = {}) {
  auto sealed = Seal("key", payload, fields, options);
  EXPECT_TRUE(sealed.ok()) << sealed.status();
  return sealed.ok() ? *sealed : std::string();
}

absl::StatusCode OpenCode(std::string stored, const OpenOptions& options = {}) {
  return Open("key", std::move(stored), options).status().code();
}

EnvelopeFields AllFields() {
  return {.stale_for = absl::Seconds(30),
          .cost = absl::Milliseconds(250),
          .ttl = absl::Minutes(5),
          .tags = {{"users", "g1"}, {"user:7", ""}}};
}

TEST(EnvelopeTest, WhatNeedsNothingSaidIsStoredAsItIs) {
  for (const std::string& payload : {std::string(), std::string("{}"), std::string("\xc0\0", 2)}) {
    EXPECT_EQ(Sealed(payload), payload);
    EXPECT_EQ(Open("key", payload, {})->payload, payload);
    EXPECT_EQ(Open("key", payload, {})->fields, EnvelopeFields());
  }
}

TEST(EnvelopeTest, APayloadThatBeginsAsAnEnvelopeDoesIsWrapped) {
  const std::string payload("\0\1\0", 3);
  EXPECT_EQ(Sealed(payload), std::string("\0\1\0\0\1\0", 6));
  EXPECT_EQ(Open("key", Sealed(payload), {})->payload, payload);
}

TEST(EnvelopeTest, TheFormatStaysAsItIs) {
  EXPECT_EQ(Sealed("", {.null = true}), std::string("\0\1\1", 3));
  EXPECT_EQ(Sealed("text", AllFields()), std::string("\0\1\x3c"
                                                     "\xb0\xea\x01"
                                                     "\xfa\x01"
                                                     "\xe0\xa7\x12"
                                                     "\x02\x05users\x02g1\x06user:7\x00"
                                                     "text",
                                                     3 + 3 + 2 + 3 + 18 + 4));
}

TEST(EnvelopeTest, WhatIsSealedOpensToTheSame) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 3000; ++i) {
    const EnvelopeFields fields = Fields(random);
    const std::string payload = fields.null ? "" : Text(random, 3000);
    SealOptions options;
    options.compression.algorithm = static_cast<Algorithm>(random() % 3);
    options.compression.threshold = random() % 2000;
    if (random() % 2 == 0) options.signer = &TheSigner();
    const std::string sealed = Sealed(payload, fields, options);
    const auto opened = Open("key", sealed, {.signer = options.signer});
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->fields, fields);
    EXPECT_EQ(opened->payload, payload);
  }
}

TEST(EnvelopeTest, TimesAreRoundedUpSoThatAMeasuredOneIsNotZero) {
  const auto opened = Open("key", Sealed("x", {.cost = absl::Nanoseconds(1)}), {});
  EXPECT_EQ(opened->fields.cost, absl::Milliseconds(1));
}

TEST(EnvelopeTest, ALargePayloadIsCompressedOnlyWhereThatHelps) {
  SealOptions options;
  options.compression.threshold = 100;
  std::mt19937_64 random(7);
  std::string noise(1000, '\1');
  for (char& c : noise) c = static_cast<char>(random() | 1);
  for (const Algorithm algorithm : {Algorithm::kZstd, Algorithm::kLz4}) {
    options.compression.algorithm = algorithm;
    EXPECT_LT(Sealed(std::string(1000, 'a'), {}, options).size(), 100U);
    EXPECT_EQ(Sealed(std::string(99, 'a'), {}, options), std::string(99, 'a'));
    EXPECT_EQ(Sealed(noise, {}, options), noise);
  }
}

TEST(EnvelopeTest, FieldsThatBreakTheRulesAreNotSealed) {
  std::vector<EnvelopeFields> bad(9);
  bad[0].stale_for = -absl::Milliseconds(1);
  bad[1].cost = absl::InfiniteDuration();
  bad[2].ttl = kMaxDataTtl + absl::Milliseconds(1);
  bad[3].tags = {{"", "g"}};
  bad[4].tags = {{std::string(kMaxTagBytes + 1, 't'), "g"}};
  bad[5].tags = {{"t", std::string(kMaxGenerationBytes + 1, 'g')}};
  bad[6].tags = {{"t", "g"}, {"t", "h"}};
  for (std::size_t i = 0; i <= kMaxTags; ++i) bad[7].tags.emplace_back(StrCat(i), "g");
  bad[8].null = true;
  for (std::size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(Seal("key", "payload", bad[i], {}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << i;
  }
}

TEST(EnvelopeTest, WhatSealWouldNotHaveWrittenIsRefused) {
  const std::string zero(1, '\0');
  const auto stored = [](std::string_view flags_and_rest) {
    return StrCat(std::string_view("\0\1", 2), flags_and_rest);
  };
  const std::string bad[] = {
      zero,                                                    // no version
      zero + "\1",                                             // no flags
      zero + "\2" + zero,                                      // another version
      stored("\x80"),                                          // an unknown flag
      stored("\x01x"),                                         // a null with a payload
      stored("\x03\x01\x01x"),                                 // a null that is compressed
      stored("\x40x"),                                         // signed, and no signer
      stored("\x04"),                                          // no number
      stored("\x04\x80"),                                      // half a number
      stored(std::string("\x04\x00", 2)),                      // zero is not written
      stored(std::string("\x04\x81\x00", 3)),                  // longer than need be
      stored("\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),  // too large
      stored("\x04\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
      stored("\x08\xff\xff\xff\xff\xff\x7f"),      // more than ten years
      stored(std::string("\x20\x00", 2)),          // no tags
      stored("\x20\x41"),                          // 65
      stored("\x20\x01"),                          // tag missing
      stored(std::string("\x20\x01\x00\x00", 4)),  // an empty one
      stored("\x20\x01\x02t"),                     // half of it
      stored("\x20\x01\x01t"),                     // no generation
      stored("\x20\x01\x01t\x21ggggggggggggggggggggggggggggggggg"),
      stored("\x20\x02\x01t\x01g\x01t\x01h"),  // a tag twice
      stored("\x02"),                          // no algorithm
      stored("\x02\x03\x01x"),                 // an unknown one
      stored(std::string("\x02\x00\x01x", 4)),
      stored("\x02\x01"),                       // no size
      stored("\x02\x01\x05hello"),              // no frame
      stored("\x02\x02\xff\xff\xff\xff\x7fx"),  // 32 GiB
  };
  for (const std::string& text : bad) {
    EXPECT_EQ(OpenCode(text), absl::StatusCode::kDataLoss) << Quoted(text);
  }
}

TEST(EnvelopeTest, WhatIsLargerThanMayBeIsRefused) {
  EXPECT_EQ(OpenCode(std::string(101, 'x'), {.max_bytes = 100}), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenCode(std::string(100, 'x'), {.max_bytes = 100}), absl::StatusCode::kOk);
  const std::string small = Sealed(
      std::string(kMiB, 'x'), {}, {.compression = {.algorithm = Algorithm::kZstd, .threshold = 1}});
  ASSERT_LT(small.size(), 1000U);
  EXPECT_EQ(OpenCode(small, {.max_bytes = kMiB}), absl::StatusCode::kOk);
  EXPECT_EQ(OpenCode(small, {.max_bytes = kMiB - 1}), absl::StatusCode::kDataLoss);
}

TEST(EnvelopeTest, NoTruncationOrFlippedByteCrashesAndNoneOfASignedOneOpens) {
  const std::string payload(300, 'x');
  for (const Algorithm algorithm : {Algorithm::kNone, Algorithm::kZstd, Algorithm::kLz4}) {
    for (const Signer* const signer : {static_cast<const Signer*>(nullptr), &TheSigner()}) {
      const std::string sealed =
          Sealed(payload, AllFields(),
                 {.compression = {.algorithm = algorithm, .threshold = 1}, .signer = signer});
      const OpenOptions options = {.max_bytes = kMiB, .signer = signer};
      for (std::size_t at = 0; at < sealed.size(); ++at) {
        const auto cut = Open("key", sealed.substr(0, at), options);
        if (signer != nullptr) {
          EXPECT_EQ(cut.status().code(), absl::StatusCode::kDataLoss);
        }
        for (int flip = 1; flip < 256; ++flip) {
          std::string changed = sealed;
          changed[at] = static_cast<char>(changed[at] ^ flip);
          const auto opened = Open("key", changed, options);
          if (signer != nullptr) {
            ASSERT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
          } else if (opened.ok()) {
            ASSERT_LE(opened->payload.size(), kMiB);
          } else {
            ASSERT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
          }
        }
      }
    }
  }
}

TEST(EnvelopeTest, WithASignerEverythingIsSignedAndWhatIsNotIsRefused) {
  const SealOptions sign = {.signer = &TheSigner()};
  const OpenOptions verify = {.signer = &TheSigner()};
  const std::string sealed = Sealed("plain", {}, sign);
  EXPECT_EQ(Open("key", sealed, verify)->payload, "plain");
  EXPECT_EQ(Open("other", sealed, verify).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenCode(sealed), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenCode("plain", verify), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenCode("", verify), absl::StatusCode::kDataLoss);
  EXPECT_EQ(OpenCode(Sealed("text", AllFields()), verify), absl::StatusCode::kDataLoss);
  // Signed by the right key, but something that Seal does not sign.
  std::string bare = "plain";
  ASSERT_TRUE(TheSigner().Sign("key", bare).ok());
  EXPECT_EQ(OpenCode(bare, verify), absl::StatusCode::kDataLoss);
  std::string unflagged("\0\1\0plain", 8);
  ASSERT_TRUE(TheSigner().Sign("key", unflagged).ok());
  EXPECT_EQ(OpenCode(unflagged, verify), absl::StatusCode::kDataLoss);
}

TEST(EnvelopeTest, ASignerThatCannotSignIsAnError) {
  const Signer none({});
  EXPECT_EQ(Seal("key", "text", {}, {.signer = &none}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace coord::internal
