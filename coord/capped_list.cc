#include "coord/capped_list.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "coord/deployment/listening.h"
#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/once.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::Annotate;
using internal::CallLimits;
using internal::InvalidArgument;
using internal::MakeStatus;
using internal::Quoted;
using internal::Request;
using internal::Session;
using internal::StrCat;
using Overflow = CappedListOptions::Overflow;

constexpr char kKind = 'l';  // of fingerprints
constexpr std::int64_t kMaxItems = 1'000'000'000;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 40;
constexpr std::size_t kMaxPushItems = 4096;  // what a script can hand on in one call
constexpr std::size_t kMaxPushBytes = 64u << 20;

// How often a follower looks though nobody has woken it.
constexpr absl::Duration kBackstop = absl::Seconds(1);
constexpr absl::Duration kBackstopWithoutMessages = absl::Milliseconds(100);
// After this a follower that has not looked again is woken no more.
constexpr absl::Duration kInterest = absl::Seconds(5);
constexpr absl::Duration kRetry = absl::Milliseconds(100);
constexpr std::int64_t kFollowSlice = 1000;

std::string Milliseconds(std::optional<absl::Duration> time) {
  return time ? StrCat(internal::CeilMilliseconds(*time)) : "";
}

absl::Status CheckOptions(const CappedListOptions& options) {
  if (options.max_items < 1 || options.max_items > kMaxItems) {
    return InvalidArgument(
        StrCat("max_items is ", options.max_items, "; it must be 1 to ", kMaxItems));
  }
  if (options.max_bytes && (*options.max_bytes < 1 || *options.max_bytes > kMaxBytes)) {
    return InvalidArgument(
        StrCat("max_bytes is ", *options.max_bytes, "; it must be 1 to ", kMaxBytes));
  }
  if (options.max_age &&
      (*options.max_age <= absl::ZeroDuration() || *options.max_age > internal::kMaxDataTtl)) {
    return InvalidArgument(StrCat("max_age is ", internal::ToText(*options.max_age),
                                  "; it must be above 0 and at most ",
                                  internal::ToText(internal::kMaxDataTtl)));
  }
  return options.ttl ? internal::CheckDataTtl(*options.ttl) : absl::OkStatus();
}

absl::Status CheckSlice(std::string_view what, std::int64_t n) {
  if (n >= 1 && n <= CappedList::kMaxSlice) return absl::OkStatus();
  return InvalidArgument(StrCat(what, " is ", n, "; it must be 1 to ", CappedList::kMaxSlice));
}

absl::Status CheckSequence(std::int64_t sequence) {
  // Numbers are exact in scripts up to 2^53.
  constexpr std::int64_t kLast = std::int64_t{1} << 53;
  if (sequence >= 0 && sequence <= kLast) return absl::OkStatus();
  return InvalidArgument(StrCat("sequence is ", sequence, "; it must be 0 to ", kLast));
}

// All items as one text that no other items make.
std::string Joined(std::span<const std::string_view> items) {
  std::string text;
  for (std::string_view item : items) text += StrCat(item.size(), ":", item);
  return text;
}

// Of the script `name`, which answers with so many numbers.
absl::StatusOr<std::span<const Reply>> ReadNumbers(std::string_view name, const Reply& reply,
                                                   std::size_t count) {
  const std::span<const Reply> values = reply.items();
  if (values.size() == count) return values;
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat(name, " answered ", reply.ToDebugString()));
}

// After a push that made it this long, and then dropped what was too much.
PushResult Dropped(std::int64_t length, std::int64_t max_items, std::int64_t sequence) {
  const std::int64_t left = std::min(length, max_items);
  return {left, length - left, sequence, true};
}

absl::StatusOr<ListSlice> ReadSlice(Reply& reply) {
  std::vector<Reply>& values = reply.mutable_items();
  if (values.size() != 4) {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat("list_read answered ", reply.ToDebugString()));
  }
  ListSlice slice;
  slice.newest = values[0].integer();
  slice.missed = values[1].integer();
  std::int64_t number = values[2].integer();
  slice.items.reserve(values[3].items().size());
  for (Reply& item : values[3].mutable_items()) {
    slice.items.push_back({number++, std::move(item.mutable_text())});
  }
  return slice;
}

}  // namespace

CappedList::CappedList(Client client, std::string_view name, CappedListOptions options)
    : client_(std::move(client)), options_(options), name_(name) {
  const Session& session = internal::SessionOf(client_);
  absl::StatusOr<std::string> list = session.Key("list", name, "list");
  if (!list.ok()) {
    usable_ = list.status();
    return;
  }
  list_key_ = *std::move(list);
  record_key_ = *session.Key("list", name, "seq");
  times_key_ = *session.Key("list", name, "times");
  followers_key_ = *session.Key("list", name, "followers");
}

CappedList::CappedList(Client client, CappedListOptions options)
    : client_(std::move(client)), options_(options) {}

CappedList CappedList::OnKey(Client client, std::string_view key, CappedListOptions options) {
  CappedList list(std::move(client), options);
  list.list_key_ = key;
  if (key.empty() || key.size() > internal::kMaxName) {
    list.usable_ = InvalidArgument(
        StrCat("key has ", key.size(), " bytes; it must have 1 to ", internal::kMaxName));
  }
  return list;
}

std::string CappedList::Title() const {
  return name_.empty() ? StrCat("list on key ", Quoted(list_key_)) : StrCat("list ", Quoted(name_));
}

absl::Status CappedList::CheckRecorded(std::string_view what, std::string_view instead) const {
  if (!name_.empty()) return absl::OkStatus();
  return InvalidArgument(StrCat(Title(), " has no record, which ", what, " needs; ", instead));
}

absl::StatusOr<PushResult> CappedList::Push(std::string_view item, PushOptions options,
                                            CallOptions call) const {
  return Push(std::span<const std::string_view>(&item, 1), std::move(options), std::move(call));
}

absl::Status CappedList::CheckPush(std::span<const std::string_view> items,
                                   const PushOptions& options) const {
  if (!usable_.ok()) return usable_;
  if (absl::Status status = CheckOptions(options_); !status.ok()) return status;
  constexpr std::string_view kByName = "open the list by a name";
  if (options_.max_bytes || options_.max_age) {
    const std::string_view what = options_.max_bytes ? "max_bytes" : "max_age";
    if (absl::Status status = CheckRecorded(what, StrCat(kByName, ", or use max_items and ttl"));
        !status.ok()) {
      return status;
    }
  }
  if (options.operation_id) {
    if (absl::Status status = CheckRecorded("an operation id", kByName); !status.ok()) {
      return status;
    }
  }
  if (items.empty() || items.size() > kMaxPushItems) {
    return InvalidArgument(
        StrCat("a push of ", items.size(), " items; it must have 1 to ", kMaxPushItems));
  }
  std::size_t bytes = 0, largest = 0;
  for (std::string_view item : items) {
    bytes += item.size();
    largest = std::max(largest, item.size());
  }
  if (bytes > kMaxPushBytes) {
    return InvalidArgument(
        StrCat("a push of ", bytes, " bytes; it must have at most ", kMaxPushBytes));
  }
  const bool whole = options_.overflow == Overflow::kReject;
  if (whole && static_cast<std::int64_t>(items.size()) > options_.max_items) {
    return InvalidArgument(
        StrCat("a push of ", items.size(), " items never fits; max_items is ", options_.max_items));
  }
  const std::size_t least = whole ? bytes : largest;
  if (options_.max_bytes && static_cast<std::int64_t>(least) > *options_.max_bytes) {
    return InvalidArgument(StrCat(whole ? "a push of " : "an item of ", least,
                                  " bytes never fits; max_bytes is ", *options_.max_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<PushResult> CappedList::Push(std::span<const std::string_view> items,
                                            PushOptions options, CallOptions call) const {
  if (absl::Status status = CheckPush(items, options); !status.ok()) return status;
  if (name_.empty()) return PushPlain(items, call);
  if (options.operation_id || options_.max_bytes || options_.max_age ||
      options_.overflow == Overflow::kReject) {
    return Append(items, options, call);
  }
  const std::string max_items = StrCat(options_.max_items);
  const std::string ttl = Milliseconds(options_.ttl);
  const std::string_view keys[] = {list_key_, record_key_, followers_key_};
  std::vector<std::string_view> args = {max_items, ttl};
  args.insert(args.end(), items.begin(), items.end());
  const absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(Request::Call(internal::kListPush, keys, args), call);
  if (!reply.ok()) return Annotate(reply.status(), Title());
  if (reply->is_nil()) return Append(items, options, call);
  const auto count = static_cast<std::int64_t>(items.size());
  if (reply->is_integer()) return PushResult{options_.max_items, count, reply->integer(), true};
  const auto numbers = ReadNumbers("list_push", *reply, 2);
  if (!numbers.ok()) return numbers.status();
  return Dropped((*numbers)[0].integer(), options_.max_items, (*numbers)[1].integer());
}

absl::StatusOr<PushResult> CappedList::PushPlain(std::span<const std::string_view> items,
                                                 const CallOptions& call) const {
  const std::string max_items = StrCat(options_.max_items), ttl = Milliseconds(options_.ttl);
  const std::string_view keys[] = {list_key_};
  std::vector<std::string_view> args = {max_items, ttl};
  args.insert(args.end(), items.begin(), items.end());
  const bool whole = options_.overflow == Overflow::kReject;
  const absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      Request::Call(whole ? internal::kListFill : internal::kListAdd, keys, args), call);
  if (!reply.ok()) return Annotate(reply.status(), Title());
  if (!whole) return Dropped(reply->integer(), options_.max_items, 0);
  const auto numbers = ReadNumbers("list_fill", *reply, 2);
  if (!numbers.ok()) return numbers.status();
  return PushResult{(*numbers)[0].integer(), 0, 0, (*numbers)[1].integer() == 1};
}

absl::StatusOr<PushResult> CappedList::Append(std::span<const std::string_view> items,
                                              const PushOptions& options,
                                              const CallOptions& call) const {
  const std::string max_items = StrCat(options_.max_items), ttl = Milliseconds(options_.ttl),
                    max_bytes = options_.max_bytes ? StrCat(*options_.max_bytes) : "",
                    max_age = Milliseconds(options_.max_age), count = StrCat(items.size());
  const std::string_view overflow = options_.overflow == Overflow::kReject ? "reject" : "drop";
  Session& session = internal::SessionOf(client_);
  absl::StatusOr<std::optional<internal::Once>> once =
      internal::PrepareOnce(session, "list", name_, options.operation_id, kKind,
                            {max_items, ttl, max_bytes, max_age, overflow,
                             options.operation_id ? Joined(items) : std::string()});
  if (!once.ok()) return once.status();
  std::vector<std::string_view> keys = {list_key_, record_key_, times_key_, followers_key_};
  std::vector<std::string_view> args = {max_items, ttl, max_bytes, max_age, overflow, count};
  args.insert(args.end(), items.begin(), items.end());
  if (*once) (*once)->AppendTo(keys, args);
  const absl::StatusOr<Reply> reply =
      internal::ExecuteOnce(session, Request::Call(internal::kListAppend, keys, args), *once, call);
  if (!reply.ok()) return Annotate(reply.status(), Title());
  const auto numbers = ReadNumbers("list_append", *reply, 4);
  if (!numbers.ok()) return numbers.status();
  const std::span<const Reply> values = *numbers;
  return PushResult{values[0].integer(), values[1].integer(), values[2].integer(),
                    values[3].integer() == 1};
}

absl::StatusOr<std::optional<PushResult>> CappedList::Resolve(const OperationId& id,
                                                              CallOptions call) const {
  if (!usable_.ok()) return usable_;
  if (absl::Status status = CheckRecorded("Resolve", "open the list by a name"); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::optional<std::string>> kept =
      internal::ResolveOnce(internal::SessionOf(client_), "list", name_, id, kKind, call);
  if (!kept.ok()) return kept.status();
  if (!*kept) return std::optional<PushResult>();
  std::int64_t numbers[4] = {};  // "<length> <evicted> <sequence> <applied>"
  std::string_view rest = **kept;
  for (std::int64_t& number : numbers) {
    const auto blank = std::min(rest.find(' '), rest.size());
    const std::optional<std::int64_t> value = internal::ParseInt64(rest.substr(0, blank));
    if (!value) {
      return MakeStatus(absl::StatusCode::kDataLoss,
                        StrCat("operation ", id.text(), " has kept ", Quoted(**kept)));
    }
    number = *value;
    rest.remove_prefix(std::min(blank + 1, rest.size()));
  }
  return std::optional<PushResult>(PushResult{numbers[0], numbers[1], numbers[2], numbers[3] == 1});
}

absl::StatusOr<std::vector<std::string>> CappedList::Range(std::int64_t start, std::int64_t stop,
                                                           CallOptions call) const {
  if (!usable_.ok()) return usable_;
  const std::string from = StrCat(start), to = StrCat(stop);
  absl::StatusOr<Reply> reply = absl::UnknownError("");
  if (options_.max_age) {
    if (absl::Status status = CheckRecorded("max_age", "open the list by a name, or use ttl");
        !status.ok()) {
      return status;
    }
    if (absl::Status status = CheckOptions(options_); !status.ok()) return status;
    const std::string age = Milliseconds(options_.max_age);
    reply = internal::SessionOf(client_).Execute(
        internal::Bind(internal::kListRange, {list_key_, record_key_, times_key_}, {from, to, age}),
        call);
  } else {
    reply = client_.Command({"LRANGE", list_key_, from, to}, call);
  }
  if (!reply.ok()) return Annotate(reply.status(), Title());
  std::vector<std::string> items;
  items.reserve(reply->items().size());
  for (Reply& item : reply->mutable_items()) items.push_back(std::move(item.mutable_text()));
  return items;
}

absl::StatusOr<ListSlice> CappedList::Newest(std::int64_t n, CallOptions call) const {
  if (!usable_.ok()) return usable_;
  if (absl::Status status = CheckSlice("n", n); !status.ok()) return status;
  if (name_.empty()) {
    absl::StatusOr<std::vector<std::string>> items = Range(-n, -1, std::move(call));
    if (!items.ok()) return items.status();
    ListSlice slice;
    for (std::string& item : *items) slice.items.push_back({0, std::move(item)});
    return slice;
  }
  const std::string limit = StrCat(n);
  const std::string_view keys[] = {list_key_, record_key_, times_key_, followers_key_};
  const std::string_view args[] = {"", limit};
  absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(Request::Call(internal::kListRead, keys, args), call);
  if (!reply.ok()) return Annotate(reply.status(), Title());
  return ReadSlice(*reply);
}

absl::StatusOr<ListSlice> CappedList::Since(std::int64_t sequence, std::int64_t max_items,
                                            CallOptions call) const {
  if (!usable_.ok()) return usable_;
  if (absl::Status status = CheckRecorded("Since", "use Newest or Range"); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckSequence(sequence); !status.ok()) return status;
  if (absl::Status status = CheckSlice("max_items", max_items); !status.ok()) return status;
  const std::string after = StrCat(sequence), limit = StrCat(max_items);
  const std::string_view keys[] = {list_key_, record_key_, times_key_, followers_key_};
  const std::string_view args[] = {after, limit};
  absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(Request::Call(internal::kListRead, keys, args), call);
  if (!reply.ok()) return Annotate(reply.status(), Title());
  return ReadSlice(*reply);
}

absl::Status CappedList::Follow(std::int64_t sequence,
                                const std::function<bool(const ListSlice&)>& receive,
                                std::stop_token stop) const {
  if (!usable_.ok()) return usable_;
  if (absl::Status status = CheckRecorded("Follow", "open the list by a name, or ask with Newest");
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckSequence(sequence); !status.ok()) return status;
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  // Channels are a process's own, and so the id need not be more; short ones cost pushes less.
  static std::atomic<std::uint64_t> followers{0};
  const std::string id = StrCat("f", ++followers);
  internal::Listening messages(*session, id);
  const std::shared_ptr<internal::Ear> ear = session->EarOf(name_);
  const auto wake = [&messages] { messages.Wake(); };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (stop.stop_possible()) on_stop.emplace(stop, wake);
  const std::string limit = StrCat(kFollowSlice), interest = Milliseconds(kInterest);
  const std::string_view keys[] = {list_key_, record_key_, times_key_, followers_key_};
  // What the script has room for.
  const std::string message = StrCat(id, " pushed");
  const bool wakeable = message.size() <= 255 && ear->channel().size() <= 65'535;
  while (!stop.stop_requested()) {
    const std::string after = StrCat(sequence);
    const bool listening = wakeable && ear->listening();
    std::vector<std::string_view> args = {after, limit};
    if (listening) args.insert(args.end(), {message, ear->channel(), interest});
    absl::StatusOr<Reply> reply =
        session->Execute(Request::Call(internal::kListRead, keys, args),
                         CallLimits{internal::DeadlineAfter(session->options().timeout), stop});
    absl::Duration pause = kRetry;
    if (reply.ok()) {
      absl::StatusOr<ListSlice> slice = ReadSlice(*reply);
      if (!slice.ok()) return slice.status();
      if (!slice->items.empty() || slice->missed > 0) {
        sequence = slice->items.empty() ? slice->newest : slice->items.back().sequence;
        if (!receive(*slice)) return absl::OkStatus();
        continue;
      }
      if (slice->newest > 0 && slice->newest < sequence) {
        // The server has lost the list, and its clock is behind: all there is is new.
        sequence = 0;
        continue;
      }
      if (wakeable && !listening) {
        ear->Listen(CallLimits{internal::DeadlineAfter(kBackstop), stop});
        // What has come meanwhile was told to nobody.
        if (ear->listening()) continue;
      }
      const bool told = wakeable && ear->subscribed();
      pause = told ? kBackstop : kBackstopWithoutMessages;
    } else {
      const bool passing = coord::IsUnavailable(reply.status()) || IsOutcomeUnknown(reply.status());
      if (!stop.stop_requested() && !passing) return Annotate(reply.status(), Title());
    }
    if (!stop.stop_requested()) messages.Sleep(internal::DeadlineAfter(pause));
  }
  return MakeStatus(absl::StatusCode::kCancelled, StrCat("stopped while following ", Title()));
}

}  // namespace coord
