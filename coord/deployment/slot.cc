#include "coord/deployment/slot.h"

#include <array>
#include <cstddef>

namespace coord::internal {
namespace {

using Table = std::array<std::uint16_t, 256>;

// tables[n][b]: the remainder of byte b with n zero bytes behind it. Four tables take four bytes a
// step: with one, each byte waits for the look-up of the byte before.
constexpr std::array<Table, 4> MakeTables() {
  std::array<Table, 4> tables{};
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = static_cast<std::uint32_t>(byte) << 8;
    for (int bit = 0; bit < 8; ++bit) {
      crc = ((crc << 1) ^ ((crc & 0x8000) != 0 ? 0x1021u : 0u)) & 0xffff;
    }
    tables[0][byte] = static_cast<std::uint16_t>(crc);
  }
  for (std::size_t zeros = 1; zeros < 4; ++zeros) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t crc = tables[zeros - 1][byte];
      tables[zeros][byte] = static_cast<std::uint16_t>(((crc << 8) & 0xffff) ^ tables[0][crc >> 8]);
    }
  }
  return tables;
}

constexpr std::array<Table, 4> kTables = MakeTables();

}  // namespace

std::string_view HashTag(std::string_view key) {
  const std::size_t open = key.find('{');
  if (open == key.npos) return key;
  const std::size_t close = key.find('}', open + 1);
  if (close == key.npos || close == open + 1) return key;
  return key.substr(open + 1, close - open - 1);
}

std::uint16_t Crc16(std::string_view bytes) {
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
  std::uint32_t crc = 0;
  for (; left >= 4; left -= 4, at += 4) {
    crc = static_cast<std::uint32_t>(kTables[3][at[0] ^ (crc >> 8)] ^
                                     kTables[2][at[1] ^ (crc & 0xff)] ^ kTables[1][at[2]] ^
                                     kTables[0][at[3]]);
  }
  for (; left > 0; --left, ++at) {
    crc = ((crc << 8) & 0xffff) ^ kTables[0][(crc >> 8) ^ *at];
  }
  return static_cast<std::uint16_t>(crc);
}

int SlotOf(std::string_view key) { return Crc16(HashTag(key)) % kSlots; }

}  // namespace coord::internal
