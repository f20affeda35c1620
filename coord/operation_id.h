// A name for one operation, so that it happens exactly once however often it is asked for.
//
//   const auto id = coord::OperationId::New();
//   absl::StatusOr<coord::CounterResult> result = visits.Add(1, {.operation_id = id});
//   if (IsOutcomeUnknown(result.status())) result = visits.Add(1, {.operation_id = id});
//
// The first that arrives is applied, and its answer is kept on the server, in about 131 bytes, for
// a window (ClientOptions::operation_window, 10 minutes by default; for twice that at most).
// Whoever asks again within that time with the same arguments gets that answer, and nothing is
// applied; with other arguments he is refused (kInvalidArgument). So a call with an id is repeated
// by the library itself when a reply is lost, within its timeout and for at most half the window.
// After a timeout, Resolve says what became of it, and makes sure that nothing can come of it
// later.
#ifndef COORD_OPERATION_ID_H_
#define COORD_OPERATION_ID_H_

#include <string>
#include <string_view>
#include <utility>

namespace coord {

// An id belongs to one operation on one object. A value.
class OperationId {
 public:
  // 128 random bits of the operating system. Empty when that has none to give, which is refused by
  // whatever call it is used for.
  static OperationId New();

  // One of your own, perhaps from a request of somebody else's: 1 to 64 of [A-Za-z0-9_-]. One that
  // breaks this is refused by whatever call it is used for (kInvalidArgument).
  explicit OperationId(std::string text) : text_(std::move(text)) {}

  const std::string& text() const { return text_; }
  bool valid() const;
  friend bool operator==(const OperationId&, const OperationId&) = default;

 private:
  std::string text_;
};

}  // namespace coord

#endif  // COORD_OPERATION_ID_H_
