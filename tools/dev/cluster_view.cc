#include "tools/dev/cluster_view.h"

#include <algorithm>

#include "coord/internal/strings.h"

namespace coord::dev {
namespace {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    pieces.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pieces;
}

int Number(std::string_view text) {
  return static_cast<int>(internal::ParseInt64(text).value_or(-1));
}

}  // namespace

bool ClusterNode::Has(std::string_view flag) const {
  const std::vector<std::string_view> words = Split(flags, ',');
  return std::find(words.begin(), words.end(), flag) != words.end();
}

int ClusterNode::slots() const {
  int count = 0;
  for (const auto& [first, last] : ranges) count += last - first + 1;
  return count;
}

std::vector<ClusterNode> ReadClusterNodes(std::string_view text) {
  std::vector<ClusterNode> nodes;
  for (const std::string_view line : Split(text, '\n')) {
    // id, address, flags, master, ping sent, pong received, epoch, link, slots...
    const std::vector<std::string_view> words = Split(line, ' ');
    if (words.size() < 8) continue;
    ClusterNode node;
    node.id = words[0];
    node.flags = words[2];
    if (words[3] != "-") node.master = words[3];
    node.epoch = words[6];
    for (std::size_t i = 8; i < words.size(); ++i) {
      if (words[i].starts_with('[')) continue;  // migrating or importing
      const std::size_t dash = words[i].find('-');
      const int first = Number(words[i].substr(0, dash));
      node.ranges.emplace_back(
          first, dash == std::string_view::npos ? first : Number(words[i].substr(dash + 1)));
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace coord::dev
