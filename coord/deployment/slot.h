// Which part of a Redis Cluster a key belongs to. Pure.
// Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".
#ifndef COORD_DEPLOYMENT_SLOT_H_
#define COORD_DEPLOYMENT_SLOT_H_

#include <cstdint>
#include <string_view>

namespace coord::internal {

inline constexpr int kSlots = 16384;

// The part of `key` that decides its slot: what stands between the first '{' and the first '}'
// behind it unless that is nothing, else the whole key. A view into `key`.
std::string_view HashTag(std::string_view key);

// CRC-16/XMODEM: polynomial 0x1021, starts with 0, nothing reflected.
std::uint16_t Crc16(std::string_view bytes);

// In [0, kSlots). Keys may hold any bytes.
int SlotOf(std::string_view key);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_SLOT_H_
