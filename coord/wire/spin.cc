#include "coord/wire/spin.h"

#include <cstdio>

namespace coord::internal {

bool SpinningAffordable() {
  std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "re");
  if (file == nullptr) return true;
  long long quota = 0;
  long long period = 0;
  // "max 100000" where there is no quota: then the first number does not parse.
  const bool limited = std::fscanf(file, "%lld %lld", &quota, &period) == 2;
  std::fclose(file);
  return !limited || period <= 0 || quota >= 2 * period;
}

}  // namespace coord::internal
