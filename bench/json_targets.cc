// Compare-and-set of JSON fields.
#include "bench/targets.h"

namespace coord::bench {

void MeasureJson(Run&) {}

}  // namespace coord::bench
