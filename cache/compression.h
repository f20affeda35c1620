// Making large values smaller.
#ifndef COORD_CACHE_COMPRESSION_H_
#define COORD_CACHE_COMPRESSION_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace coord {

struct Compression {
  enum class Algorithm { kNone, kZstd, kLz4 } algorithm = Algorithm::kNone;
  // Values below this are left alone, and those that would not become smaller by at least an
  // eighth.
  std::size_t threshold = 1024;
  // Of zstd, 1 to 19; lz4 has none.
  int level = 3;
};

namespace internal {

// One frame of zstd, with its content's size, or one block of lz4. kInvalidArgument: a level out of
// range, or more bytes than the algorithm takes.
absl::StatusOr<std::string> Compress(std::string_view bytes, Compression::Algorithm algorithm,
                                     int level);
// kDataLoss when they are not whole, when more stands behind them, and when they inflate to
// anything else than exactly `size` bytes, which is at most `max_bytes`. Allocates no more than
// `size`, and that only when so few bytes can become so many.
absl::StatusOr<std::string> Decompress(std::string_view bytes, Compression::Algorithm algorithm,
                                       std::size_t size, std::size_t max_bytes);

}  // namespace internal
}  // namespace coord

#endif  // COORD_CACHE_COMPRESSION_H_
