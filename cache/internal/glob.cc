#include "cache/internal/glob.h"

#include <algorithm>
#include <cstddef>

namespace coord::internal {
namespace {

unsigned char Byte(char c) { return static_cast<unsigned char>(c); }

// Whether `c` matches the one element that begins at pattern[at], which is no '*'; moves `at`
// behind the element. A class without its bracket ends where the pattern does, as it does in Redis.
bool MatchOne(std::string_view pattern, std::size_t& at, char c) {
  const char element = pattern[at++];
  if (element == '?') return true;
  if (element == '\\' && at < pattern.size()) return pattern[at++] == c;
  if (element != '[') return element == c;
  const bool negated = at < pattern.size() && pattern[at] == '^';
  if (negated) ++at;
  bool found = false;
  while (at < pattern.size() && pattern[at] != ']') {
    if (pattern[at] == '\\' && at + 1 < pattern.size()) {
      found |= pattern[at + 1] == c;
      at += 2;
    } else if (at + 2 < pattern.size() && pattern[at + 1] == '-') {
      const auto [low, high] = std::minmax({Byte(pattern[at]), Byte(pattern[at + 2])});
      found |= low <= Byte(c) && Byte(c) <= high;
      at += 3;
    } else {
      found |= pattern[at++] == c;
    }
  }
  if (at < pattern.size()) ++at;
  return found != negated;
}

}  // namespace

bool GlobMatch(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  // Where to go on when what follows the last star does not match here: one byte later. Earlier
  // stars need not be tried again, since the last one can take up whatever they would.
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      resume = t;
      continue;
    }
    if (p < pattern.size()) {
      std::size_t next = p;
      if (MatchOne(pattern, next, text[t])) {
        p = next;
        ++t;
        continue;
      }
    }
    if (star == std::string_view::npos) return false;
    p = star;
    t = ++resume;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool NamesNoText(std::string_view pattern) {
  if (pattern.find_first_not_of("*?") != std::string_view::npos) return false;
  return pattern.empty() || pattern.find('*') != std::string_view::npos;
}

std::string GlobPrefix(std::string_view pattern) {
  std::string prefix;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '*' || c == '?' || c == '[') break;
    if (c == '\\' && at + 1 < pattern.size()) ++at;
    prefix.push_back(pattern[at]);
  }
  return prefix;
}

}  // namespace coord::internal
