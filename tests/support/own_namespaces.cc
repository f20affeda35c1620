#include "tests/support/own_namespaces.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/time/time.h"
#include "coord/internal/strings.h"

namespace coord::testing {
namespace {

constexpr char kInside[] = "COORD_TEST_OWN_NAMESPACES";
constexpr absl::Duration kPatience = absl::Seconds(120);

std::vector<std::string> Unshare() {
  std::vector<std::string> line = {"unshare", "--net", "--mount"};
  // Who is not root may be in a namespace where he is.
  if (geteuid() != 0) line.insert(line.end(), {"--user", "--map-root-user"});
  return line;
}

std::string SystemPath() {
  const char* const path = std::getenv("PATH");
  return internal::StrCat(path == nullptr ? "" : path, ":/usr/local/sbin:/usr/sbin:/sbin");
}

}  // namespace

bool InOwnNamespaces() { return std::getenv(kInside) != nullptr; }

bool OwnNamespacesTest::RanInside() {
  if (InOwnNamespaces()) return false;
  [&] {
    std::vector<std::string> line = Unshare();
    line.push_back("true");
    const ProcessResult allowed = RunProgram(line);
    if (!allowed.ok()) GTEST_SKIP() << "no namespaces for tests here: " << allowed.err;
    line.back() = std::filesystem::read_symlink("/proc/self/exe").string();
    const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
    line.push_back(internal::StrCat("--gtest_filter=", test.test_suite_name(), ".", test.name()));
    line.push_back("--gtest_color=no");
    const ProcessResult result = RunProgram(line, {.env = {{kInside, "1"}}}, kPatience);
    if (result.out.find("[  SKIPPED ]") != std::string::npos) GTEST_SKIP() << result.out;
    EXPECT_TRUE(result.ok()) << result.out << result.err;
    EXPECT_NE(result.out.find("[  PASSED  ] 1 test"), std::string::npos) << result.out;
  }();
  return true;
}

ProcessResult RunSystemProgram(std::vector<std::string> argv) {
  argv.insert(argv.begin(), {"env", internal::StrCat("PATH=", SystemPath())});
  return RunProgram(argv);
}

bool HasSystemProgram(const std::string& name) {
  return RunSystemProgram({"sh", "-c", internal::StrCat("command -v ", name)}).ok();
}

}  // namespace coord::testing
