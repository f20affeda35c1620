// Tests that cut cables and mount small disks, in namespaces of their own: nobody else notices, and
// nothing is left when they end.
//
//   class CableTest : public OwnNamespacesTest {};
//   TEST_F(CableTest, CutsIt) {
//     if (RanInside()) return;
//     ...  // a network without any link, mounts that nobody else sees, and the rights of root
//   }
#ifndef COORD_TESTS_SUPPORT_OWN_NAMESPACES_H_
#define COORD_TESTS_SUPPORT_OWN_NAMESPACES_H_

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/process.h"

namespace coord::testing {

// This process is one that RanInside() has started.
bool InOwnNamespaces();

class OwnNamespacesTest : public ::testing::Test {
 protected:
  // Runs the present test once more in a process of its own with a network and mounts of its own,
  // makes its outcome this one's, and returns true: there is nothing more to do. False in that
  // process. Where the machine does not allow it, the test is skipped and says why.
  bool RanInside();
};

// Looks in the places of an administrator's programs too, which PATH need not name.
ProcessResult RunSystemProgram(std::vector<std::string> argv);

// Whether there is such a program.
bool HasSystemProgram(const std::string& name);

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_OWN_NAMESPACES_H_
