// Google Benchmark over the wire and each primitive.
//
//   microbench [--json] [--same] [options of Google Benchmark, such as --benchmark_filter=Mutex]
//
// The server is on the first CPU and we are on the last, or with --same both on the first: unpinned
// numbers vary several-fold. --json is short for --benchmark_format=json.
#include "bench/microbench.h"

#include <cstdio>
#include <string_view>
#include <vector>

#include "bench/machine.h"

namespace coord::bench {
namespace {

int Main(int argc, char** argv) {
  static char json[] = "--benchmark_format=json";
  Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  std::vector<char*> arguments;
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--same") {
      mode = Mode::kSame;
    } else {
      arguments.push_back(word == "--json" ? json : argv[i]);
    }
  }
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  ApplyMode(mode, Server().pid());
  benchmark::AddCustomContext("mode", std::string(ModeName(mode)));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace

RedisServer& Server() {
  static RedisServer server;
  return server;
}

const Client& SharedClient() {
  static const Client client = [] {
    absl::StatusOr<Client> connected = Client::Connect(Server().url());
    if (!connected.ok()) Fatal(connected.status().ToString());
    return *std::move(connected);
  }();
  return client;
}

}  // namespace coord::bench

int main(int argc, char** argv) { return coord::bench::Main(argc, argv); }
