// Real deployments for tests: those of `coord dev` (tools/dev/), where what fails ends the test.
//
//   const auto cluster = OrFatal(dev::Cluster::Start());
//   OrFatal(cluster->MigrateSlot(7, 1));
#ifndef COORD_TESTS_SUPPORT_DEPLOYMENT_H_
#define COORD_TESTS_SUPPORT_DEPLOYMENT_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/support/fatal.h"

namespace coord::testing {

// The value; ends the test program when there is none, since a deployment that does not do what it
// is told proves nothing about coord.
template <typename T>
T OrFatal(absl::StatusOr<T> value) {
  if (!value.ok()) Fatal(value.status().ToString());
  return *std::move(value);
}
inline void OrFatal(const absl::Status& status) {
  if (!status.ok()) Fatal(status.ToString());
}

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_DEPLOYMENT_H_
