// RESP2 and RESP3, without I/O: bytes in, replies out; arguments in, bytes out.
// Source: the Redis serialization protocol specification, RESP2 and RESP3.
#ifndef COORD_WIRE_RESP_H_
#define COORD_WIRE_RESP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "coord/reply.h"

namespace coord::internal {

// What a peer may make us hold. Beyond any of these the stream is refused as a protocol error.
struct RespLimits {
  std::size_t max_depth = 128;           // nested aggregates
  std::size_t max_elements = 16u << 20;  // elements of one whole reply, at all depths together
  std::size_t max_bulk = 512u << 20;     // bytes of one string: the server's own limit
  std::size_t max_total = (512u << 20) + (64u << 20);  // bytes of one whole reply
  std::size_t max_line = 64u << 10;  // bytes of a line that ends in CRLF, type and CRLF included
};

// Incremental and iterative; memory grows with the bytes that came, never with a length that was
// declared. Not thread-safe: one connection's reader owns it.
class RespParser {
 public:
  explicit RespParser(RespLimits limits = {});
  ~RespParser();

  // Room for at least `least` bytes to receive into; valid until the next call of any method.
  std::span<char> Prepare(std::size_t least);
  // The first `size` bytes of what Prepare returned have been filled.
  void Commit(std::size_t size);

  enum class Outcome { kReply, kNeedMore, kError };
  // Takes the next whole reply out of what was committed; `reply` changes only with kReply.
  // Attributes are skipped, and count towards the limits of the reply they precede. After kError,
  // error() says why and where, and every later call returns kError too.
  Outcome Next(Reply& reply);

  // kDataLoss, once Next has returned kError.
  const absl::Status& error() const { return error_; }

 private:
  // An aggregate whose elements have not all come.
  struct Frame {
    Reply::Kind kind;
    bool attribute;    // dropped when complete
    std::size_t left;  // elements to come
    std::vector<Reply> items;
  };
  // A string whose header has been read.
  struct Bulk {
    char type = 0;  // '$', '!' or '='; 0 when there is none
    std::size_t length = 0;
    std::string text;  // of a long one, what has already left the buffer
  };
  enum class Step { kValue, kOpened, kNeedMore, kError };

  std::uint64_t Offset() const { return base_ + begin_; }
  void MakeRoom(std::size_t want);

  // One line, one string, or what can be had of it.
  Step ReadValue(Reply& value);
  Step ReadLine(std::string_view& line);
  Step OpenAggregate(std::string_view line, Reply& value);
  Step OpenBulk(std::string_view line, Reply& value);
  Step ReadBulk(Reply& value);
  Step FinishBulk(std::string text, Reply& value);
  // Hands a complete value to the aggregate that waits for it. True when that completes a whole
  // reply, which is then in `value`.
  bool Deliver(Reply& value);

  Step Fail(std::uint64_t offset, std::string_view what, std::string_view bytes);
  Step FailLine(std::string_view line, std::string_view what);

  const RespLimits limits_;
  absl::Status error_;

  // Received and not yet read: buffer_[begin_, end_). buffer_[0] was byte base_ of the stream.
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t base_ = 0;

  // Where reading stopped.
  std::size_t scanned_ = 0;  // bytes from begin_ on that hold no line end
  Bulk bulk_;
  std::vector<Frame> stack_;

  // The reply that is being read.
  std::uint64_t reply_offset_ = 0;
  std::size_t elements_ = 0;
};

// Appends one command as an array of bulk strings.
void AppendCommand(std::string& out, std::span<const std::string_view> args);
// The two pieces of AppendCommand, for callers that build a command from several parts.
void AppendArrayHeader(std::string& out, std::size_t count);
void AppendBulk(std::string& out, std::string_view value);

}  // namespace coord::internal

#endif  // COORD_WIRE_RESP_H_
