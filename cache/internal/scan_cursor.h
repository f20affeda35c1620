// Where a walk over the keys of a deployment has come to, as text that another process can go on
// from. Pure.
#ifndef COORD_CACHE_INTERNAL_SCAN_CURSOR_H_
#define COORD_CACHE_INTERNAL_SCAN_CURSOR_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace coord::internal {

struct ScanCursor {
  // What SCAN has said last; "0": this master's walk begins.
  std::string at = "0";
  // Which of the masters, in the order of their names.
  std::uint32_t master = 0;
  // Who they were when the walk began: SCAN's cursors mean nothing to another server.
  std::uint64_t masters = 0;

  friend bool operator==(const ScanCursor&, const ScanCursor&) = default;
};

std::string EncodeScanCursor(const ScanCursor& cursor);
// nullopt: it is not what EncodeScanCursor makes.
std::optional<ScanCursor> DecodeScanCursor(std::string_view text);

// What stands for these names in this order; the same on all hosts.
std::uint64_t HashOfMasters(std::span<const std::string> names);

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SCAN_CURSOR_H_
