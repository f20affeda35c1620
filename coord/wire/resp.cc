#include "coord/wire/resp.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::size_t kChunk = 16u << 10;      // free room that Prepare normally offers
constexpr std::size_t kKeep = 64u << 10;       // the buffer between large replies
constexpr std::size_t kMaxChunk = 256u << 10;  // enough to make system calls rare, and fits a cache
constexpr std::size_t kReserve = 16;           // elements to make room for before any has come

constexpr std::array<bool, 256> kIsType = [] {
  std::array<bool, 256> table{};
  for (const char type : std::string_view("+-:$*_#,(!=%~>|")) {
    table[static_cast<unsigned char>(type)] = true;
  }
  return table;
}();

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSign(char c) { return c == '+' || c == '-'; }

// A length is digits and nothing else: no sign, no leading zero.
std::optional<std::uint64_t> ParseLength(std::string_view text) {
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return length;
}

// The protocol allows a plus sign, std::from_chars does not.
std::string_view WithoutPlus(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && IsDigit(text[1])) text.remove_prefix(1);
  return text;
}

std::optional<double> ParseDouble(std::string_view text) {
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  // Servers before Redis 7.2 print a NaN as printf does, and so with the sign that x86 gives it.
  if (text == "nan" || text == "-nan") return std::numeric_limits<double>::quiet_NaN();
  text = WithoutPlus(text);
  // std::from_chars would take "infinity" and "nan(1)" too.
  const std::size_t first = text.starts_with('-') ? 1 : 0;
  if (text.size() <= first || !IsDigit(text[first])) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool IsBigNumber(std::string_view text) {
  if (!text.empty() && IsSign(text[0])) text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), IsDigit);
}

Reply::Kind AggregateKind(char type) {
  switch (type) {
    case '%':
      return Reply::Kind::kMap;
    case '~':
      return Reply::Kind::kSet;
    case '>':
      return Reply::Kind::kPush;
    default:
      return Reply::Kind::kArray;
  }
}

void AppendHeader(std::string& out, char type, std::size_t number) {
  char header[24];
  header[0] = type;
  char* end = std::to_chars(header + 1, header + sizeof(header) - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(header, end);
}

}  // namespace

RespParser::RespParser(RespLimits limits) : limits_(limits) {}
RespParser::~RespParser() = default;

std::span<char> RespParser::Prepare(std::size_t least) {
  std::size_t want = std::max(least, kChunk);
  // A long string is taken in pieces that grow with what has come of it.
  if (bulk_.type != 0) {
    const std::size_t rest = bulk_.length - bulk_.text.size();
    want = std::max(want, std::min({rest, bulk_.text.size(), kMaxChunk}));
  }
  if (begin_ == end_) {
    base_ += begin_;
    begin_ = end_ = 0;
  }
  const bool oversized = end_ == 0 && capacity_ > kKeep && want <= kKeep;
  if (capacity_ - end_ < want || oversized) MakeRoom(want);
  return {buffer_.get() + end_, capacity_ - end_};
}

void RespParser::MakeRoom(std::size_t want) {
  const std::size_t live = end_ - begin_;
  std::size_t capacity = capacity_;
  // Moving no more than was read since the last move, and growing otherwise, keeps the cost of both
  // in proportion to the bytes that came.
  if (live > begin_ || capacity - live < want) {
    capacity = std::max({2 * capacity, live + want, kKeep});
  } else if (live + want <= kKeep) {
    capacity = kKeep;
  }
  if (capacity == capacity_) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, live);
  } else {
    std::unique_ptr<char[]> buffer(new char[capacity]);  // make_unique would clear it
    if (live > 0) std::memcpy(buffer.get(), buffer_.get() + begin_, live);
    buffer_ = std::move(buffer);
    capacity_ = capacity;
  }
  base_ += begin_;
  begin_ = 0;
  end_ = live;
}

void RespParser::Commit(std::size_t size) {
  assert(size <= capacity_ - end_);
  end_ += size;
}

RespParser::Outcome RespParser::Next(Reply& reply) {
  if (!error_.ok()) return Outcome::kError;
  Reply value;
  for (;;) {
    switch (ReadValue(value)) {
      case Step::kNeedMore:
        return Outcome::kNeedMore;
      case Step::kError:
        return Outcome::kError;
      case Step::kOpened:
        break;
      case Step::kValue:
        if (!Deliver(value)) break;
        reply_offset_ = Offset();
        elements_ = 0;
        reply = std::move(value);
        return Outcome::kReply;
    }
  }
}

bool RespParser::Deliver(Reply& value) {
  while (!stack_.empty()) {
    Frame& frame = stack_.back();
    std::vector<Reply>& items = frame.items;
    // Doubling, but never past the number that will come.
    if (items.size() == items.capacity()) {
      items.reserve(items.size() + std::min(frame.left, std::max(items.size(), kReserve)));
    }
    items.push_back(std::move(value));
    if (--frame.left > 0) return false;
    if (frame.attribute) {
      stack_.pop_back();
      return false;
    }
    value = Reply::Items(frame.kind, std::move(items));
    stack_.pop_back();
  }
  return true;
}

RespParser::Step RespParser::ReadLine(std::string_view& line) {
  const std::size_t have = end_ - begin_;
  if (have == 0) return Step::kNeedMore;
  const char* const start = buffer_.get() + begin_;
  if (!kIsType[static_cast<unsigned char>(*start)]) {
    return Fail(Offset(), "no type of reply begins with", {start, 1});
  }
  const void* const found = std::memchr(start + scanned_, '\n', have - scanned_);
  const char* const newline = static_cast<const char*>(found);
  // Without a newline the line is longer than what is here. What is judged must not depend on how
  // much of the stream happens to be here, so that any split of it gives the same error.
  const std::size_t size =
      newline != nullptr ? static_cast<std::size_t>(newline - start) + 1 : have + 1;
  if (size > limits_.max_line) {
    return Fail(Offset(), StrCat("a line longer than ", limits_.max_line, " bytes"),
                {start, limits_.max_line});
  }
  if (newline == nullptr) {
    scanned_ = have;
    return Step::kNeedMore;
  }
  if (newline[-1] != '\r') return Fail(Offset(), "a line feed without CR", {start, size});
  scanned_ = 0;
  begin_ += size;
  line = {start, size - 2};
  if (Offset() - reply_offset_ > limits_.max_total) {
    return FailLine(line, StrCat("a reply longer than ", limits_.max_total, " bytes"));
  }
  return Step::kValue;
}

RespParser::Step RespParser::ReadValue(Reply& value) {
  if (bulk_.type != 0) return ReadBulk(value);
  std::string_view line;
  if (const Step step = ReadLine(line); step != Step::kValue) return step;
  const std::string_view body = line.substr(1);
  switch (line[0]) {
    case ':': {
      const auto integer = ParseInt64(WithoutPlus(body));
      if (!integer) return FailLine(line, "not a 64-bit integer");
      value = Reply::Integer(*integer);
      return Step::kValue;
    }
    case '$':
    case '!':
    case '=':
      return OpenBulk(line, value);
    case '+':
    case '-':
      if (body.find('\r') != body.npos) return FailLine(line, "a CR without line feed");
      value = Reply::Text(line[0] == '+' ? Reply::Kind::kStatus : Reply::Kind::kError,
                          std::string(body));
      return Step::kValue;
    case '_':
      if (!body.empty()) return FailLine(line, "not a null");
      value = Reply();
      return Step::kValue;
    case '#':
      if (body != "t" && body != "f") return FailLine(line, "not a boolean");
      value = Reply::Boolean(body == "t");
      return Step::kValue;
    case ',': {
      const auto number = ParseDouble(body);
      if (!number) return FailLine(line, "not a double");
      value = Reply::Double(*number);
      return Step::kValue;
    }
    case '(':
      if (!IsBigNumber(body)) return FailLine(line, "not a big number");
      value = Reply::Text(Reply::Kind::kBigNumber, std::string(body));
      return Step::kValue;
    default:
      return OpenAggregate(line, value);
  }
}

RespParser::Step RespParser::OpenAggregate(std::string_view line, Reply& value) {
  const char type = line[0];
  const std::string_view body = line.substr(1);
  if (type == '*' && body == "-1") {
    value = Reply();
    return Step::kValue;
  }
  if (body == "?") return FailLine(line, "a streamed aggregate, which is not supported");
  const auto count = ParseLength(body);
  if (!count) return FailLine(line, "not a number of elements");
  if (stack_.size() >= limits_.max_depth) {
    return FailLine(line, StrCat("a reply nested deeper than ", limits_.max_depth));
  }
  // Whoever takes pushes finds the kind of the push in the first element.
  if (type == '>' && (*count == 0 || !stack_.empty())) {
    return FailLine(line, *count == 0 ? "an empty push" : "a push inside a reply");
  }
  const std::size_t each = type == '%' || type == '|' ? 2 : 1;
  if (*count > (limits_.max_elements - elements_) / each) {
    return FailLine(line, StrCat("a reply of more than ", limits_.max_elements, " elements"));
  }
  const std::size_t left = static_cast<std::size_t>(*count) * each;
  elements_ += left;
  if (left == 0) {
    if (type == '|') return Step::kOpened;
    value = Reply::Items(AggregateKind(type), {});
    return Step::kValue;
  }
  stack_.push_back({AggregateKind(type), type == '|', left, {}});
  return Step::kOpened;
}

RespParser::Step RespParser::OpenBulk(std::string_view line, Reply& value) {
  const char type = line[0];
  const std::string_view body = line.substr(1);
  if (type == '$' && body == "-1") {
    value = Reply();
    return Step::kValue;
  }
  if (body == "?") return FailLine(line, "a streamed string, which is not supported");
  const auto length = ParseLength(body);
  if (!length) return FailLine(line, "not a length");
  if (*length > limits_.max_bulk) {
    return FailLine(line, StrCat("a string longer than ", limits_.max_bulk, " bytes"));
  }
  const std::uint64_t used = Offset() + 2 - reply_offset_;
  if (used > limits_.max_total || *length > limits_.max_total - used) {
    return FailLine(line, StrCat("a reply longer than ", limits_.max_total, " bytes"));
  }
  if (type == '=' && *length < 4) return FailLine(line, "a verbatim string without its format");
  bulk_.type = type;
  bulk_.length = static_cast<std::size_t>(*length);
  return ReadBulk(value);
}

RespParser::Step RespParser::ReadBulk(Reply& value) {
  const std::size_t have = end_ - begin_;
  const char* const data = buffer_.get() + begin_;
  if (bulk_.text.empty()) {
    if (have >= 2 && have - 2 >= bulk_.length) {
      begin_ += bulk_.length;
      return FinishBulk(std::string(data, bulk_.length), value);
    }
    if (bulk_.length <= kChunk) return Step::kNeedMore;
  }
  // What has come of a long string leaves the buffer at once, so the buffer stays small.
  std::string& text = bulk_.text;
  const std::size_t size = std::min(have, bulk_.length - text.size());
  if (text.capacity() - text.size() < size) {
    // Doubling, but never past the length that will come: into a new string, since growing an old
    // one may round up.
    std::string grown;
    grown.reserve(std::min(bulk_.length, std::max(text.size() + size, 2 * text.capacity())));
    grown.append(text);
    text = std::move(grown);
  }
  text.append(data, size);
  begin_ += size;
  if (text.size() < bulk_.length || end_ - begin_ < 2) return Step::kNeedMore;
  return FinishBulk(std::exchange(text, {}), value);
}

RespParser::Step RespParser::FinishBulk(std::string text, Reply& value) {
  const std::string_view ending(buffer_.get() + begin_, 2);
  if (ending != "\r\n") {
    return Fail(Offset(), StrCat("a string of ", text.size(), " bytes does not end in CRLF but in"),
                ending);
  }
  if (bulk_.type == '=') {
    if (text[3] != ':') {
      return Fail(Offset() - text.size(), "a verbatim string without its format",
                  std::string_view(text).substr(0, 4));
    }
    text.erase(0, 4);
  }
  begin_ += 2;
  const Reply::Kind kind = bulk_.type == '$'   ? Reply::Kind::kString
                           : bulk_.type == '!' ? Reply::Kind::kError
                                               : Reply::Kind::kVerbatim;
  bulk_.type = 0;
  value = Reply::Text(kind, std::move(text));
  return Step::kValue;
}

RespParser::Step RespParser::Fail(std::uint64_t offset, std::string_view what,
                                  std::string_view bytes) {
  error_ = MakeStatus(
      absl::StatusCode::kDataLoss,
      StrCat("protocol error at byte ", offset, " of the stream: ", what, ": ", Quoted(bytes)));
  stack_.clear();
  bulk_ = {};
  return Step::kError;
}

// For a line that has been read, given without its CRLF.
RespParser::Step RespParser::FailLine(std::string_view line, std::string_view what) {
  return Fail(Offset() - line.size() - 2, what, line);
}

void AppendArrayHeader(std::string& out, std::size_t count) { AppendHeader(out, '*', count); }

void AppendBulk(std::string& out, std::string_view value) {
  // Nearly all arguments are short; put together here they cost one append instead of three.
  if (value.size() < 100) {
    char piece[128];
    char* at = piece;
    *at++ = '$';
    if (value.size() >= 10) *at++ = static_cast<char>('0' + value.size() / 10);
    *at++ = static_cast<char>('0' + value.size() % 10);
    *at++ = '\r';
    *at++ = '\n';
    at += value.copy(at, value.size());
    *at++ = '\r';
    *at++ = '\n';
    out.append(piece, at);
    return;
  }
  AppendHeader(out, '$', value.size());
  out.append(value);
  out.append("\r\n", 2);
}

void AppendCommand(std::string& out, std::span<const std::string_view> args) {
  AppendArrayHeader(out, args.size());
  for (const std::string_view arg : args) AppendBulk(out, arg);
}

}  // namespace coord::internal
