#include "cache/compression.h"

#include <zstd.h>

#include <fstream>
#include <memory>
#include <random>
#include <string>

#include "coord/internal/strings.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Algorithm = Compression::Algorithm;

constexpr std::size_t kMiB = std::size_t{1} << 20;

// The most memory that this process has held, in bytes; since the last reset where the kernel lets
// a process say so.
std::size_t PeakMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoul(line.substr(6)) * 1024;
  }
  return 0;
}
void ResetPeakMemory() { std::ofstream("/proc/self/clear_refs") << "5"; }

std::string RandomText(std::mt19937_64& random, std::size_t size) {
  std::string text;
  while (text.size() < size) {
    text.append(random() % 20, static_cast<char>('a' + random() % 26));
    text.push_back(static_cast<char>(random()));
  }
  text.resize(size);
  return text;
}

// A gigabyte of one byte; the frame says so only if `declared`.
std::string ZstdBomb(bool declared) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     &ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, 1);
  if (declared) ZSTD_CCtx_setPledgedSrcSize(context.get(), 1024 * kMiB);
  const std::string piece(kMiB, 'x');
  std::string out(kMiB, '\0');
  ZSTD_outBuffer output = {out.data(), out.size(), 0};
  for (int i = 0; i < 1024; ++i) {
    ZSTD_inBuffer input = {piece.data(), piece.size(), 0};
    while (input.pos < input.size) {
      ZSTD_compressStream2(context.get(), &output, &input, ZSTD_e_continue);
    }
  }
  ZSTD_inBuffer none = {nullptr, 0, 0};
  while (ZSTD_compressStream2(context.get(), &output, &none, ZSTD_e_end) != 0) {
  }
  out.resize(output.pos);
  return out;
}

// One literal, a match of nearly a gigabyte with it, five literals to end with.
std::string Lz4Bomb() {
  std::string out("\x1fx\x01\x00", 4);
  out.append(4 * kMiB, '\xff');
  out += std::string("\x00\x50xxxxx", 7);
  return out;
}

TEST(CompressionTest, WhatIsCompressedComesBack) {
  std::mt19937_64 random(3);
  for (const Algorithm algorithm : {Algorithm::kNone, Algorithm::kZstd, Algorithm::kLz4}) {
    for (int i = 0; i < 200; ++i) {
      const std::string text = RandomText(random, random() % 5000);
      const auto compressed = Compress(text, algorithm, 3);
      ASSERT_TRUE(compressed.ok()) << compressed.status();
      const auto again = Decompress(*compressed, algorithm, text.size(), text.size());
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_EQ(*again, text);
    }
  }
}

TEST(CompressionTest, ALevelOutOfRangeIsRefused) {
  for (const int level : {0, -1, 20, 100}) {
    EXPECT_EQ(Compress("text", Algorithm::kZstd, level).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(CompressionTest, AnythingButExactlyTheSizeIsRefused) {
  const std::string text(3000, 'a');
  for (const Algorithm algorithm : {Algorithm::kNone, Algorithm::kZstd, Algorithm::kLz4}) {
    const std::string compressed = *Compress(text, algorithm, 3);
    for (const std::size_t size : {std::size_t{0}, std::size_t{2999}, std::size_t{3001}}) {
      EXPECT_EQ(Decompress(compressed, algorithm, size, kMiB).status().code(),
                absl::StatusCode::kDataLoss);
    }
    EXPECT_EQ(Decompress(compressed, algorithm, 3000, 2999).status().code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST(CompressionTest, TruncationsAndWhatStandsBehindAreRefused) {
  std::mt19937_64 random(4);
  const std::string text = RandomText(random, 2000);
  for (const Algorithm algorithm : {Algorithm::kZstd, Algorithm::kLz4}) {
    const std::string compressed = *Compress(text, algorithm, 3);
    for (std::size_t size = 0; size < compressed.size(); ++size) {
      EXPECT_FALSE(Decompress(compressed.substr(0, size), algorithm, text.size(), kMiB).ok());
    }
    EXPECT_FALSE(Decompress(compressed + "x", algorithm, text.size(), kMiB).ok());
    EXPECT_FALSE(Decompress(compressed + std::string(1, '\0'), algorithm, text.size(), kMiB).ok());
    EXPECT_FALSE(Decompress(compressed + compressed, algorithm, text.size(), kMiB).ok());
    EXPECT_FALSE(Decompress(compressed + compressed, algorithm, 2 * text.size(), kMiB).ok());
  }
}

TEST(CompressionTest, FramesThatAreSkippedAreRefused) {
  // The magic number of a frame to be skipped, its length 4, its content.
  const std::string skipped("\x50\x2a\x4d\x18\x04\x00\x00\x00text", 12);
  const std::string frame = *Compress("text", Algorithm::kZstd, 3);
  EXPECT_FALSE(Decompress(skipped, Algorithm::kZstd, 0, kMiB).ok());
  EXPECT_FALSE(Decompress(skipped + frame, Algorithm::kZstd, 4, kMiB).ok());
  EXPECT_FALSE(Decompress(frame + skipped, Algorithm::kZstd, 4, kMiB).ok());
}

TEST(CompressionTest, ChangedBytesNeverReachBeyondTheSize) {
  std::mt19937_64 random(5);
  const std::string text = RandomText(random, 500);
  for (const Algorithm algorithm : {Algorithm::kZstd, Algorithm::kLz4}) {
    const std::string compressed = *Compress(text, algorithm, 3);
    for (std::size_t at = 0; at < compressed.size(); ++at) {
      for (const int flip : {1, 0x10, 0x80, 0xff}) {
        std::string changed = compressed;
        changed[at] = static_cast<char>(changed[at] ^ flip);
        const auto got = Decompress(changed, algorithm, text.size(), kMiB);
        if (got.ok()) {
          EXPECT_EQ(got->size(), text.size());
        }
      }
    }
  }
}

// Takes a second or two: the bombs are made first.
TEST(CompressionTest, ABombIsRefusedBeforeItHasTakenMemory) {
  const std::string bombs[] = {ZstdBomb(true), ZstdBomb(false), Lz4Bomb()};
  const Algorithm algorithms[] = {Algorithm::kZstd, Algorithm::kZstd, Algorithm::kLz4};
  for (std::size_t i = 0; i < 3; ++i) {
    ResetPeakMemory();
    const std::size_t before = PeakMemory();
    // Whether it tells the truth about its size or not.
    for (const std::size_t size : {1024 * kMiB, kMiB, std::size_t{1000}, std::size_t{0}}) {
      EXPECT_EQ(Decompress(bombs[i], algorithms[i], size, kMiB).status().code(),
                absl::StatusCode::kDataLoss);
    }
    EXPECT_LT(PeakMemory() - before, 8 * kMiB) << i;
  }
}

TEST(CompressionTest, AFewBytesCannotHaveMuchAllocated) {
  const std::string small[] = {*Compress("text", Algorithm::kZstd, 3),
                               *Compress("text", Algorithm::kLz4, 3)};
  ResetPeakMemory();
  const std::size_t before = PeakMemory();
  EXPECT_FALSE(Decompress(small[0], Algorithm::kZstd, 512 * kMiB, 1024 * kMiB).ok());
  EXPECT_FALSE(Decompress(small[1], Algorithm::kLz4, 512 * kMiB, 1024 * kMiB).ok());
  EXPECT_LT(PeakMemory() - before, 8 * kMiB);
}

}  // namespace
}  // namespace coord::internal
