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
// the whole document. The token "-" stands for what comes behind an array's last element, so it is
// refused in tests.
//
// Texts that the caller hands over are checked whole (kInvalidArgument; nothing is sent): strict
// JSON, no name twice in an object, at most 16 MiB and 128 levels deep. What is stored is checked
// where a script reads it: what stands before the values that the paths name, those values, what
// follows them, and how the document ends.
#ifndef COORD_JSON_DOCUMENT_H_
#define COORD_JSON_DOCUMENT_H_

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/operation_id.h"
#include "coord/options.h"

namespace coord {

namespace internal {
struct JsonCall;
}

// What must be the case before a change.
struct JsonTest {
  enum class Operator {
    kEquals,
    kNotEquals,  // also where there is no value
    kLess,       // a number less than `expected`, or a string before it, byte by byte of what it
                 // means; false of all else
    kGreater,
    kSameText,  // the very bytes, cheap also for whole documents
  };
  std::string path;
  // A JSON text; nullopt: none, so kEquals and kSameText want the value absent, kNotEquals present.
  std::optional<std::string> expected;
  Operator op = Operator::kEquals;
};

// `value`, a JSON text, comes to stand at `path`; nullopt removes what is there, if anything is. A
// member that its object does not have yet is added at the object's end, "-" is the place behind an
// array's last element; below something that does not exist, or beyond the end of an array, nothing
// can be set.
struct JsonAssignment {
  std::string path;
  std::optional<std::string> value;
};

// A change that is made whole or not at all.
struct JsonChange {
  // One of these lists must hold whole. Empty: the document must only be there. So to take over a
  // job that is free, or whose owner has not been heard of since a moment:
  //   {{{"/state", "\"free\""}},
  //    {{"/state", "\"taken\""}, {"/seen", "1700000000", JsonTest::Operator::kLess}}}
  std::vector<std::vector<JsonTest>> when = {};
  // One after the other, so that a later one sees what an earlier one did. The path "" is the whole
  // document; to remove that must be the only assignment.
  std::vector<JsonAssignment> set = {};
  // How long the document is kept from now on; InfiniteDuration: for ever; nullopt leaves the time
  // to live that it has. In whole milliseconds, rounded up.
  std::optional<absl::Duration> ttl = std::nullopt;
  // Applied once, however often it is asked for; see operation_id.h. The answer is kept whichever
  // it is; of a value above 1 KB that was in the way, only that it was there.
  std::optional<OperationId> operation_id = std::nullopt;
};

// How a compare-and-set ended. None of the three is an error.
struct CasResult {
  enum class Outcome {
    kApplied,
    kMismatch,  // the document is there, and a test failed
    kMissing,   // there is no document
  };
  Outcome outcome = Outcome::kMissing;
  // With kMismatch: which test failed, the first counting 0 (of several lists of tests: of the
  // first), and the text of the value at its path as it is stored; nullopt when there is none.
  std::size_t failed_test = 0;
  std::optional<std::string> current = std::nullopt;
  // There was a value, but it is not told: the repeated answer to an operation id.
  bool omitted = false;

  bool applied() const { return outcome == Outcome::kApplied; }
  explicit operator bool() const { return applied(); }
  friend bool operator==(const CasResult&, const CasResult&) = default;
};

struct JsonSetOptions {
  // How long the document is kept from now on; InfiniteDuration: for ever; nullopt leaves the time
  // to live that the key has.
  std::optional<absl::Duration> ttl = std::nullopt;
};

struct JsonUpdateOptions {
  // How often it is tried while others keep changing the document; 1 to 1,000.
  int max_attempts = 32;
  // As JsonChange::ttl.
  std::optional<absl::Duration> ttl = std::nullopt;
  // Each attempt has an operation id of its own, so that a lost reply cannot make the change twice.
  // Without, it costs the server half as much, and a lost reply is reported (IsOutcomeUnknown).
  bool exactly_once = true;
};

// Thread-safe; cheap to make and to copy.
//
// Errors beside those that every call has: kDataLoss when what is stored is not JSON,
// kFailedPrecondition when the key holds another Redis type, when the document repeats a name on a
// path or in a compared object, nests deeper than 128 levels or would grow beyond 16 MiB, or when a
// path to be set leads nowhere. In all these cases nothing was written. Calls that write are not
// repeated after an unknown outcome (IsOutcomeUnknown): a second run would find the first one's
// result. Apply with an operation id is, and Update.
class JsonDocument {
 public:
  // Any bytes, 1 to 512, not starting with '}'. A name that breaks this is reported by each call.
  JsonDocument(Client client, std::string_view name);
  // The document under exactly this Redis key, which other programs may share; 1 to 512 bytes. In a
  // Redis Cluster its operation ids need a key without '}', or with a hash tag.
  static JsonDocument OnKey(Client client, std::string_view key);

  // The stored text as it is; nullopt when there is no document. One round trip.
  absl::StatusOr<std::optional<std::string>> Get(const CallOptions& options = {}) const;

  // Stores the document whatever the key held before, unless that is no string. One round trip.
  absl::Status Set(std::string_view document, const JsonSetOptions& set = {},
                   const CallOptions& options = {}) const;

  // Stores the document if there is none; otherwise a mismatch with the one that is there. One
  // round trip, as all of the following.
  absl::StatusOr<CasResult> CreateIfAbsent(std::string_view document,
                                           const JsonSetOptions& set = {},
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

  // Any change. At most 128 tests in all lists together and 128 assignments; their texts together
  // at most 32 MiB.
  absl::StatusOr<CasResult> Apply(const JsonChange& change, const CallOptions& options = {}) const;

  // What became of an Apply with this id: its result; or nullopt when it has not been run, and then
  // it never will be. For as long as the window.
  absl::StatusOr<std::optional<CasResult>> Resolve(const OperationId& id,
                                                   const CallOptions& options = {}) const;

  // What `change` makes of the document (nullopt: there is none) is stored, if nobody else has
  // changed it in between; else it is asked again with the new document, after a random pause.
  // `change` runs in this thread and should do nothing else. Its error ends it and is returned; the
  // same text again is stored all the same, unless it is the very same bytes and no ttl is given.
  // Returns the text that is stored now. kAborted when others were quicker max_attempts times;
  // nothing was written then. Two round trips an attempt.
  using Edit =
      std::function<absl::StatusOr<std::string>(const std::optional<std::string>& document)>;
  absl::StatusOr<std::string> Update(const Edit& change, const JsonUpdateOptions& update = {},
                                     const CallOptions& options = {}) const;

 private:
  JsonDocument(Client client, std::string_view name, absl::StatusOr<std::string> key);
  absl::StatusOr<CasResult> Run(internal::JsonCall call,
                                const std::optional<OperationId>& operation_id,
                                const CallOptions& options) const;
  absl::Status Named(const absl::Status& status) const;

  Client client_;
  std::string name_;  // for messages, and where operation ids are kept
  absl::StatusOr<std::string> key_;
};

}  // namespace coord

#endif  // COORD_JSON_DOCUMENT_H_
