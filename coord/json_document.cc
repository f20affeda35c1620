#include "coord/json_document.h"

#include <utility>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/backoff.h"
#include "coord/internal/jitter.h"
#include "coord/internal/json_call.h"
#include "coord/internal/json_text.h"
#include "coord/internal/limits.h"
#include "coord/internal/once.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/waiting.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

// Of operation ids.
constexpr char kKind = 'j';

constexpr internal::BackoffLimits kPauses{absl::Milliseconds(1), absl::Milliseconds(50)};

// In a Redis Cluster, keys with this in braces lie where `key` does.
std::string_view HashTag(std::string_view key) {
  const std::size_t open = key.find('{');
  if (open == key.npos) return key;
  const std::size_t close = key.find('}', open + 1);
  return close == key.npos || close == open + 1 ? key : key.substr(open + 1, close - open - 1);
}

std::vector<internal::JsonTestView> Views(std::span<const JsonTest> tests) {
  std::vector<internal::JsonTestView> views;
  for (const JsonTest& test : tests) views.push_back({test.path, test.expected, test.op});
  return views;
}

std::vector<internal::JsonAssignmentView> Views(std::span<const JsonAssignment> assignments) {
  std::vector<internal::JsonAssignmentView> views;
  for (const JsonAssignment& one : assignments) views.push_back({one.path, one.value});
  return views;
}

// The one test and the one assignment of most calls.
absl::StatusOr<internal::JsonCall> EncodeOne(const internal::JsonTestView& test,
                                             const internal::JsonAssignmentView& assignment,
                                             std::optional<absl::Duration> ttl = std::nullopt) {
  const std::span<const internal::JsonTestView> tests(&test, 1);
  return internal::EncodeJsonCall({&tests, 1}, {&assignment, 1}, ttl);
}

}  // namespace

JsonDocument::JsonDocument(Client client, std::string_view name)
    : client_(std::move(client)),
      name_(name),
      key_(internal::SessionOf(client_).Key("document", name, "json")) {}

JsonDocument::JsonDocument(Client client, std::string_view name, absl::StatusOr<std::string> key)
    : client_(std::move(client)), name_(name), key_(std::move(key)) {}

JsonDocument JsonDocument::OnKey(Client client, std::string_view key) {
  if (key.empty() || key.size() > internal::kMaxName) {
    return {std::move(client), key,
            InvalidArgument(StrCat("the document's key has ", key.size(),
                                   " bytes; it must have 1 to ", internal::kMaxName))};
  }
  return {std::move(client), HashTag(key), std::string(key)};
}

absl::StatusOr<std::optional<std::string>> JsonDocument::Get(const CallOptions& options) const {
  if (!key_.ok()) return key_.status();
  absl::StatusOr<Reply> reply = client_.Command({"GET", *key_}, options);
  if (!reply.ok()) return Named(reply.status());
  if (reply->is_nil()) return std::optional<std::string>();
  return std::optional<std::string>(std::move(reply->mutable_text()));
}

absl::Status JsonDocument::Set(std::string_view document, const JsonSetOptions& set,
                               const CallOptions& options) const {
  if (!key_.ok()) return key_.status();
  std::string ttl;
  if (set.ttl) {
    absl::StatusOr<std::string> text = internal::EncodeJsonTtl(*set.ttl);
    if (!text.ok()) return text.status();
    ttl = *std::move(text);
  }
  if (absl::Status status = internal::CheckJson("the document", document); !status.ok()) {
    return status;
  }
  return Named(internal::SessionOf(client_)
                   .Execute(internal::Bind(internal::kJsonSet, {*key_}, {document, ttl}), options)
                   .status());
}

absl::StatusOr<CasResult> JsonDocument::CreateIfAbsent(std::string_view document,
                                                       const JsonSetOptions& set,
                                                       const CallOptions& options) const {
  absl::StatusOr<internal::JsonCall> call = EncodeOne({"", std::nullopt}, {"", document}, set.ttl);
  if (!call.ok()) return call.status();
  return Run(*std::move(call), std::nullopt, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSet(std::string_view path,
                                                      std::optional<std::string_view> expected,
                                                      std::string_view new_document,
                                                      const CallOptions& options) const {
  absl::StatusOr<internal::JsonCall> call = EncodeOne({path, expected}, {"", new_document});
  if (!call.ok()) return call.status();
  return Run(*std::move(call), std::nullopt, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSetField(std::string_view path,
                                                           std::optional<std::string_view> expected,
                                                           std::string_view value,
                                                           const CallOptions& options) const {
  absl::StatusOr<internal::JsonCall> call = EncodeOne({path, expected}, {path, value});
  if (!call.ok()) return call.status();
  return Run(*std::move(call), std::nullopt, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSetFields(
    std::span<const JsonTest> tests, std::span<const JsonAssignment> assignments,
    const CallOptions& options) const {
  const std::vector<internal::JsonTestView> list = Views(tests);
  const std::span<const internal::JsonTestView> when(list);
  absl::StatusOr<internal::JsonCall> call =
      internal::EncodeJsonCall({&when, 1}, Views(assignments), std::nullopt);
  if (!call.ok()) return call.status();
  return Run(*std::move(call), std::nullopt, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSetFields(
    std::initializer_list<JsonTest> tests, std::initializer_list<JsonAssignment> assignments,
    const CallOptions& options) const {
  return CompareAndSetFields(std::span(tests.begin(), tests.size()),
                             std::span(assignments.begin(), assignments.size()), options);
}

absl::StatusOr<CasResult> JsonDocument::Apply(const JsonChange& change,
                                              const CallOptions& options) const {
  std::vector<std::vector<internal::JsonTestView>> lists;
  for (const std::vector<JsonTest>& tests : change.when) lists.push_back(Views(tests));
  const std::vector<std::span<const internal::JsonTestView>> when(lists.begin(), lists.end());
  absl::StatusOr<internal::JsonCall> call =
      internal::EncodeJsonCall(when, Views(change.set), change.ttl);
  if (!call.ok()) return call.status();
  return Run(*std::move(call), change.operation_id, options);
}

absl::StatusOr<std::optional<CasResult>> JsonDocument::Resolve(const OperationId& id,
                                                               const CallOptions& options) const {
  if (!key_.ok()) return key_.status();
  const absl::StatusOr<std::optional<std::string>> kept =
      internal::ResolveOnce(internal::SessionOf(client_), "document", name_, id, kKind, options);
  if (!kept.ok()) return kept.status();
  if (!*kept) return std::optional<CasResult>();
  absl::StatusOr<CasResult> result = internal::DecodeKeptJsonAnswer(**kept);
  if (!result.ok()) return Named(result.status());
  return std::optional<CasResult>(*std::move(result));
}

absl::StatusOr<std::string> JsonDocument::Update(const Edit& change,
                                                 const JsonUpdateOptions& update,
                                                 const CallOptions& options) const {
  if (update.max_attempts < 1 || update.max_attempts > 1000) {
    return InvalidArgument(
        StrCat("max_attempts is ", update.max_attempts, "; it must be 1 to 1000"));
  }
  internal::Jitter jitter;
  for (int attempt = 1;; ++attempt) {
    absl::StatusOr<std::optional<std::string>> before = Get(options);
    if (!before.ok()) return before.status();
    absl::StatusOr<std::string> after = change(*before);
    if (!after.ok()) return after.status();
    if (*before && *after == **before && !update.ttl) return after;
    absl::StatusOr<internal::JsonCall> call =
        EncodeOne({"", *before, JsonTest::Operator::kSameText}, {"", *after}, update.ttl);
    if (!call.ok()) return call.status();
    std::optional<OperationId> id;
    if (update.exactly_once) id = OperationId::New();
    absl::StatusOr<CasResult> result = Run(*std::move(call), id, options);
    if (!result.ok()) return result.status();
    if (result->applied()) return after;
    if (attempt == update.max_attempts) {
      return Named(internal::MakeStatus(
          absl::StatusCode::kAborted,
          StrCat("others changed it in between ", attempt, " times; nothing was written")));
    }
    const internal::CallLimits limits{internal::DeadlineAfter(absl::Hours(1)), options.stop};
    const absl::Duration pause = internal::JitteredDelay(kPauses, attempt, jitter.Next());
    if (!internal::SleepUntil(internal::DeadlineAfter(pause), limits)) {
      return Named(internal::MakeStatus(absl::StatusCode::kCancelled,
                                        "stopped between two attempts; nothing was written"));
    }
  }
}

absl::StatusOr<CasResult> JsonDocument::Run(internal::JsonCall call,
                                            const std::optional<OperationId>& operation_id,
                                            const CallOptions& options) const {
  if (!key_.ok()) return key_.status();
  internal::Session& session = internal::SessionOf(client_);
  std::optional<internal::Once> once;
  if (operation_id) {
    std::vector<std::string_view> arguments = call.args;
    arguments.push_back(*key_);
    absl::StatusOr<std::optional<internal::Once>> prepared =
        internal::PrepareOnce(session, "document", name_, operation_id, kKind, arguments);
    if (!prepared.ok()) return prepared.status();
    once = *std::move(prepared);
  }
  std::vector<std::string_view> keys = {*key_};
  if (once) once->AppendTo(keys, call.args);
  const bool simple = call.simple && !once;
  absl::StatusOr<Reply> reply = internal::ExecuteOnce(
      session,
      simple ? internal::Request::Call(internal::kJsonCas, keys, call.args)
             : internal::Request::Call(internal::kJsonChange, keys, call.args),
      once, options);
  if (!reply.ok()) return Named(reply.status());
  absl::StatusOr<CasResult> result = internal::DecodeJsonReply(*std::move(reply));
  if (!result.ok()) return Named(result.status());
  return result;
}

absl::Status JsonDocument::Named(const absl::Status& status) const {
  return internal::Annotate(status, StrCat("document ", Quoted(name_)));
}

}  // namespace coord
