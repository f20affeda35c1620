#include "coord/internal/json_text.h"

#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kMaxExponentDigits = 15;  // stays exact in the script's numbers

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void AppendUtf8(unsigned code, std::string& out) {
  const auto put = [&out](unsigned byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// Reads a text from its front to its end; the first fault stays.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::optional<JsonFault> Read(std::size_t depth) {
    ReadValues(depth);
    return fault_;
  }

 private:
  struct Container {
    bool object;
    absl::flat_hash_set<std::string> names;
  };

  // Each returns whether it could; if not, the fault is set.
  bool ReadValues(std::size_t depth) {
    std::vector<Container> open;
    for (;;) {
      SkipSpace();
      if (!open.empty() && open.back().object && !ReadName(open.back())) return false;
      if (Next() == '{' || Next() == '[') {
        if (depth + open.size() >= kJsonMaxDepth) return Refuse("it is nested too deep");
        open.push_back({Next() == '{', {}});
        ++at_;
        SkipSpace();
        if (Next() != Closer(open.back())) continue;
        ++at_;
        open.pop_back();
      } else if (!ReadScalar()) {
        return false;
      }
      if (!CloseContainers(open)) return false;
      if (open.empty()) return at_ == text_.size() || Fail("more follows behind the value");
    }
  }

  // Behind a value: closes what ends there, and takes the comma when something follows.
  bool CloseContainers(std::vector<Container>& open) {
    for (;;) {
      SkipSpace();
      if (open.empty()) return true;
      if (Next() == ',') {
        ++at_;
        return true;
      }
      if (Next() != Closer(open.back())) return Fail("a comma or a closing bracket is missing");
      ++at_;
      open.pop_back();
    }
  }

  bool ReadName(Container& object) {
    if (Next() != '"') return Fail("a member's name is missing");
    const std::size_t start = at_;
    std::string name;
    if (!ReadString(&name)) return false;
    if (!object.names.insert(std::move(name)).second) {
      at_ = start;
      return Refuse("the same name occurs twice in an object");
    }
    SkipSpace();
    if (Next() != ':') return Fail("a colon is missing");
    ++at_;
    SkipSpace();
    return true;
  }

  bool ReadScalar() {
    if (Next() == '"') return ReadString(nullptr);
    if (Next() == '-' || IsDigit(Next())) return ReadNumber();
    for (const std::string_view word : {"true", "false", "null"}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return true;
      }
    }
    return Fail(at_ == text_.size() ? "it ends too early" : "no value begins here");
  }

  bool ReadNumber() {
    if (Next() == '-') ++at_;
    const std::size_t whole = at_;
    const std::size_t digits = SkipDigits();
    if (digits == 0) return Fail("a digit is missing");
    if (digits > 1 && text_[whole] == '0') {
      at_ = whole;
      return Fail("a number begins with a zero");
    }
    if (Next() == '.') {
      ++at_;
      if (SkipDigits() == 0) return Fail("a digit is missing");
    }
    if (Next() == 'e' || Next() == 'E') {
      ++at_;
      if (Next() == '+' || Next() == '-') ++at_;
      const std::size_t exponent = at_;
      if (SkipDigits() == 0) return Fail("a digit is missing");
      std::size_t zeros = 0;
      while (text_[exponent + zeros] == '0' && exponent + zeros + 1 < at_) ++zeros;
      if (at_ - exponent - zeros > kMaxExponentDigits) {
        at_ = exponent;
        return Refuse("a number's exponent has more than 15 digits");
      }
    }
    return true;
  }

  // `meaning`, if given, gets what the string stands for.
  bool ReadString(std::string* meaning) {
    for (++at_; Next() != '"';) {
      if (at_ == text_.size()) return Fail("a string has no end");
      const auto byte = static_cast<unsigned char>(text_[at_]);
      if (byte < 0x20) return Fail("a control character stands in a string");
      if (byte == '\\') {
        if (!ReadEscape(meaning)) return false;
        continue;
      }
      const std::size_t length = Utf8Length(text_.substr(at_));
      if (length == 0) return Fail("a string is not valid UTF-8");
      if (meaning) meaning->append(text_.substr(at_, length));
      at_ += length;
    }
    ++at_;
    return true;
  }

  bool ReadEscape(std::string* meaning) {
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const std::size_t start = at_++;
    if (Next() == 'u') {
      unsigned code = 0;
      if (!ReadUnit(code)) return false;
      if (code >= 0xD800 && code < 0xE000) {
        unsigned low = 0;
        const bool pair = code < 0xDC00 && text_.substr(at_, 2) == "\\u";
        if (pair) ++at_;
        if (pair && !ReadUnit(low)) return false;
        if (!pair || low < 0xDC00 || low >= 0xE000) {
          at_ = start;
          return Fail("half of a surrogate pair stands alone");
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      }
      if (meaning) AppendUtf8(code, *meaning);
      return true;
    }
    const std::size_t letter = at_ < text_.size() ? kLetters.find(Next()) : kLetters.npos;
    if (letter == kLetters.npos) return Fail("an unknown escape stands in a string");
    if (meaning) meaning->push_back(kMeanings[letter]);
    ++at_;
    return true;
  }

  // The four hexadecimal digits behind the 'u' at which we stand.
  bool ReadUnit(unsigned& code) {
    ++at_;
    for (int i = 0; i < 4; ++i, ++at_) {
      const int digit = HexDigit(Next());
      if (digit < 0) return Fail("\\u needs four hexadecimal digits");
      code = code * 16 + static_cast<unsigned>(digit);
    }
    return true;
  }

  std::size_t SkipDigits() {
    const std::size_t start = at_;
    while (IsDigit(Next())) ++at_;
    return at_ - start;
  }
  void SkipSpace() {
    while (Next() == ' ' || Next() == '\n' || Next() == '\r' || Next() == '\t') ++at_;
  }
  // 0 at the end; a zero byte in the text is valid nowhere, so that it can mean no harm.
  char Next() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  static char Closer(const Container& container) { return container.object ? '}' : ']'; }

  bool Fail(std::string_view why) { return Fault(why, true); }
  bool Refuse(std::string_view why) { return Fault(why, false); }
  bool Fault(std::string_view why, bool grammar) {
    fault_ = JsonFault{why, at_, grammar};
    return false;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
  std::optional<JsonFault> fault_;
};

}  // namespace

std::optional<JsonFault> FindJsonFault(std::string_view text, std::size_t depth) {
  return Reader(text).Read(depth);
}

absl::Status CheckJson(std::string_view what, std::string_view text, std::size_t depth) {
  if (text.size() > kJsonMaxBytes) {
    return InvalidArgument(
        StrCat(what, " has ", text.size(), " bytes; at most ", kJsonMaxBytes, " are allowed"));
  }
  const std::optional<JsonFault> fault = FindJsonFault(text, depth);
  if (!fault) return absl::OkStatus();
  const std::string_view kind = fault->grammar ? " is not JSON: " : " is refused: ";
  return InvalidArgument(StrCat(what, kind, fault->why, ", at byte ", fault->at + 1, " of ",
                                text.size(), " (at most ", kJsonMaxDepth, " levels deep)"));
}

absl::StatusOr<std::size_t> PointerDepth(std::string_view pointer) {
  const auto refuse = [pointer](std::string_view why) {
    return InvalidArgument(StrCat("the path ", Quoted(pointer), " is no JSON Pointer: ", why));
  };
  if (pointer.size() > kJsonMaxPointerBytes) return refuse("it is longer than 4096 bytes");
  if (!pointer.empty() && pointer[0] != '/') {
    return refuse("it begins with something else than '/' (the whole document is \"\")");
  }
  std::size_t depth = 0;
  for (std::size_t i = 0; i < pointer.size();) {
    const std::size_t length = Utf8Length(pointer.substr(i));
    if (length == 0) return refuse("it is not valid UTF-8");
    if (pointer[i] == '/') ++depth;
    if (pointer[i] == '~' && pointer.substr(i, 2) != "~0" && pointer.substr(i, 2) != "~1") {
      return refuse("'~' stands for nothing but \"~0\" (a '~') and \"~1\" (a '/')");
    }
    i += length;
  }
  if (depth > kJsonMaxDepth) return refuse("it is more than 128 levels deep");
  return depth;
}

std::size_t Utf8Length(std::string_view text) {
  const auto byte = [text](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto continues = [&byte](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first < 0xF0) {
    const bool overlong = first == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = first == 0xED && byte(1) >= 0xA0;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first < 0xF5) {
    const bool overlong = first == 0xF0 && byte(1) < 0x90;
    const bool beyond = first == 0xF4 && byte(1) >= 0x90;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

}  // namespace coord::internal
