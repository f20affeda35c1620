// The groups of targets, one file each.
#ifndef COORD_BENCH_TARGETS_H_
#define COORD_BENCH_TARGETS_H_

#include <string>

#include "bench/redis_server.h"
#include "bench/report.h"
#include "bench/slice.h"

namespace coord::bench {

struct Run {
  RedisServer& server;
  Effort effort;
  std::string program;  // the coord program; empty: not built
  Report& report;
};

void MeasureMutex(Run& run);
void MeasureServerCpu(Run& run);
void MeasureQuorum(Run& run);
void MeasureContended(Run& run);
void MeasureCounters(Run& run);
void MeasureLimiters(Run& run);
void MeasureInMemory(Run& run);
void MeasureMemoryCache(Run& run);
void MeasureLists(Run& run);
void MeasureJson(Run& run);
void MeasureClient(Run& run);
void MeasureDeployments(Run& run);
void MeasureNear(Run& run);
void MeasureRedisCache(Run& run);
void MeasureCompute(Run& run);
void MeasureHttp(Run& run);

// What MeasureClient starts as a process of its own: 64 callers of one client for a second; prints
// peak memory in KB.
int RunMemoryProbe(const std::string& url);

// What MeasureHttp starts as a process of its own: streams a response; prints by how many KB it
// grew.
int RunStreamProbe(const std::string& url);

// What MeasureContended starts, several at once: one client that wants the same lock as the others.
// The words are its own; see contenders.h.
int RunContender(char** words);

}  // namespace coord::bench

#endif  // COORD_BENCH_TARGETS_H_
