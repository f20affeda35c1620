#include "cache/http/internal/escapes.h"

#include <cstdint>
#include <optional>

namespace coord::http::internal {
namespace {

void AppendUtf8(std::string& out, std::uint32_t code) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xc0 | (code >> 6)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xe0 | (code >> 12)));
    out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3f)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
  } else {
    out.push_back(static_cast<char>(0xf0 | (code >> 18)));
    out.push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3f)));
    out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3f)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
  }
}

// The four hex digits at text[i], or nothing.
std::optional<std::uint32_t> FourDigits(std::string_view text, std::size_t i) {
  if (i + 4 > text.size()) return std::nullopt;
  std::uint32_t code = 0;
  for (std::size_t k = i; k < i + 4; ++k) {
    const int digit = HexDigit(text[k]);
    if (digit < 0) return std::nullopt;
    code = code * 16 + static_cast<std::uint32_t>(digit);
  }
  return code;
}

}  // namespace

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string PercentDecoded(std::string_view text, bool plus_is_blank) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '%' && i + 2 < text.size()) {
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        out.push_back(static_cast<char>(high * 16 + low));
        i += 2;
        continue;
      }
    }
    out.push_back(plus_is_blank && c == '+' ? ' ' : c);
  }
  return out;
}

std::string JsonUnescaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char kind = text[++i];
    constexpr std::string_view kLetters = "bfnrt";
    if (const std::size_t at = kLetters.find(kind); at != std::string_view::npos) {
      out.push_back("\b\f\n\r\t"[at]);
      continue;
    }
    const std::optional<std::uint32_t> code =
        kind == 'u' ? FourDigits(text, i + 1) : std::optional<std::uint32_t>();
    if (!code) {
      out.push_back(kind);
      continue;
    }
    i += 4;
    std::uint32_t whole = *code;
    if (whole >= 0xd800 && whole < 0xdc00 && text.substr(i + 1, 2) == "\\u") {
      if (const auto low = FourDigits(text, i + 3); low && *low >= 0xdc00 && *low < 0xe000) {
        whole = 0x10000 + ((whole - 0xd800) << 10) + (*low - 0xdc00);
        i += 6;
      }
    }
    AppendUtf8(out, whole);
  }
  return out;
}

}  // namespace coord::http::internal
