#include "tests/support/acl_rights.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"

namespace coord::testing {

std::vector<std::string> AclRules() {
  std::ifstream readme(std::string(COORD_SOURCE_DIR) + "/README.md");
  std::vector<std::string> rules;
  std::string before;
  for (std::string line; std::getline(readme, line); before = line) {
    if (before == "```text" && line.starts_with("~coord:*")) {
      for (; !line.starts_with("```") && readme; std::getline(readme, line)) {
        std::istringstream words(line);
        for (std::string word; words >> word;) rules.push_back(word);
      }
      return rules;
    }
  }
  Fatal("README.md has no ```text that begins with ~coord:*");
}

std::vector<std::string> AclRules(const ServerVersion& version) {
  std::vector<std::string> rules = AclRules();
  if (!version.valkey && version.major < 7) {
    std::erase_if(rules, [](std::string_view rule) {
      return rule == "+spublish" || rule == "+ssubscribe" || rule == "+sunsubscribe";
    });
  }
  return rules;
}

bool LeastRights() {
  static const bool wanted = [] {
    const char* const value = std::getenv("COORD_TEST_ACL");
    return value != nullptr && std::string_view(value) == "1";
  }();
  return wanted;
}

std::string AsAdmin(std::string url) {
  if (LeastRights()) {
    url.insert(url.find("://") + 3, internal::StrCat(kAdmin, ":", kAdminPassword, "@"));
  }
  return url;
}

}  // namespace coord::testing
