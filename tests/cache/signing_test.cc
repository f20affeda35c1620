#include "cache/signing.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::FromAbsl;
using testing::HasSubstr;
using testing::Not;

const std::string kSecret = "0123456789abcdef";
const std::string kOther = "fedcba9876543210";

std::string Signed(const Signer& signer, std::string_view key, std::string text) {
  EXPECT_TRUE(signer.Sign(key, text).ok());
  return text;
}

absl::StatusCode Verified(const Signer& signer, std::string_view key, std::string text) {
  return signer.Verify(key, text).code();
}

TEST(SignerTest, WhatIsSignedVerifiesAndComesBack) {
  const Signer signer({{"a", kSecret}});
  for (const std::string& text : {std::string(), std::string("text"), std::string(100'000, '\0')}) {
    std::string signed_text = Signed(signer, "key", text);
    EXPECT_LE(signed_text.size(), text.size() + Signer::kMaxSize);
    ASSERT_TRUE(signer.Verify("key", signed_text).ok());
    EXPECT_EQ(signed_text, text);
  }
}

TEST(SignerTest, TheCodeIsTheOneThatOthersCompute) {
  const Signer signer({{"id", kSecret}});
  const std::string got = Signed(signer, "key", "text");
  const std::string input("\x03\0\0\0\0\0\0\0key\x04\0\0\0\0\0\0\0text\x02\0\0\0\0\0\0\0id", 33);
  unsigned char code[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), kSecret.data(), static_cast<int>(kSecret.size()),
       reinterpret_cast<const unsigned char*>(input.data()), input.size(), code, &size);
  ASSERT_EQ(size, 32U);
  EXPECT_EQ(got, "textid" + std::string(reinterpret_cast<const char*>(code), size) + "\x02");
}

TEST(SignerTest, AnyChangeIsRefusedAndLeavesTheTextAlone) {
  const Signer signer({{"id", kSecret}});
  const std::string signed_text = Signed(signer, "key", "some text");
  for (std::size_t at = 0; at < signed_text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = signed_text;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      const std::string before = changed;
      EXPECT_EQ(signer.Verify("key", changed).code(), absl::StatusCode::kDataLoss);
      EXPECT_EQ(changed, before);
    }
    EXPECT_EQ(Verified(signer, "key", signed_text.substr(0, at)), absl::StatusCode::kDataLoss);
    EXPECT_EQ(Verified(signer, "key", signed_text.substr(at + 1)), absl::StatusCode::kDataLoss);
  }
}

TEST(SignerTest, ATextCannotBeMovedToAnotherKeyNorItsBoundaryShifted) {
  const Signer signer({{"id", kSecret}});
  EXPECT_EQ(Verified(signer, "key2", Signed(signer, "key1", "text")), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Verified(signer, "keyt", Signed(signer, "key", "text").substr(1)),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(Verified(signer, "ke", "y" + Signed(signer, "key", "text")),
            absl::StatusCode::kDataLoss);
}

TEST(SignerTest, OldKeysVerifyAndTheFirstSigns) {
  const Signer before({{"1", kSecret}});
  const Signer between({{"2", kOther}, {"1", kSecret}});
  const Signer after({{"2", kOther}});
  EXPECT_EQ(Verified(between, "key", Signed(before, "key", "text")), absl::StatusCode::kOk);
  EXPECT_EQ(Verified(after, "key", Signed(between, "key", "text")), absl::StatusCode::kOk);
  EXPECT_EQ(Verified(after, "key", Signed(before, "key", "text")), absl::StatusCode::kDataLoss);
}

TEST(SignerTest, AnIdBelongsToTheCodeEvenWhereSecretsAreTheSame) {
  const Signer signer({{"1", kSecret}, {"2", kSecret}});
  std::string text = Signed(signer, "key", "text");
  text[4] = '2';
  EXPECT_EQ(Verified(signer, "key", text), absl::StatusCode::kDataLoss);
}

TEST(SignerTest, KeysThatBreakTheRulesAreRefusedWithoutSayingASecret) {
  const std::vector<std::vector<SigningKey>> bad = {
      {},
      {{"", kSecret}},
      {{std::string(33, 'x'), kSecret}},
      {{"a", kSecret.substr(1)}},
      {{"a", kSecret}, {"a", kOther}},
  };
  for (const auto& keys : bad) {
    const Signer signer(keys);
    EXPECT_EQ(signer.Check().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(FromAbsl(signer.Check().message()), Not(HasSubstr(kSecret.substr(1))));
    std::string text = "text";
    EXPECT_EQ(signer.Sign("key", text).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(text, "text");
    EXPECT_EQ(signer.Verify("key", text).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(Signer({{std::string(32, 'x'), kSecret}}).Check().ok());
}

TEST(SignerTest, ThreadsShareOne) {
  const Signer signer({{"id", kSecret}});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&signer, i] {
      for (int round = 0; round < 500; ++round) {
        std::string text = internal::StrCat(i, ":", round);
        ASSERT_TRUE(signer.Sign("key", text).ok());
        ASSERT_TRUE(signer.Verify("key", text).ok());
        ASSERT_EQ(text, internal::StrCat(i, ":", round));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace coord
