// The examples of README.md, or of cache/README.md in the cache's test, compiled as they stand
// there; those with an HTTP session in its own test. See tests/readme_examples.cmake.
#ifndef COORD_TESTS_SUPPORT_README_EXAMPLE_H_
#define COORD_TESTS_SUPPORT_README_EXAMPLE_H_

#include <string>
#include <string_view>
#include <vector>

#include "coord/client.h"

namespace coord::testing {

struct ReadmeExample {
  int line = 0;
  void (*run)(const Client& client) = nullptr;
  std::string text;
};

const std::vector<ReadmeExample>& ReadmeExamples();

// "http://127.0.0.1:PORT", where the examples ask for pages; defined by the test that has such.
std::string ExampleOrigin();

// All white space as one blank.
std::string OnOneLine(std::string_view text);
// What the comments "// -> ..." of an example say, one after the other.
std::string ClaimedOutput(const std::string& text);

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_README_EXAMPLE_H_
