// Many processes that want the same lock, as on many hosts, and what each of them saw.
#ifndef COORD_BENCH_CONTENDERS_H_
#define COORD_BENCH_CONTENDERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "coord/mutex.h"

namespace coord::bench {

// Of the steady clock, which all processes of a host share.
std::int64_t Nanoseconds();

// One acquisition, as its process saw it. Contenders of other languages write the same 32 bytes.
struct Turn {
  std::int64_t asked, got, released;
  int who;
};

// Acquires, stays for `section` us and releases, over and over, from `begin` until `end`.
std::vector<Turn> TakeTurns(const Mutex& mutex, std::int64_t begin, std::int64_t end, int section,
                            int who);

struct Crowd {
  // What to start; it gets the words URL NAME SECTION_US WHO FILE. It writes a byte to its standard
  // output when it is connected, takes turns for each line "BEGIN END" of its standard input and
  // writes a byte after that, and at the end of the input writes the turns of the last line to
  // FILE.
  std::vector<std::string> program = {"/proc/self/exe", "--contender"};
  std::string url;
  std::string directory;  // for the files
  std::string name;
  int size = 0;
  int section_us = 0;
  // When all have connected and had turns of each other, so that nobody connects or subscribes any
  // more.
  std::function<void()> warm = {};
};

// Starts the processes and has them take turns for so long, after a warm-up.
std::vector<Turn> RunCrowd(const Crowd& crowd, double seconds);

struct Outcome {
  std::size_t acquisitions = 0;
  double per_second = 0;
  double hand_off_p50_us = 0;  // from the release to another's return from Acquire
  double hand_off_p99_us = 0;
  double least_share = 0, largest_share = 0;
  double longest_wait_ms = 0;
};

Outcome Judge(std::vector<Turn> turns, int clients, double seconds);

}  // namespace coord::bench

#endif  // COORD_BENCH_CONTENDERS_H_
