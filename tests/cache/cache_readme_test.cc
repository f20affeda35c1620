// cache/README.md says what is so: its examples print what they say, and the tests that its table
// names are there.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "coord/client.h"
#include "coord/internal/strings.h"
#include "gtest/gtest.h"
#include "tests/support/readme_example.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord::testing {
namespace {

std::string FileText(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(CacheReadmeTest, EveryExamplePrintsWhatItsCommentsSayAndHasAtMostTenLines) {
  RedisServer server;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server.url()));
  ASSERT_GE(ReadmeExamples().size(), 6u);
  for (const ReadmeExample& example : ReadmeExamples()) {
    SCOPED_TRACE(internal::StrCat("cache/README.md:", example.line));
    ASSERT_OK(client.Command({"FLUSHALL"}));
    std::ostringstream printed;
    std::streambuf* const before = std::cout.rdbuf(printed.rdbuf());
    example.run(client);
    std::cout.rdbuf(before);
    EXPECT_NE(ClaimedOutput(example.text), "") << "an example without a claim";
    EXPECT_EQ(OnOneLine(printed.str()), ClaimedOutput(example.text));
    EXPECT_LE(std::count(example.text.begin(), example.text.end(), '\n') + 1, 10);
  }
}

// "Suite.Name" of every test in the sources.
std::set<std::string> TestNames() {
  std::set<std::string> names;
  const std::regex test(R"(\n(?:TEST|TEST_F|TEST_P|TYPED_TEST)\(\s*(\w+),\s*(\w+)\))");
  for (const char* const directory : {"/tests/cache", "/tests/http"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(COORD_SOURCE_DIR) + directory)) {
      const std::string text = FileText(entry.path());
      for (std::sregex_iterator at(text.begin(), text.end(), test), end; at != end; ++at) {
        names.insert(internal::StrCat((*at)[1].str(), ".", (*at)[2].str()));
      }
    }
  }
  return names;
}

TEST(CacheReadmeTest, EveryRowOfTheTableNamesATestThatIsThere) {
  const std::set<std::string> tests = TestNames();
  ASSERT_GE(tests.size(), 200u);
  std::istringstream lines(FileText(std::string(COORD_SOURCE_DIR) + "/cache/README.md"));
  bool inside = false;
  int rows = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line == "| their feature | our call | test |") inside = true;
    if (!inside || !line.starts_with("| ") || line.starts_with("| **") ||
        line.starts_with("| their")) {
      continue;
    }
    ++rows;
    const std::size_t last = line.rfind("| `");
    ASSERT_NE(last, std::string::npos) << line;
    const std::string name = line.substr(last + 3, line.rfind('`') - last - 3);
    const bool whole = !name.ends_with(".*");
    const std::string suite = name.substr(0, name.size() - (whole ? 0 : 1));
    EXPECT_TRUE(whole
                    ? tests.contains(name)
                    : std::any_of(tests.begin(), tests.end(),
                                  [&](const std::string& test) { return test.starts_with(suite); }))
        << line;
  }
  EXPECT_GE(rows, 60);
}

}  // namespace
}  // namespace coord::testing
