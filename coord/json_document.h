// A JSON document in Redis that many processes change, each only if the fields it looked at are
// still as it saw them.
//
//   coord::JsonDocument job(client, "job:17");
//   absl::StatusOr<coord::CasResult> taken =
//       job.CompareAndSetField("/state", R"("pending")", R"("running")");
//   if (!taken.ok()) return taken.status();
//   if (!taken->applied()) return Skip(taken->current);  // what the state is instead
//
// The document is a plain string of JSON, `<prefix>{<name>}:json`, which other clients can read. A
// change is one script and one round trip. It replaces bytes where they stand and writes nothing
// else anew: key order, white space, numbers above 2^53, `1.0` and `[]` stay as they were.
//
// Values are compared as JSON values, not as text: numbers by their exact decimal value (1 = 1.0 =
// 10e-1, and 2^53 and 2^53 + 1 differ), strings by what their escapes mean, objects without regard
// to order.
//
// Paths are JSON Pointers (RFC 6901): "/owner/name", "/tags/0", "/a~1b" for the name "a/b"; "" is
// the whole document. The token "-" is refused where it meets an array.
//
// Texts that the caller hands over are checked whole (kInvalidArgument; nothing is sent): strict
// JSON, no name twice in an object, at most 16 MiB and 128 levels deep. What is stored is checked
// where the script reads it: what stands before the values that the paths name, those values, what
// follows them, and how the document ends.
#ifndef COORD_JSON_DOCUMENT_H_
#define COORD_JSON_DOCUMENT_H_

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/options.h"

namespace coord {

// What must be the case before a change: the value at `path` equals `expected`, or there is none.
struct JsonTest {
  std::string path;
  std::optional<std::string> expected;  // a JSON text; nullopt: absent
};

// `value`, a JSON text, comes to stand at `path`. A member that its object does not have yet is
// added at the object's end; below something that does not exist, or beyond the end of an array,
// nothing can be set.
struct JsonAssignment {
  std::string path;
  std::string value;
};

// How a compare-and-set ended. None of the three is an error.
struct CasResult {
  enum class Outcome {
    kApplied,
    kMismatch,  // the document is there, and a test failed
    kMissing,   // there is no document
  };
  Outcome outcome = Outcome::kMissing;
  // With kMismatch: which test failed, the first counting 0, and the text of the value at its path
  // as it is stored; nullopt when there is none.
  std::size_t failed_test = 0;
  std::optional<std::string> current = std::nullopt;

  bool applied() const { return outcome == Outcome::kApplied; }
  explicit operator bool() const { return applied(); }
  friend bool operator==(const CasResult&, const CasResult&) = default;
};

struct JsonSetOptions {
  // How long the document is kept from now on; nullopt leaves the time to live that the key has.
  std::optional<absl::Duration> ttl = std::nullopt;
};

// Thread-safe; cheap to make and to copy.
//
// Errors beside those that every call has: kDataLoss when what is stored is not JSON,
// kFailedPrecondition when the key holds another Redis type, when the document repeats a name on a
// path or in a compared object, nests deeper than 128 levels or would grow beyond 16 MiB, or when a
// path to be set leads nowhere. In all these cases nothing was written. Calls that write are not
// repeated after an unknown outcome (IsOutcomeUnknown): a second run would find the first one's
// result.
class JsonDocument {
 public:
  // Any bytes, 1 to 512, not starting with '}'. A name that breaks this is reported by each call.
  JsonDocument(Client client, std::string_view name);

  // The stored text as it is; nullopt when there is no document. One round trip.
  absl::StatusOr<std::optional<std::string>> Get(const CallOptions& options = {}) const;

  // Stores the document whatever the key held before, unless that is no string. One round trip.
  absl::Status Set(std::string_view document, const JsonSetOptions& set = {},
                   const CallOptions& options = {}) const;

  // Replaces the whole document if the value at `path` equals `expected` (nullopt: is absent). With
  // the path "" and nullopt it creates the document, if there is none. The time to live stays.
  absl::StatusOr<CasResult> CompareAndSet(std::string_view path,
                                          std::optional<std::string_view> expected,
                                          std::string_view new_document,
                                          const CallOptions& options = {}) const;

  // Replaces the value at `path` if it equals `expected`. The time to live stays.
  absl::StatusOr<CasResult> CompareAndSetField(std::string_view path,
                                               std::optional<std::string_view> expected,
                                               std::string_view value,
                                               const CallOptions& options = {}) const;

  // If all tests hold, makes all assignments one after the other, so that a later one sees what an
  // earlier one did; else changes nothing. At least one and at most 128 of each; their texts
  // together at most 32 MiB.
  absl::StatusOr<CasResult> CompareAndSetFields(std::span<const JsonTest> tests,
                                                std::span<const JsonAssignment> assignments,
                                                const CallOptions& options = {}) const;
  absl::StatusOr<CasResult> CompareAndSetFields(std::initializer_list<JsonTest> tests,
                                                std::initializer_list<JsonAssignment> assignments,
                                                const CallOptions& options = {}) const;

 private:
  struct TestView;
  struct AssignmentView;
  absl::StatusOr<CasResult> Run(std::span<const TestView> tests,
                                std::span<const AssignmentView> assignments,
                                const CallOptions& options) const;
  absl::Status Named(const absl::Status& status) const;

  Client client_;
  std::string name_;
  absl::StatusOr<std::string> key_;
};

}  // namespace coord

#endif  // COORD_JSON_DOCUMENT_H_
