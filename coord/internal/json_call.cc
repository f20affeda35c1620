#include "coord/internal/json_call.h"

#include <cstddef>
#include <utility>

#include "coord/internal/json_text.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

using Operator = JsonTest::Operator;
using Outcome = CasResult::Outcome;

constexpr std::size_t kMaxSteps = 128;
constexpr std::size_t kMaxCallBytes = 2 * kJsonMaxBytes;

absl::Status Precondition(std::string_view message) {
  return MakeStatus(absl::StatusCode::kFailedPrecondition, message);
}

// What stands before an expected value.
std::string_view Mark(Operator op) {
  switch (op) {
    case Operator::kEquals:
      return "";
    case Operator::kNotEquals:
      return "!";
    case Operator::kLess:
      return "<";
    case Operator::kGreater:
      return ">";
    case Operator::kSameText:
      return "=";
  }
  return "";
}

absl::Status CheckStep(std::string_view what, std::string_view path,
                       std::optional<std::string_view> value, std::size_t& total) {
  const absl::StatusOr<std::size_t> depth = PointerDepth(path);
  if (!depth.ok()) return depth.status();
  if (!value) return absl::OkStatus();
  total += value->size();
  if (total > kMaxCallBytes) {
    return InvalidArgument(StrCat("the values of one call have more than ", kMaxCallBytes,
                                  " bytes, which is the limit for all of them together"));
  }
  return CheckJson(StrCat(what, " for the path ", Quoted(path)), *value, *depth);
}

absl::Status CheckTest(const JsonTestView& test, std::size_t& total) {
  if (test.op == Operator::kSameText && test.expected) {
    // Any bytes, as they were read.
    total += test.expected->size();
    return CheckStep("the expected value", test.path, std::nullopt, total);
  }
  const absl::Status status = CheckStep("the expected value", test.path, test.expected, total);
  if (!status.ok()) return status;
  if (test.op != Operator::kLess && test.op != Operator::kGreater) return status;
  const char first = test.expected ? test.expected->front() : '\0';
  if (first == '"' || first == '-' || (first >= '0' && first <= '9')) return absl::OkStatus();
  return InvalidArgument(StrCat("the test of the path ", Quoted(test.path),
                                " asks for less or greater than ",
                                test.expected ? Quoted(*test.expected) : "nothing",
                                "; only numbers and strings, without white space before them, "
                                "have an order"));
}

// lua/json_cas.lua: {-2, reason, number}.
absl::Status Refusal(std::string_view reason, std::int64_t number) {
  if (reason == "json") {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat("what is stored is not JSON, at byte ", number));
  }
  if (reason == "duplicate") {
    return Precondition(StrCat("the stored document repeats a name in one object, at byte ", number,
                               "; which one is meant cannot be told"));
  }
  if (reason == "depth") {
    return Precondition(StrCat("the stored document is nested more than ", kJsonMaxDepth,
                               " levels deep, at byte ", number));
  }
  if (reason == "exponent") {
    return Precondition(
        StrCat("a number with an exponent of more than 15 digits is stored at byte ", number,
               "; it cannot be compared"));
  }
  if (reason == "size") {
    return Precondition(StrCat("the document would have ", number, " bytes; at most ",
                               kJsonMaxBytes, " are allowed"));
  }
  if (reason == "path") {
    return Precondition(StrCat("assignment ", number, " (the first is 1) has a path whose parent ",
                               "does not exist, or that lies beyond the end of an array"));
  }
  if (reason == "dash") {
    return Precondition(StrCat("test or removal ", number, " (the first is 1) has the path ",
                               "token \"-\" for an array; name an element by its number"));
  }
  return MakeStatus(absl::StatusCode::kInternal,
                    StrCat("the script refused for an unknown reason: ", reason));
}

CasResult Mismatch(std::int64_t number) {
  return {Outcome::kMismatch, static_cast<std::size_t>(number - 1)};
}

}  // namespace

absl::StatusOr<std::string> EncodeJsonTtl(absl::Duration ttl) {
  if (ttl == absl::InfiniteDuration()) return std::string("0");
  if (ttl <= absl::ZeroDuration() || ttl > absl::Hours(24 * 365 * 100)) {
    return InvalidArgument(StrCat("the ttl is ", ToText(ttl),
                                  "; it must be above zero and at most 100 years, or infinite"));
  }
  return StrCat(absl::ToInt64Milliseconds(absl::Ceil(ttl, absl::Milliseconds(1))));
}

absl::StatusOr<JsonCall> EncodeJsonCall(std::span<const std::span<const JsonTestView>> when,
                                        std::span<const JsonAssignmentView> assignments,
                                        std::optional<absl::Duration> ttl) {
  JsonCall call;
  std::size_t total = 0;
  std::size_t tests = 0;
  call.args.emplace_back();  // how many tests
  for (const std::span<const JsonTestView> list : when) {
    if (list.empty()) {
      return InvalidArgument("a list of tests is empty; to have none, give no list");
    }
    if (tests > 0) {
      call.simple = false;
      call.args.insert(call.args.end(), {"", "|"});
      ++tests;
    }
    for (const JsonTestView& test : list) {
      if (absl::Status status = CheckTest(test, total); !status.ok()) return status;
      call.args.push_back(test.path);
      const std::string_view expected = test.expected.value_or("");  // no JSON text is empty
      if (test.op == Operator::kEquals || (test.op == Operator::kSameText && !test.expected)) {
        call.args.push_back(expected);
      } else {
        call.simple = false;
        call.args.push_back(call.owned.emplace_back(StrCat(Mark(test.op), expected)));
      }
      ++tests;
    }
  }
  if (tests == 0) call.simple = false;
  for (const JsonAssignmentView& assignment : assignments) {
    absl::Status status = CheckStep("the value", assignment.path, assignment.value, total);
    if (!status.ok()) return status;
    if (!assignment.value) {
      call.simple = false;
      if (assignment.path.empty() && (assignments.size() > 1 || ttl)) {
        return InvalidArgument("the whole document is removed and something else changed, too");
      }
    }
    call.args.push_back(assignment.path);
    call.args.push_back(assignment.value.value_or(""));
  }
  if (ttl) {
    call.simple = false;
    absl::StatusOr<std::string> text = EncodeJsonTtl(*ttl);
    if (!text.ok()) return text.status();
    call.args.insert(call.args.end(), {"ttl", call.owned.emplace_back(*std::move(text))});
  }
  if (tests > kMaxSteps || assignments.size() > kMaxSteps || (assignments.empty() && !ttl)) {
    return InvalidArgument(StrCat("a change takes at most ", kMaxSteps, " tests and 1 to ",
                                  kMaxSteps, " assignments; given are ", tests, " and ",
                                  assignments.size()));
  }
  call.args[0] = call.owned.emplace_back(StrCat(tests));
  return call;
}

absl::StatusOr<CasResult> DecodeJsonReply(Reply reply) {
  if (reply.is_integer() && reply.integer() == 1) return CasResult{Outcome::kApplied};
  if (reply.is_integer() && reply.integer() == -1) return CasResult{Outcome::kMissing};
  if (reply.is_array() && reply.items().size() >= 3) {
    std::vector<Reply>& items = reply.mutable_items();
    if (items[0].integer() == 0 && items[1].integer() > 0) {
      CasResult result = Mismatch(items[1].integer());
      result.omitted = items.size() > 3;
      if (items[2].is_string()) result.current = std::move(items[2].mutable_text());
      return result;
    }
    if (items[0].integer() == -2) {
      return Annotate(Refusal(items[1].text(), items[2].integer()), "nothing was written");
    }
  }
  return MakeStatus(absl::StatusCode::kInternal,
                    StrCat("an unexpected answer: ", reply.ToDebugString()));
}

absl::StatusOr<CasResult> DecodeKeptJsonAnswer(std::string_view kept) {
  if (kept == "1") return CasResult{Outcome::kApplied};
  if (kept == "-1") return CasResult{Outcome::kMissing};
  // "0 <number> =<text>", or a sign alone: '-' for absent, '~' for left out.
  const std::size_t blank = kept.size() > 2 ? kept.find(' ', 2) : kept.npos;
  if (blank != kept.npos && blank + 1 < kept.size() && kept.starts_with("0 ")) {
    const std::optional<std::int64_t> number = ParseInt64(kept.substr(2, blank - 2));
    if (number && *number > 0) {
      CasResult result = Mismatch(*number);
      result.omitted = kept[blank + 1] == '~';
      if (kept[blank + 1] == '=') result.current = std::string(kept.substr(blank + 2));
      return result;
    }
  }
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat("what was kept is ", Quoted(kept)));
}

}  // namespace coord::internal
