#include "cache/compression.h"

#include <lz4.h>
#include <zstd.h>

#include <utility>

#include "absl/status/status.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

absl::Status DataLoss(std::string_view why) {
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat("compressed value: ", why));
}

absl::StatusOr<std::string> CompressZstd(std::string_view bytes, int level) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), level);
  if (ZSTD_isError(size) != 0) {
    return MakeStatus(absl::StatusCode::kInternal, StrCat("zstd: ", ZSTD_getErrorName(size)));
  }
  out.resize(size);
  return out;
}

absl::StatusOr<std::string> CompressLz4(std::string_view bytes) {
  if (bytes.size() > LZ4_MAX_INPUT_SIZE) {
    return InvalidArgument(
        StrCat("lz4 takes at most ", LZ4_MAX_INPUT_SIZE, " bytes, not ", bytes.size()));
  }
  const int bound = LZ4_compressBound(static_cast<int>(bytes.size()));
  std::string out(static_cast<std::size_t>(bound), '\0');
  const int size =
      LZ4_compress_default(bytes.data(), out.data(), static_cast<int>(bytes.size()), bound);
  if (size <= 0) return MakeStatus(absl::StatusCode::kInternal, "lz4 failed");
  out.resize(static_cast<std::size_t>(size));
  return out;
}

// The most that `compressed` bytes can become, whatever they say: a frame of zstd is made of blocks
// of at least 4 bytes that hold at most 128 KiB, and no byte of lz4 stands for more than 255. So
// that a few bytes cannot have much allocated for them.
std::size_t MostFrom(std::size_t compressed, Compression::Algorithm algorithm) {
  if (algorithm == Compression::Algorithm::kLz4) return (compressed + 1) * 255;
  return (compressed / 4 + 1) * (std::size_t{128} << 10);
}

absl::StatusOr<std::string> DecompressZstd(std::string_view bytes, std::size_t size) {
  // Neither frames that are skipped nor those of zstd's youth.
  constexpr std::string_view kMagic = "\x28\xb5\x2f\xfd";
  if (bytes.substr(0, kMagic.size()) != kMagic) return DataLoss("no frame of zstd");
  // Looks at the blocks' headers only.
  const std::size_t frame = ZSTD_findFrameCompressedSize(bytes.data(), bytes.size());
  if (ZSTD_isError(frame) != 0) return DataLoss("the frame is not whole");
  if (frame != bytes.size()) return DataLoss("there is more behind the frame");
  const unsigned long long declared = ZSTD_getFrameContentSize(bytes.data(), bytes.size());
  if (declared != ZSTD_CONTENTSIZE_UNKNOWN && declared != size) {
    return DataLoss("the frame holds another number of bytes than was said");
  }
  // In one go, so that nothing is allocated for the window, and never more than `size`.
  std::string out(size, '\0');
  const std::size_t inflated = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(inflated) != 0) return DataLoss(ZSTD_getErrorName(inflated));
  if (inflated != size) return DataLoss("it inflates to fewer bytes than was said");
  return out;
}

absl::StatusOr<std::string> DecompressLz4(std::string_view bytes, std::size_t size) {
  // lz4 counts in int.
  if (bytes.empty() || bytes.size() > LZ4_MAX_INPUT_SIZE || size > LZ4_MAX_INPUT_SIZE) {
    return DataLoss("no block of lz4");
  }
  std::string out(size, '\0');
  const int inflated = LZ4_decompress_safe(bytes.data(), out.data(), static_cast<int>(bytes.size()),
                                           static_cast<int>(size));
  if (inflated < 0) return DataLoss("the block is not whole");
  if (static_cast<std::size_t>(inflated) != size) {
    return DataLoss("it inflates to fewer bytes than was said");
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> Compress(std::string_view bytes, Compression::Algorithm algorithm,
                                     int level) {
  switch (algorithm) {
    case Compression::Algorithm::kNone:
      return std::string(bytes);
    case Compression::Algorithm::kZstd:
      if (level < 1 || level > 19) {
        return InvalidArgument(StrCat("the level of zstd is ", level, "; it must be 1 to 19"));
      }
      return CompressZstd(bytes, level);
    case Compression::Algorithm::kLz4:
      return CompressLz4(bytes);
  }
  return InvalidArgument("unknown compression algorithm");
}

absl::StatusOr<std::string> Decompress(std::string_view bytes, Compression::Algorithm algorithm,
                                       std::size_t size, std::size_t max_bytes) {
  if (size > max_bytes) {
    return DataLoss(StrCat("it inflates to ", size, " bytes; at most ", max_bytes, " are taken"));
  }
  if (algorithm == Compression::Algorithm::kNone) {
    if (bytes.size() != size) return DataLoss("it has another number of bytes than was said");
    return std::string(bytes);
  }
  if (size > MostFrom(bytes.size(), algorithm)) {
    return DataLoss("it cannot inflate to as many bytes as was said");
  }
  switch (algorithm) {
    case Compression::Algorithm::kNone:
      break;
    case Compression::Algorithm::kZstd:
      return DecompressZstd(bytes, size);
    case Compression::Algorithm::kLz4:
      return DecompressLz4(bytes, size);
  }
  return DataLoss("unknown algorithm");
}

}  // namespace coord::internal
