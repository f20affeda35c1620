// Feeds the same bytes whole, in two halves and byte by byte, which must make no difference, and
// compares with hiredis's reader where the bytes are RESP2.
//
// hiredis 0.14 and we differ on purpose in these, and only these:
//   - RESP3 types, and more than 7 levels of nesting, are errors to hiredis;
//   - limits are ours alone (so hiredis, which allocates what is declared, never sees what they
//   refuse);
//   - hiredis takes a lone CR or LF inside a line, and does not look at what ends a bulk string;
//   - ":+1" and ":01" are integers in the protocol's specification, and errors to hiredis.
#include <hiredis/hiredis.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "coord/reply.h"
#include "coord/wire/resp.h"

namespace coord::internal {
namespace {

using Kind = Reply::Kind;
using Outcome = RespParser::Outcome;

// Small enough for short inputs to reach each of them.
constexpr RespLimits kTight{
    .max_depth = 5, .max_elements = 64, .max_bulk = 200, .max_total = 600, .max_line = 48};

[[noreturn]] void Disagree(const char* what, std::string_view ours, std::string_view theirs) {
  std::fprintf(stderr, "resp_fuzz: %s: %s against %s\n", what, Quoted(ours).c_str(),
               Quoted(theirs).c_str());
  std::abort();
}

// Bit by bit: a NaN equals itself.
bool Same(const Reply& a, const Reply& b) {
  const double numbers[] = {a.number(), b.number()};
  return a.kind() == b.kind() && a.integer() == b.integer() && a.text() == b.text() &&
         std::memcmp(&numbers[0], &numbers[1], sizeof(double)) == 0 &&
         std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), Same);
}

struct Result {
  std::vector<Reply> replies;
  std::string error;  // empty when the parser wants more
};

void Feed(RespParser& parser, std::string_view bytes, Result& result) {
  const std::span<char> room = parser.Prepare(bytes.size());
  if (room.size() < bytes.size()) Disagree("Prepare gave too little", "", "");
  // What is beyond the bytes that come must not matter.
  std::memset(room.data(), '\n', std::min(room.size(), bytes.size() + 64));
  std::copy(bytes.begin(), bytes.end(), room.begin());
  parser.Commit(bytes.size());
  Reply reply;
  Outcome outcome;
  while ((outcome = parser.Next(reply)) == Outcome::kReply) {
    result.replies.push_back(std::move(reply));
  }
  if (outcome == Outcome::kError) result.error = std::string(FromAbsl(parser.error().message()));
}

Result ParseInPieces(std::string_view bytes, std::size_t piece, const RespLimits& limits) {
  RespParser parser(limits);
  Result result;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
    Feed(parser, bytes.substr(0, piece), result);
  }
  return result;
}

void CheckSplits(std::string_view bytes, const Result& whole, const RespLimits& limits) {
  for (const std::size_t piece : {(bytes.size() + 1) / 2, std::size_t{1}}) {
    const Result split = ParseInPieces(bytes, std::max<std::size_t>(piece, 1), limits);
    if (split.error != whole.error) Disagree("errors of a split", split.error, whole.error);
    if (!std::equal(split.replies.begin(), split.replies.end(), whole.replies.begin(),
                    whole.replies.end(), Same)) {
      Disagree("replies of a split", StrCat(split.replies.size()), StrCat(whole.replies.size()));
    }
  }
}

bool SameAsHiredis(const Reply& ours, const redisReply& theirs) {
  switch (theirs.type) {
    case REDIS_REPLY_NIL:
      return ours.is_nil();
    case REDIS_REPLY_INTEGER:
      return ours.is_integer() && ours.integer() == theirs.integer;
    case REDIS_REPLY_STATUS:
      return ours.kind() == Kind::kStatus &&
             ours.text() == std::string_view(theirs.str, theirs.len);
    case REDIS_REPLY_ERROR:
      return ours.is_error() && ours.text() == std::string_view(theirs.str, theirs.len);
    case REDIS_REPLY_STRING:
      return ours.is_string() && ours.text() == std::string_view(theirs.str, theirs.len);
    case REDIS_REPLY_ARRAY: {
      if (!ours.is_array() || ours.items().size() != theirs.elements) return false;
      for (std::size_t i = 0; i < theirs.elements; ++i) {
        if (!SameAsHiredis(ours.items()[i], *theirs.element[i])) return false;
      }
      return true;
    }
    default:
      return false;
  }
}

bool ContainsAny(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [text](std::string_view part) {
    return text.find(part) != std::string_view::npos;
  });
}

// Whether hiredis refuses there what we accept.
bool IsStricterThere(std::string_view error) {
  constexpr std::string_view kType = "Protocol error, got \"";
  if (error.starts_with(kType)) {
    return std::string_view("_,#(!=%~>|").find(error.substr(kType.size())[0]) !=
           std::string_view::npos;
  }
  return ContainsAny(error, {"No support for nested", "Bad integer value"});
}

// Whether we refuse what hiredis accepts.
bool IsStricterHere(std::string_view error) {
  return ContainsAny(error, {"longer than", "more than", "nested deeper", "does not end in CRLF",
                             "without CR", "without line feed"});
}

void CheckAgainstHiredis(std::string_view bytes, const Result& ours) {
  const auto free_reader = [](redisReader* reader) { redisReaderFree(reader); };
  const std::unique_ptr<redisReader, decltype(free_reader)> reader(redisReaderCreate());
  redisReaderFeed(reader.get(), bytes.data(), bytes.size());
  // hiredis reads no further than it is asked to, so it never sees what follows an error of ours.
  const std::size_t asked = ours.replies.size() + (IsStricterHere(ours.error) ? 0 : 1);
  for (std::size_t i = 0; i < asked; ++i) {
    void* got = nullptr;
    const bool failed = redisReaderGetReply(reader.get(), &got) != REDIS_OK;
    const auto free_reply = [](void* reply) { freeReplyObject(reply); };
    const std::unique_ptr<void, decltype(free_reply)> reply(got);
    if (failed && IsStricterThere(reader->errstr)) return;
    if (i < ours.replies.size()) {
      if (failed) Disagree("hiredis refuses", ours.replies[i].ToDebugString(), reader->errstr);
      if (got == nullptr) Disagree("hiredis wants more", ours.replies[i].ToDebugString(), "");
      if (!SameAsHiredis(ours.replies[i], *static_cast<redisReply*>(got))) {
        Disagree("hiredis reads something else", ours.replies[i].ToDebugString(), "");
      }
    } else {
      if (got != nullptr) Disagree("hiredis has a reply", ours.error, "");
      if (failed != !ours.error.empty()) Disagree("errors", ours.error, reader->errstr);
    }
  }
}

}  // namespace
}  // namespace coord::internal

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coord::internal;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Result roomy = ParseInPieces(bytes, size, {});
  CheckSplits(bytes, roomy, {});
  const Result tight = ParseInPieces(bytes, size, kTight);
  CheckSplits(bytes, tight, kTight);
  CheckAgainstHiredis(bytes, tight);
  return 0;
}
