#include "coord/json_document.h"

#include <utility>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/json_text.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

constexpr std::size_t kMaxSteps = 128;
constexpr std::size_t kMaxCallBytes = 2 * internal::kJsonMaxBytes;

absl::Status Precondition(std::string_view message) {
  return internal::MakeStatus(absl::StatusCode::kFailedPrecondition, message);
}

absl::Status CheckStep(std::string_view what, std::string_view path,
                       std::optional<std::string_view> value, std::size_t& total) {
  const absl::StatusOr<std::size_t> depth = internal::PointerDepth(path);
  if (!depth.ok()) return depth.status();
  if (!value) return absl::OkStatus();
  total += value->size();
  if (total > kMaxCallBytes) {
    return InvalidArgument(StrCat("the values of one call have more than ", kMaxCallBytes,
                                  " bytes, which is the limit for all of them together"));
  }
  return internal::CheckJson(StrCat(what, " for the path ", Quoted(path)), *value, *depth);
}

// lua/json_cas.lua: {-2, reason, number}.
absl::Status Refusal(std::string_view reason, std::int64_t number) {
  if (reason == "json") {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("what is stored is not JSON, at byte ", number));
  }
  if (reason == "duplicate") {
    return Precondition(StrCat("the stored document repeats a name in one object, at byte ", number,
                               "; which one is meant cannot be told"));
  }
  if (reason == "depth") {
    return Precondition(StrCat("the stored document is nested more than ", internal::kJsonMaxDepth,
                               " levels deep, at byte ", number));
  }
  if (reason == "exponent") {
    return Precondition(
        StrCat("a number with an exponent of more than 15 digits is stored at byte ", number,
               "; it cannot be compared"));
  }
  if (reason == "size") {
    return Precondition(StrCat("the document would have ", number, " bytes; at most ",
                               internal::kJsonMaxBytes, " are allowed"));
  }
  if (reason == "path") {
    return Precondition(StrCat("assignment ", number, " (the first is 1) has a path whose parent ",
                               "does not exist, or that lies beyond the end of an array"));
  }
  if (reason == "dash") {
    return Precondition(StrCat("test or assignment ", number, " (the first is 1) has the path ",
                               "token \"-\" for an array; name an element by its number"));
  }
  return internal::MakeStatus(absl::StatusCode::kInternal,
                              StrCat("the script refused for an unknown reason: ", reason));
}

absl::StatusOr<CasResult> Decode(Reply reply) {
  using Outcome = CasResult::Outcome;
  if (reply.is_integer() && reply.integer() == 1) return CasResult{Outcome::kApplied};
  if (reply.is_integer() && reply.integer() == -1) return CasResult{Outcome::kMissing};
  std::vector<Reply>& items = reply.mutable_items();
  if (reply.is_array() && items.size() == 3) {
    if (items[0].integer() == 0 && items[1].integer() > 0) {
      CasResult result{Outcome::kMismatch, static_cast<std::size_t>(items[1].integer() - 1)};
      if (items[2].is_string()) result.current = std::move(items[2].mutable_text());
      return result;
    }
    if (items[0].integer() == -2) {
      return internal::Annotate(Refusal(items[1].text(), items[2].integer()),
                                "nothing was written");
    }
  }
  return internal::MakeStatus(absl::StatusCode::kInternal,
                              StrCat("an unexpected answer: ", reply.ToDebugString()));
}

}  // namespace

struct JsonDocument::TestView {
  std::string_view path;
  std::optional<std::string_view> expected;
};

struct JsonDocument::AssignmentView {
  std::string_view path;
  std::string_view value;
};

JsonDocument::JsonDocument(Client client, std::string_view name)
    : client_(std::move(client)),
      name_(name),
      key_(internal::SessionOf(client_).Key("document", name, "json")) {}

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
  std::string ttl = "0";
  if (set.ttl) {
    if (*set.ttl <= absl::ZeroDuration() || *set.ttl > absl::Hours(24 * 365 * 100)) {
      return InvalidArgument(StrCat("the ttl is ", internal::ToText(*set.ttl),
                                    "; it must be above zero and at most 100 years"));
    }
    ttl = StrCat(absl::ToInt64Milliseconds(absl::Ceil(*set.ttl, absl::Milliseconds(1))));
  }
  if (absl::Status status = internal::CheckJson("the document", document); !status.ok()) {
    return status;
  }
  return Named(internal::SessionOf(client_)
                   .Execute(internal::Bind(internal::kJsonSet, {*key_}, {document, ttl}), options)
                   .status());
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSet(std::string_view path,
                                                      std::optional<std::string_view> expected,
                                                      std::string_view new_document,
                                                      const CallOptions& options) const {
  const TestView test{path, expected};
  const AssignmentView assignment{"", new_document};
  return Run({&test, 1}, {&assignment, 1}, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSetField(std::string_view path,
                                                           std::optional<std::string_view> expected,
                                                           std::string_view value,
                                                           const CallOptions& options) const {
  const TestView test{path, expected};
  const AssignmentView assignment{path, value};
  return Run({&test, 1}, {&assignment, 1}, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSetFields(
    std::span<const JsonTest> tests, std::span<const JsonAssignment> assignments,
    const CallOptions& options) const {
  std::vector<TestView> test_views;
  for (const JsonTest& test : tests) test_views.push_back({test.path, test.expected});
  std::vector<AssignmentView> assignment_views;
  for (const JsonAssignment& assignment : assignments) {
    assignment_views.push_back({assignment.path, assignment.value});
  }
  return Run(test_views, assignment_views, options);
}

absl::StatusOr<CasResult> JsonDocument::CompareAndSetFields(
    std::initializer_list<JsonTest> tests, std::initializer_list<JsonAssignment> assignments,
    const CallOptions& options) const {
  return CompareAndSetFields(std::span(tests.begin(), tests.size()),
                             std::span(assignments.begin(), assignments.size()), options);
}

absl::StatusOr<CasResult> JsonDocument::Run(std::span<const TestView> tests,
                                            std::span<const AssignmentView> assignments,
                                            const CallOptions& options) const {
  if (!key_.ok()) return key_.status();
  if (tests.empty() || tests.size() > kMaxSteps || assignments.empty() ||
      assignments.size() > kMaxSteps) {
    return InvalidArgument(StrCat("a compare-and-set takes 1 to ", kMaxSteps, " tests and 1 to ",
                                  kMaxSteps, " assignments; given are ", tests.size(), " and ",
                                  assignments.size()));
  }
  const std::string count = StrCat(tests.size());
  std::size_t total = 0;
  std::vector<std::string_view> args = {count};
  args.reserve(1 + 2 * (tests.size() + assignments.size()));
  for (const TestView& test : tests) {
    absl::Status status = CheckStep("the expected value", test.path, test.expected, total);
    if (!status.ok()) return status;
    args.push_back(test.path);
    args.push_back(test.expected.value_or(""));  // no JSON text is empty
  }
  for (const AssignmentView& assignment : assignments) {
    absl::Status status = CheckStep("the value", assignment.path, assignment.value, total);
    if (!status.ok()) return status;
    args.push_back(assignment.path);
    args.push_back(assignment.value);
  }
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      internal::Bind(internal::kJsonCas, {*key_}, args), options);
  if (!reply.ok()) return Named(reply.status());
  absl::StatusOr<CasResult> result = Decode(*std::move(reply));
  if (!result.ok()) return Named(result.status());
  return result;
}

absl::Status JsonDocument::Named(const absl::Status& status) const {
  return internal::Annotate(status, StrCat("document ", Quoted(name_)));
}

}  // namespace coord
