// One answer of the server, as Client::Command returns it.
//
// A plain value: copy it, move it, keep it. An error that the server sent as an element of a larger
// answer is a Reply of kind kError; as the whole answer of Command() it becomes a status instead.
#ifndef COORD_REPLY_H_
#define COORD_REPLY_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coord {

class Reply {
 public:
  enum class Kind : unsigned char {
    kNil,
    kStatus,     // +OK
    kError,      // -ERR ...
    kInteger,    // :1
    kString,     // $3 abc, any bytes
    kDouble,     // ,1.5     (RESP3)
    kBoolean,    // #t       (RESP3)
    kBigNumber,  // (123...  (RESP3), digits in text()
    kVerbatim,   // =txt:... (RESP3), text() without the "txt:"
    kArray,
    kMap,   // (RESP3) items() alternates keys and values
    kSet,   // (RESP3)
    kPush,  // (RESP3) never answers a command
  };

  Reply() = default;  // nil
  static Reply Integer(std::int64_t value) { return Reply(Kind::kInteger, value); }
  static Reply Boolean(bool value) { return Reply(Kind::kBoolean, value ? 1 : 0); }
  static Reply Double(double value) {
    Reply reply(Kind::kDouble, 0);
    reply.number_ = value;
    return reply;
  }
  // For the kinds that carry text.
  static Reply Text(Kind kind, std::string text) {
    Reply reply(kind, 0);
    reply.text_ = std::move(text);
    return reply;
  }
  // For the kinds that carry items.
  static Reply Items(Kind kind, std::vector<Reply> items) {
    Reply reply(kind, 0);
    reply.items_ = std::move(items);
    return reply;
  }

  Kind kind() const { return kind_; }
  bool is_nil() const { return kind_ == Kind::kNil; }
  bool is_error() const { return kind_ == Kind::kError; }
  bool is_integer() const { return kind_ == Kind::kInteger; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_array() const { return kind_ == Kind::kArray; }

  // The value of kInteger and kBoolean; 0 for every other kind.
  std::int64_t integer() const { return integer_; }
  // The value of kDouble; 0 for every other kind.
  double number() const { return number_; }
  // What kStatus, kError, kString, kBigNumber and kVerbatim carry; empty for every other kind.
  const std::string& text() const { return text_; }
  std::string& mutable_text() { return text_; }
  // What kArray, kMap, kSet and kPush carry; empty for every other kind.
  std::span<const Reply> items() const { return items_; }
  std::vector<Reply>& mutable_items() { return items_; }

  friend bool operator==(const Reply&, const Reply&) = default;

  // For people: one line, as redis-cli would show it but on one line, cut after `limit` bytes.
  std::string ToDebugString(std::size_t limit = 256) const;

 private:
  Reply(Kind kind, std::int64_t integer) : kind_(kind), integer_(integer) {}

  Kind kind_ = Kind::kNil;
  std::int64_t integer_ = 0;
  double number_ = 0;
  std::string text_;
  std::vector<Reply> items_;
};

}  // namespace coord

#endif  // COORD_REPLY_H_
