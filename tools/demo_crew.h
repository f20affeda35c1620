// The processes of `coord demo`: this program started again as `coord demo-worker`, which connect
// for themselves, start at one moment, and write what they do to one shared file.
//
//   Crew crew(place);
//   for (char letter : {'A', 'B'}) RETURN_IF_ERROR(crew.Add(letter, "add", {"visits", "500"}));
//   crew.Ready(); crew.Go(); crew.Join(); Look(crew.Log());
#ifndef COORD_TOOLS_DEMO_CREW_H_
#define COORD_TOOLS_DEMO_CREW_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/demo_post.h"

namespace coord::tools {

// How a worker gets to the server, or to the servers of a quorum.
struct Place {
  // A single one is handed over in the environment, where other users cannot read its password;
  // several are arguments, so they have none.
  std::vector<std::string> urls;
  std::string prefix;
  std::string timeout;
};

// One line of the shared file.
struct Entry {
  char who = 0;
  std::string event;                  // "enter", "leave", "done", ...
  std::int64_t at = 0;                // BootNanoseconds
  std::vector<std::int64_t> numbers;  // what belongs to the event
};

// One thread at a time. Workers die with this process, however it ends.
class Crew {
 public:
  explicit Crew(Place place);
  // Kills and waits for all that still run.
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Starts one. `arguments` are its role's.
  absl::Status Add(char letter, std::string_view role, const std::vector<std::string>& arguments);
  // Waits until all have connected.
  absl::Status Ready();
  // Lets all that wait go, at one moment a few milliseconds from now.
  void Go();
  // The same for one.
  void Go(char letter);
  // Tells one that goes on until it is told.
  void Dismiss(char letter);
  void DismissAll();
  // SIGKILL, and waits for its end. It may then have left anything undone.
  void Kill(char letter);
  // Waits until the file has `event` of that worker.
  absl::Status Await(char letter, std::string_view event);
  // Waits until the file has so many lines with `event` of anybody.
  absl::Status Await(std::string_view event, int count);
  // Waits until `done` says true, or fails.
  absl::Status Await(std::string_view what, const std::function<absl::StatusOr<bool>()>& done);
  // Waits until those are at their end. An error of any of them, and an end that it did not
  // announce, is an error.
  absl::Status Join();
  absl::Status Join(char letter);

  // The file so far, in its own order.
  std::vector<Entry> Log() const;

 private:
  struct Worker {
    char letter = 0;
    pid_t pid = 0;  // 0: has ended
    int control = -1;
    bool ready = false;
    bool going = false;
    bool killed = false;
    int status = 0;
  };
  Worker& Of(char letter);
  absl::Status Ended(const Worker& worker) const;
  void Receive(Worker& worker);
  void Release(Worker& worker, std::int64_t moment);
  void Reap(Worker& worker);
  std::string Text() const;

  const Place place_;
  int log_ = -1;
  std::vector<Worker> workers_;
};

// Ctrl-C and the like: while one of these lives they end the waits above with kCancelled, so that
// all is cleaned up.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  static int Caught();  // 0: none
  // Lets time pass; kCancelled when one was caught.
  static absl::Status SleepUntil(std::int64_t moment);  // BootNanoseconds
};

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_CREW_H_
