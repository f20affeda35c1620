// Numbers that keep processes from doing the same thing at the same moment. Nothing secret hangs on
// them.
//
// (Abseil's generators seed themselves from a pool inside its shared library, which the thread
// sanitizer cannot see into, so it reports races there that are none.)
#ifndef COORD_INTERNAL_JITTER_H_
#define COORD_INTERNAL_JITTER_H_

#include <sys/random.h>

#include <ctime>
#include <random>

namespace coord::internal {

class Jitter {
 public:
  Jitter() {
    unsigned seed = 0;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
      seed = static_cast<unsigned>(std::clock());
    }
    engine_.seed(seed);
  }
  explicit Jitter(unsigned seed) : engine_(seed) {}

  // Between 0 and 1, both included.
  double Next() {
    return static_cast<double>(engine_() - std::minstd_rand::min()) /
           static_cast<double>(std::minstd_rand::max() - std::minstd_rand::min());
  }

 private:
  std::minstd_rand engine_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_JITTER_H_
