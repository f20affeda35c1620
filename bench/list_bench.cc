// One item pushed to a list that is full, each caller to a list of its own.
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
  Repeat(state, [&] {
    const HiredisReply reply =
        caller.Run(internal::kListPush, {list, sequence}, {"100", "", kItem});
    return reply != nullptr && reply->elements == 3;
  });
}
BENCHMARK(ListPushHiredis)->Name("ListPush/hiredis")->Apply(OnTheServer);

}  // namespace
}  // namespace coord::bench
