#include "coord/reply.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/escaping.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

// Writes one reply, and stops soon after `limit` bytes: a huge reply costs no more than a small
// one.
class DebugWriter {
 public:
  explicit DebugWriter(std::size_t limit) : limit_(limit) {}

  void Write(const Reply& reply) {
    switch (reply.kind()) {
      case Reply::Kind::kNil:
        out_ += "(nil)";
        return;
      case Reply::Kind::kStatus:
      case Reply::Kind::kBigNumber:
        return WriteEscaped(reply.text());
      case Reply::Kind::kError:
        out_ += "(error) ";
        return WriteEscaped(reply.text());
      case Reply::Kind::kInteger:
        out_ += internal::StrCat("(integer) ", reply.integer());
        return;
      case Reply::Kind::kString:
      case Reply::Kind::kVerbatim:
        out_ += '"';
        WriteEscaped(reply.text());
        out_ += '"';
        return;
      case Reply::Kind::kDouble: {
        char digits[32];
        const auto end = std::to_chars(digits, digits + sizeof(digits), reply.number()).ptr;
        out_ += "(double) ";
        out_.append(digits, end);
        return;
      }
      case Reply::Kind::kBoolean:
        out_ += reply.integer() != 0 ? "(true)" : "(false)";
        return;
      case Reply::Kind::kArray:
        return WriteItems(reply, "[", "]");
      case Reply::Kind::kMap:
        return WriteItems(reply, "{", "}");
      case Reply::Kind::kSet:
        return WriteItems(reply, "set[", "]");
      case Reply::Kind::kPush:
        return WriteItems(reply, "push[", "]");
    }
  }

  std::string Finish() && {
    if (Full()) {
      out_.resize(limit_);
      out_ += "...";
    }
    return std::move(out_);
  }

 private:
  bool Full() const { return out_.size() > limit_; }

  void WriteEscaped(std::string_view text) {
    // An escaped byte is at least one byte, so more than this is never shown.
    const std::string_view shown = text.substr(0, std::min(text.size(), limit_ + 1));
    out_ += absl::CHexEscape(internal::ToAbsl(shown));
  }

  void WriteItems(const Reply& reply, std::string_view open, std::string_view close) {
    out_ += open;
    const bool map = reply.kind() == Reply::Kind::kMap;
    std::size_t index = 0;
    for (const Reply& item : reply.items()) {
      if (index > 0) out_ += map && index % 2 == 1 ? " => " : ", ";
      if (Full()) return;
      Write(item);
      ++index;
    }
    out_ += close;
  }

  const std::size_t limit_;
  std::string out_;
};

}  // namespace

std::string Reply::ToDebugString(std::size_t limit) const {
  // Far below what a string can hold, so that sums with it do not wrap around.
  DebugWriter writer(std::min(limit, std::size_t{1} << 40));
  writer.Write(*this);
  return std::move(writer).Finish();
}

}  // namespace coord
