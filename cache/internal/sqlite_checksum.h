// What tells a damaged row from a sound one: SQLite itself has no checksum over its pages.
#ifndef COORD_CACHE_INTERNAL_SQLITE_CHECKSUM_H_
#define COORD_CACHE_INTERNAL_SQLITE_CHECKSUM_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace coord::internal {

// 64 bits over words and bytes, against accidents, not against people. Each step is one-to-one in
// the word as in the state before, so a change within one word never goes unseen. Part of the
// file's format: the same on every machine and in every version.
class Checksum {
 public:
  Checksum& Add(std::uint64_t word) {
    state_ = std::rotl(state_ ^ (word * 0x9e3779b97f4a7c15u), 29) * 0xd6e8feb86659fd93u + 1;
    return *this;
  }
  Checksum& Add(std::string_view bytes) {
    Add(static_cast<std::uint64_t>(bytes.size()));
    for (std::size_t at = 0; at < bytes.size(); at += 8) Add(Word(bytes.substr(at, 8)));
    return *this;
  }
  std::int64_t value() const { return static_cast<std::int64_t>(state_ ^ (state_ >> 32)); }

 private:
  // The lowest byte first, whatever the machine does; compilers make one load of it.
  static std::uint64_t Word(std::string_view bytes) {
    std::uint64_t word = 0;
    if (bytes.size() == 8) {
      for (std::size_t i = 0; i < 8; ++i) word |= Byte(bytes[i]) << (8 * i);
      return word;
    }
    for (std::size_t i = 0; i < bytes.size(); ++i) word |= Byte(bytes[i]) << (8 * i);
    return word;
  }
  static std::uint64_t Byte(char c) { return static_cast<unsigned char>(c); }

  std::uint64_t state_ = 0x243f6a8885a308d3u;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SQLITE_CHECKSUM_H_
