#include "cache/internal/scan_cursor.h"

#include <array>
#include <charconv>

#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// FNV-1a with 64 bits: it tells mistakes apart, not attackers.
constexpr std::uint64_t kBasis = 0xcbf29ce484222325u;
std::uint64_t Mix(std::uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::string Hex(std::uint64_t value) {
  char digits[16];
  const char* const end = std::to_chars(digits, digits + sizeof(digits), value, 16).ptr;
  return std::string(digits, static_cast<std::size_t>(end - digits));
}

template <typename Number>
bool Parse(std::string_view text, Number& number, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::uint64_t HashOfMasters(std::span<const std::string> names) {
  std::uint64_t hash = kBasis;
  for (const std::string& name : names) hash = Mix(hash, StrCat(name.size(), ":", name));
  return hash;
}

std::string EncodeScanCursor(const ScanCursor& cursor) {
  const std::string body =
      StrCat("r1-", cursor.master, "-", cursor.at, "-", Hex(cursor.masters), "-");
  return StrCat(body, Hex(Mix(kBasis, body)));
}

std::optional<ScanCursor> DecodeScanCursor(std::string_view text) {
  std::array<std::string_view, 5> fields;
  std::string_view rest = text;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::size_t dash = rest.find('-');
    const bool last = i + 1 == fields.size();
    if ((dash == rest.npos) != last) return std::nullopt;
    fields[i] = rest.substr(0, dash);
    if (!last) rest.remove_prefix(dash + 1);
  }
  ScanCursor cursor;
  std::uint64_t at = 0;
  if (!Parse(fields[1], cursor.master, 10) || !Parse(fields[2], at, 10) ||
      !Parse(fields[3], cursor.masters, 16)) {
    return std::nullopt;
  }
  cursor.at = StrCat(at);
  // Each cursor has one text only, so that this judges the version and the check as well.
  if (EncodeScanCursor(cursor) != text) return std::nullopt;
  return cursor;
}

}  // namespace coord::internal
