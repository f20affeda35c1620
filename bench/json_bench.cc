// One field compared and replaced, each caller in a document of its own: about 200 bytes, or 4 KB.
#include "bench/microbench.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::StrCat;

// A flat object of `members` strings around the field that changes.
std::string Document(std::int64_t members) {
  std::string text = "{";
  for (std::int64_t i = 0; i < members; ++i) {
    if (i == members / 2) text += R"("state":"idle",)";
    text += StrCat(R"("field)", i, R"(":"value of )", i, i + 1 < members ? R"(",)" : R"("})");
  }
  return text;
}

// Of the same length, so both ways cost the same.
constexpr std::string_view kStates[] = {R"("idle")", R"("busy")"};

void Sizes(benchmark::internal::Benchmark* benchmark) {
  OnTheServer(benchmark->ArgName("members")->Arg(7)->Arg(145));
}

void JsonCasCoord(benchmark::State& state) {
  const JsonDocument document(SharedClient(), StrCat("ours-", state.thread_index()));
  if (!document.Set(Document(state.range(0))).ok()) state.SkipWithError("cannot set");
  std::size_t now = 0;
  Repeat(state, [&] {
    const auto result = document.CompareAndSetField("/state", kStates[now], kStates[1 - now]);
    now = 1 - now;
    return result.ok() && result->applied();
  });
}
BENCHMARK(JsonCasCoord)->Name("JsonCas/coord")->Apply(Sizes);

void JsonCasHiredis(benchmark::State& state) {
  HiredisCaller caller(Server().socket_path());
  caller.Load(internal::kJsonCas);
  const std::string key = StrCat("coord:{them-", state.thread_index(), "}:json");
  if (caller.Command({"SET", key, Document(state.range(0))}) == nullptr) {
    state.SkipWithError("cannot set");
  }
  std::size_t now = 0;
  Repeat(state, [&] {
    const HiredisReply reply = caller.Run(
        internal::kJsonCas, {key}, {"1", "/state", kStates[now], "/state", kStates[1 - now]});
    now = 1 - now;
    return reply != nullptr && reply->integer == 1;
  });
}
BENCHMARK(JsonCasHiredis)->Name("JsonCas/hiredis")->Apply(Sizes);

}  // namespace
}  // namespace coord::bench
