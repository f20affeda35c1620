// What the scenes of `coord demo` share: the stage they play on, and the report of what was seen
// and whether it was right.
#ifndef COORD_TOOLS_DEMO_H_
#define COORD_TOOLS_DEMO_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "coord/client.h"
#include "coord/rate_limiter.h"
#include "tools/demo_crew.h"
#include "tools/lock_history.h"

namespace coord::tools {

// Says to a person, as it happens, what is seen; remembers whether all of it was right. In JSON
// mode it says nothing until the end.
class DemoReport {
 public:
  explicit DemoReport(bool quiet) : quiet_(quiet) {}

  // A scene begins. `id` is its name in the JSON.
  void Scene(const std::string& id, const std::string& title);
  void Line(const std::string& text = "");
  // A number that must be right. `claim` says what was checked and holds; `wrong` what was seen
  // instead when it does not.
  void Check(bool holds, const std::string& claim, const std::string& wrong);
  // A figure for the JSON.
  void Fact(const std::string& name, nlohmann::json value);

  bool all_right() const { return wrong_.empty(); }
  int checks() const { return checks_; }
  const std::vector<std::string>& wrong() const { return wrong_; }
  const nlohmann::json& scenes() const { return scenes_; }

 private:
  const bool quiet_;
  int checks_ = 0;
  std::string title_;
  std::vector<std::string> wrong_;
  nlohmann::json scenes_ = nlohmann::json::array();
};

struct DemoStage {
  Client client;
  Place place;     // the same, for the workers
  std::string id;  // in all names, so that two demos on one server keep out of each other's way
  DemoReport& report;

  std::string Name(const std::string& what) const { return "demo-" + id + "-" + what; }
};

bool IsPrivate(std::string_view url);
// The URL of a server on a unix socket, by its name in Client::Health(); empty for other servers.
// A private server's own URL would give everybody another one.
std::string SocketUrl(std::string_view node);

// Says of holders who took turns whether they were alone, with rising tokens, to their turns' ends.
void CheckTurns(const LockHistory& history, DemoReport& report);  // demo_lock.cc

// The scenes. Each fails only when it could not be played to its end; what was seen to be wrong is
// in the report.
absl::Status PlayLock(DemoStage& stage);          // demo_lock.cc
absl::Status PlayKilledHolder(DemoStage& stage);  // demo_lock.cc
absl::Status PlayReaders(DemoStage& stage);       // demo_lock.cc
absl::Status PlayQuorum(DemoStage& stage);        // demo_quorum.cc
absl::Status PlayLimiter(DemoStage& stage);       // demo_scenes.cc
absl::Status PlayLimits(DemoStage& stage);        // demo_edges.cc
absl::Status PlayList(DemoStage& stage);          // demo_scenes.cc
absl::Status PlayGap(DemoStage& stage);           // demo_edges.cc
absl::Status PlayJson(DemoStage& stage);          // demo_scenes.cc
absl::Status PlayTakeover(DemoStage& stage);      // demo_edges.cc
absl::Status PlayCounter(DemoStage& stage);       // demo_scenes.cc
absl::Status PlayCuts(DemoStage& stage);          // demo_edges.cc

// What the scenes and their workers have to agree on.
inline constexpr absl::Duration kSection = absl::Milliseconds(1);  // of a turn at the lock
inline constexpr absl::Duration kKilledTtl = absl::Milliseconds(1500);
inline constexpr int kBurst = 50;
inline constexpr absl::Duration kRefill = absl::Minutes(1);  // for one permit
inline constexpr int kOwnBurst = 20;
inline RateLimit SharedLimit() { return {.permits = 1, .period = kRefill, .burst = kBurst}; }
inline RateLimit OwnLimit() { return {.permits = 1, .period = kRefill, .burst = kOwnBurst}; }
inline std::string OwnName(const std::string& name, char letter) { return name + "-" + letter; }
inline constexpr int kListCap = 10;
inline constexpr int kStaleBefore = 1000;  // claims, in a time of their own
// Keys of a demo that was killed go away by themselves.
inline constexpr absl::Duration kKeysLive = absl::Minutes(10);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_H_
