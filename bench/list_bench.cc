// One item pushed to a list that is full, and ten read from it, each caller with a list of its own.
#include "bench/microbench.h"
#include "coord/capped_list.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::bench {
namespace {

constexpr std::string_view kItem = "2024-05-01T12:00:00Z web-3 deployed version 1.4.2 of checkout";

void ListPushCoord(benchmark::State& state) {
  const CappedList list(SharedClient(), internal::StrCat("ours-", state.thread_index()),
                        {.max_items = 100});
  Repeat(state, [&] { return list.Push(kItem).ok(); });
}
BENCHMARK(ListPushCoord)->Name("ListPush/coord")->Apply(OnTheServer);

void ListPushHiredis(benchmark::State& state) {
  HiredisCaller caller(Server().socket_path());
  caller.Load(internal::kListPush);
  const std::string list = internal::StrCat("coord:{them-", state.thread_index(), "}:list");
  const std::string sequence = internal::StrCat("coord:{them-", state.thread_index(), "}:seq");
  const std::string followers =
      internal::StrCat("coord:{them-", state.thread_index(), "}:followers");
  Repeat(state, [&] {
    const HiredisReply reply =
        caller.Run(internal::kListPush, {list, sequence, followers}, {"100", "", kItem});
    return reply != nullptr;
  });
}
BENCHMARK(ListPushHiredis)->Name("ListPush/hiredis")->Apply(OnTheServer);

void ListSinceCoord(benchmark::State& state) {
  const CappedList list(SharedClient(), internal::StrCat("read-", state.thread_index()),
                        {.max_items = 100});
  std::int64_t newest = 0;
  for (int i = 0; i < 100; ++i) {
    const absl::StatusOr<PushResult> pushed = list.Push(kItem);
    if (pushed.ok()) newest = pushed->sequence;
  }
  Repeat(state, [&] {
    const absl::StatusOr<ListSlice> slice = list.Since(newest - 10);
    return slice.ok() && slice->items.size() == 10;
  });
}
BENCHMARK(ListSinceCoord)->Name("ListSince/coord")->Apply(OnTheServer);

void ListSinceHiredis(benchmark::State& state) {
  HiredisCaller caller(Server().socket_path());
  caller.Load(internal::kListRead);
  const std::string name = internal::StrCat("read-them-", state.thread_index());
  const std::string key = internal::StrCat("coord:{", name, "}:");
  const CappedList list(SharedClient(), name, {.max_items = 100});
  std::int64_t newest = 0;
  for (int i = 0; i < 100; ++i) {
    const absl::StatusOr<PushResult> pushed = list.Push(kItem);
    if (pushed.ok()) newest = pushed->sequence;
  }
  const std::string after = internal::StrCat(newest - 10);
  Repeat(state, [&] {
    const HiredisReply reply =
        caller.Run(internal::kListRead,
                   {key + "list", key + "seq", key + "times", key + "followers"}, {after, "1000"});
    return reply != nullptr && reply->elements == 4;
  });
}
BENCHMARK(ListSinceHiredis)->Name("ListSince/hiredis")->Apply(OnTheServer);

}  // namespace
}  // namespace coord::bench
