#include "tests/support/lock_history.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "tests/support/fatal.h"

namespace coord::testing {
namespace {

using internal::StrCat;
using Kind = LockViolation::Kind;

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// The letters of a history's lines. Each line: letter, acquisition or process, time, the rest.
constexpr char kAsk = 'A';      // <name> <timeout, ns> <worker>
constexpr char kGrant = 'G';    // <token> <promised until>
constexpr char kRefuse = 'N';   // <AcquireResult as a number>
constexpr char kPromise = 'P';  // <promised until>
constexpr char kGive = 'R';
constexpr char kGiven = 'D';  // <ReleaseResult as a number>
constexpr char kKill = 'K';
constexpr char kStop = 'S';
constexpr char kGoOn = 'C';

std::string Milliseconds(std::int64_t nanos) {
  return absl::FormatDuration(absl::Trunc(absl::Nanoseconds(nanos), absl::Microseconds(1)));
}

AcquireResult ResultOf(const absl::Status& status) {
  if (IsBusy(status)) return AcquireResult::kBusy;
  if (IsOutcomeUnknown(status)) return AcquireResult::kUnknown;
  if (status.code() == absl::StatusCode::kCancelled) return AcquireResult::kCancelled;
  return AcquireResult::kFailed;
}

ReleaseResult ReleaseResultOf(const absl::Status& status) {
  if (status.ok()) return ReleaseResult::kReleased;
  if (IsLost(status)) return ReleaseResult::kLost;
  if (IsOutcomeUnknown(status)) return ReleaseResult::kUnknown;
  return ReleaseResult::kFailed;
}

// ---- Reading ----

void ReadFile(const std::string& path, pid_t process, LockHistory& history) {
  std::ifstream file(path);
  std::stringstream whole;
  whole << file.rdbuf();
  std::string text = whole.str();
  const std::size_t last = text.rfind('\n');
  text.resize(last == std::string::npos ? 0 : last + 1);
  std::map<std::int64_t, std::size_t> places;  // in history.acquisitions
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    char letter = 0;
    std::int64_t id = 0;
    std::int64_t at = 0;
    words >> letter >> id >> at;
    history.end = std::max(history.end, at);
    if (letter == kKill || letter == kStop || letter == kGoOn) {
      const auto kind = letter == kKill   ? ProcessFault::Kind::kKilled
                        : letter == kStop ? ProcessFault::Kind::kStopped
                                          : ProcessFault::Kind::kContinued;
      history.faults.push_back({kind, static_cast<pid_t>(id), at});
      if (!words) Fatal("cannot read in " + path + ": " + line);
      continue;
    }
    if (letter == kAsk) {
      places[id] = history.acquisitions.size();
      history.acquisitions.emplace_back();
    }
    if (places.count(id) == 0) Fatal("of an unknown acquisition in " + path + ": " + line);
    Acquisition& acquisition = history.acquisitions[places[id]];
    std::int64_t number = 0;
    switch (letter) {
      case kAsk:
        acquisition.process = process;
        acquisition.invoked = at;
        words >> acquisition.name >> number >> acquisition.worker;
        acquisition.timeout = absl::Nanoseconds(number);
        break;
      case kGrant:
        acquisition.completed = at;
        acquisition.result = AcquireResult::kGranted;
        words >> acquisition.token >> acquisition.promised_until;
        break;
      case kRefuse:
        acquisition.completed = at;
        words >> number;
        acquisition.result = static_cast<AcquireResult>(number);
        break;
      case kPromise:
        words >> number;
        // One that is over has ended at a moment that nobody saw, at the latest as promised before.
        acquisition.promised_until =
            number > at ? number : std::min(acquisition.promised_until, at);
        break;
      case kGive:
        acquisition.release_invoked = at;
        break;
      case kGiven:
        acquisition.release_completed = at;
        words >> number;
        acquisition.release_result = static_cast<ReleaseResult>(number);
        break;
      default:
        Fatal("cannot read in " + path + ": " + line);
    }
    if (!words) Fatal("cannot read in " + path + ": " + line);
  }
}

// ---- Judging ----

struct Interval {
  std::int64_t from = 0;
  std::int64_t to = 0;
  bool empty() const { return to <= from; }
};

class Checker {
 public:
  Checker(const LockHistory& history, const LockPromises& promises)
      : history_(history), promises_(promises) {
    for (const ProcessFault& fault : history.faults) Note(fault);
  }

  LockVerdict Check() {
    std::map<std::string, std::vector<const Acquisition*>> names;
    for (const Acquisition& acquisition : history_.acquisitions) {
      Count(acquisition);
      CheckTime(acquisition);
      names[acquisition.name].push_back(&acquisition);
    }
    for (const auto& [name, acquisitions] : names) {
      std::vector<const Acquisition*> granted;
      std::copy_if(acquisitions.begin(), acquisitions.end(), std::back_inserter(granted),
                   [](const Acquisition* a) { return a->result == AcquireResult::kGranted; });
      std::sort(granted.begin(), granted.end(), [](const Acquisition* a, const Acquisition* b) {
        return *a->completed < *b->completed;
      });
      CheckTokens(granted);
      if (promises_.exclusive) CheckPromises(granted);
      CountWorkOverlaps(granted);
      CheckIdle(name, acquisitions);
    }
    return std::move(verdict_);
  }

 private:
  void Note(const ProcessFault& fault) {
    auto& pauses = pauses_[fault.process];
    switch (fault.kind) {
      case ProcessFault::Kind::kKilled:
        killed_[fault.process] = fault.at;
        break;
      case ProcessFault::Kind::kStopped:
        pauses.push_back({fault.at, kNever});
        break;
      case ProcessFault::Kind::kContinued:
        if (!pauses.empty()) pauses.back().to = fault.at;
        break;
    }
  }

  void Violated(Kind kind, std::string what) { verdict_.violations.push_back({kind, what}); }

  std::string Describe(const Acquisition& a) const {
    return StrCat("worker ", a.worker, " (process ", a.process, ", token ", a.token, ", asked at ",
                  Milliseconds(a.invoked - Start()), ")");
  }
  std::int64_t Start() const {
    std::int64_t start = kNever;
    for (const Acquisition& a : history_.acquisitions) start = std::min(start, a.invoked);
    return start;
  }

  // When the process ended, as far as is known; it did nothing later.
  std::int64_t EndOf(pid_t process) const {
    const auto killed = killed_.find(process);
    return killed == killed_.end() ? history_.end : killed->second;
  }
  Interval WaitOf(const Acquisition& a) const {
    return {a.invoked, a.completed.value_or(std::max(a.invoked, EndOf(a.process)))};
  }
  const std::vector<Interval>& PausesOf(pid_t process) const {
    static const std::vector<Interval> none;
    const auto found = pauses_.find(process);
    return found == pauses_.end() ? none : found->second;
  }
  std::int64_t StoppedWithin(pid_t process, Interval within) const {
    std::int64_t sum = 0;
    for (const Interval& pause : PausesOf(process)) {
      const Interval common{std::max(pause.from, within.from), std::min(pause.to, within.to)};
      if (!common.empty()) sum += common.to - common.from;
    }
    return sum;
  }
  // As the holder was told, and until it began to give it back.
  static Interval PromiseOf(const Acquisition& a) {
    return {*a.completed, std::min(a.promised_until, a.release_invoked.value_or(kNever))};
  }

  void Count(const Acquisition& a) {
    if (a.result == AcquireResult::kGranted) {
      ++verdict_.grants;
      ++verdict_.shares[a.worker];
    } else {
      verdict_.shares.emplace(a.worker, 0);
      ++(a.result == AcquireResult::kBusy ? verdict_.timeouts : verdict_.others);
    }
  }

  void CheckTime(const Acquisition& a) {
    const Interval wait = WaitOf(a);
    const absl::Duration elapsed = absl::Nanoseconds(wait.to - wait.from);
    const absl::Duration waited = elapsed - absl::Nanoseconds(StoppedWithin(a.process, wait));
    if (waited > a.timeout + promises_.slack) {
      Violated(Kind::kLate, StrCat(Describe(a), " was answered after ", internal::ToText(waited),
                                   a.completed ? "" : " or never", ", its timeout was ",
                                   internal::ToText(a.timeout)));
    }
    // Their clocks are not the same: a wait is timed on the steady clock.
    const absl::Duration tolerance = a.timeout / 100 + absl::Milliseconds(2);
    if (a.result == AcquireResult::kBusy && elapsed < a.timeout - tolerance) {
      Violated(Kind::kEarly, StrCat(Describe(a), " gave up after ", internal::ToText(elapsed),
                                    ", its timeout was ", internal::ToText(a.timeout)));
    }
    verdict_.longest_wait = std::max(verdict_.longest_wait, waited);
    if (waited > promises_.MaxWait()) {
      const bool served = a.result == AcquireResult::kGranted;
      Violated(Kind::kWait,
               StrCat(Describe(a), served ? " was served after " : " waited in vain for ",
                      internal::ToText(waited)));
    }
  }

  // `granted` is in the order of their being told.
  void CheckTokens(const std::vector<const Acquisition*>& granted) {
    std::map<std::uint64_t, const Acquisition*> seen;
    for (const Acquisition* a : granted) {
      const auto [other, fresh] = seen.emplace(a->token, a);
      if (!fresh) {
        Violated(Kind::kToken,
                 StrCat(Describe(*other->second), " and ", Describe(*a), " have the same token"));
      }
    }
    // Who asked when another had been told already must have the larger token, whatever the server
    // forgot between.
    std::vector<const Acquisition*> by_asking = granted;
    std::sort(by_asking.begin(), by_asking.end(),
              [](const Acquisition* a, const Acquisition* b) { return a->invoked < b->invoked; });
    const Acquisition* largest = nullptr;
    auto told = granted.begin();
    for (const Acquisition* a : by_asking) {
      for (; told != granted.end() && *(*told)->completed < a->invoked; ++told) {
        if (largest == nullptr || (*told)->token > largest->token) largest = *told;
      }
      if (largest != nullptr && a->token <= largest->token) {
        Violated(Kind::kToken, StrCat(Describe(*a), " has no larger token than ",
                                      Describe(*largest), ", who had been served before it asked"));
      }
    }
  }

  void CheckPromises(const std::vector<const Acquisition*>& granted) {
    const Acquisition* last = nullptr;     // whose promise ends last so far
    const Acquisition* largest = nullptr;  // of those who were promised anything
    for (const Acquisition* a : granted) {
      const Interval promise = PromiseOf(*a);
      if (promise.empty()) continue;  // over before it was told of: it orders nothing
      if (last != nullptr && promise.from < PromiseOf(*last).to) {
        Violated(
            Kind::kOverlap,
            StrCat(Describe(*a), " was let in ", Milliseconds(PromiseOf(*last).to - promise.from),
                   " before the end of what was promised to ", Describe(*last)));
      }
      if (largest != nullptr && a->token <= largest->token) {
        Violated(Kind::kToken, StrCat(Describe(*a), " has no larger token than ",
                                      Describe(*largest), ", who held it before"));
      }
      if (last == nullptr || promise.to > PromiseOf(*last).to) last = a;
      if (largest == nullptr || a->token > largest->token) largest = a;
    }
  }

  void CountWorkOverlaps(const std::vector<const Acquisition*>& granted) {
    std::int64_t worked_until = 0;
    for (const Acquisition* a : granted) {
      if (*a->completed < worked_until) ++verdict_.work_overlaps;
      // One that never came to its release is not known to have worked.
      worked_until = std::max(worked_until, a->release_invoked.value_or(0));
    }
  }

  // While a holder stands still or is dead, its lease is what has to run out.
  Interval HoldOf(const Acquisition& a) const {
    Interval hold{*a.completed, a.release_invoked.value_or(EndOf(a.process))};
    for (const Interval& pause : PausesOf(a.process)) {
      if (pause.to > hold.from) hold.to = std::min(hold.to, std::max(pause.from, hold.from));
    }
    return hold;
  }

  void CheckIdle(const std::string& name, const std::vector<const Acquisition*>& acquisitions) {
    struct Change {
      std::int64_t at = 0;
      int holders = 0;
      int waiters = 0;
      bool served = false;
    };
    std::vector<Change> changes;
    for (const Acquisition* a : acquisitions) {
      const Interval wait = WaitOf(*a);
      std::int64_t from = wait.from;
      for (const Interval& pause : PausesOf(a->process)) {  // who stands still waits for nothing
        if (pause.to <= from || pause.from >= wait.to) continue;
        changes.push_back({from, 0, 1});
        changes.push_back({std::max(from, pause.from), 0, -1});
        from = std::min(pause.to, wait.to);
      }
      changes.push_back({from, 0, 1});
      changes.push_back({wait.to, 0, -1, a->result == AcquireResult::kGranted});
      if (a->result != AcquireResult::kGranted) continue;
      const Interval hold = HoldOf(*a);
      changes.push_back({hold.from, 1, 0});
      changes.push_back({std::max(hold.from, hold.to), -1, 0});
    }
    // At one instant, beginnings first: no gap where one thing follows another.
    std::stable_sort(changes.begin(), changes.end(), [](const Change& a, const Change& b) {
      if (a.at != b.at) return a.at < b.at;
      return a.holders + a.waiters > b.holders + b.waiters;
    });
    int holders = 0;
    int waiters = 0;
    std::int64_t since = kNever;  // since when it is idle
    for (const Change& change : changes) {
      holders += change.holders;
      waiters += change.waiters;
      const bool idle = holders == 0 && waiters > 0;
      if (since != kNever && (!idle || change.served)) {
        const absl::Duration lasted = absl::Nanoseconds(change.at - since);
        verdict_.longest_idle = std::max(verdict_.longest_idle, lasted);
        if (lasted > promises_.MaxWait()) {
          Violated(Kind::kIdle,
                   StrCat("nobody held ", name, " for ", internal::ToText(lasted), " from ",
                          Milliseconds(since - Start()), " on, while somebody waited"));
        }
        since = kNever;
      }
      if (idle && since == kNever) since = change.at;
    }
  }

  const LockHistory& history_;
  const LockPromises& promises_;
  std::map<pid_t, std::int64_t> killed_;
  std::map<pid_t, std::vector<Interval>> pauses_;
  LockVerdict verdict_;
};

const char* NameOf(Kind kind) {
  switch (kind) {
    case Kind::kOverlap:
      return "overlap";
    case Kind::kToken:
      return "token";
    case Kind::kLate:
      return "late";
    case Kind::kEarly:
      return "early";
    case Kind::kWait:
      return "wait";
    case Kind::kIdle:
      return "idle";
  }
  return "?";
}

int OpenFile(const std::string& directory) {
  // A process id may come again, a file that is there never.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const std::string path = StrCat(directory, "/", getpid(), ".", attempt);
    const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    if (errno != EEXIST) FatalErrno("open " + path);
  }
  Fatal("no name for a history in " + directory);
}

}  // namespace

std::int64_t BootNanos() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

std::ostream& operator<<(std::ostream& out, const LockViolation& violation) {
  return out << NameOf(violation.kind) << ": " << violation.what;
}

LockHistoryWriter::LockHistoryWriter(const std::string& directory, int worker)
    : worker_(worker), file_(OpenFile(directory)) {}

void LockHistoryWriter::Write(const std::string& line) {
  const ssize_t written = write(file_.get(), line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) FatalErrno("writing a history");
}

std::int64_t LockHistoryWriter::AcquireBegins(std::string_view name, absl::Duration timeout) {
  const std::int64_t acquisition = ++last_;
  Write(StrCat(std::string(1, kAsk), " ", acquisition, " ", BootNanos(), " ", name, " ",
               absl::ToInt64Nanoseconds(timeout), " ", worker_, "\n"));
  return acquisition;
}

void LockHistoryWriter::AcquireEnds(std::int64_t acquisition, const absl::StatusOr<Lease>& lease) {
  const std::int64_t now = BootNanos();  // before the look: the promise ends no later than said
  if (lease.ok()) {
    return Granted(acquisition, lease->token().value(),
                   now + absl::ToInt64Nanoseconds(lease->remaining()));
  }
  Write(StrCat(std::string(1, kRefuse), " ", acquisition, " ", now, " ",
               static_cast<int>(ResultOf(lease.status())), "\n"));
}

void LockHistoryWriter::Granted(std::int64_t acquisition, std::uint64_t token,
                                std::int64_t promised_until) {
  Write(StrCat(std::string(1, kGrant), " ", acquisition, " ", BootNanos(), " ", token, " ",
               promised_until, "\n"));
}

void LockHistoryWriter::Look(std::int64_t acquisition, const Lease& lease) {
  const std::int64_t now = BootNanos();
  Write(StrCat(std::string(1, kPromise), " ", acquisition, " ", now, " ",
               now + absl::ToInt64Nanoseconds(lease.remaining()), "\n"));
}

void LockHistoryWriter::ReleaseBegins(std::int64_t acquisition) {
  Write(StrCat(std::string(1, kGive), " ", acquisition, " ", BootNanos(), "\n"));
}

void LockHistoryWriter::ReleaseEnds(std::int64_t acquisition, const absl::Status& status) {
  Write(StrCat(std::string(1, kGiven), " ", acquisition, " ", BootNanos(), " ",
               static_cast<int>(ReleaseResultOf(status)), "\n"));
}

void LockHistoryWriter::Killed(pid_t process) {
  Write(StrCat(std::string(1, kKill), " ", process, " ", BootNanos(), "\n"));
}

void LockHistoryWriter::Stopped(pid_t process) {
  Write(StrCat(std::string(1, kStop), " ", process, " ", BootNanos(), "\n"));
}

void LockHistoryWriter::Continued(pid_t process) {
  Write(StrCat(std::string(1, kGoOn), " ", process, " ", BootNanos(), "\n"));
}

LockHistory ReadLockHistory(const std::string& directory) {
  LockHistory history;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    const std::optional<std::int64_t> process =
        internal::ParseInt64(std::string_view(name).substr(0, name.find('.')));
    if (!process) Fatal("no history: " + entry.path().string());
    ReadFile(entry.path(), static_cast<pid_t>(*process), history);
  }
  const auto earlier = [](const auto& a, const auto& b) { return a.at < b.at; };
  std::sort(history.faults.begin(), history.faults.end(), earlier);
  return history;
}

std::string LockVerdict::Summary() const {
  int least = grants;
  int most = 0;
  for (const auto& [worker, share] : shares) {
    least = std::min(least, share);
    most = std::max(most, share);
  }
  std::string text =
      StrCat(grants, " grants, ", timeouts, " timeouts, ", others, " others; longest wait ",
             internal::ToText(longest_wait), ", longest idle ", internal::ToText(longest_idle),
             "; overlaps of unleased work ", work_overlaps, "; shares from ", least, " to ", most,
             " among ", static_cast<int>(shares.size()), "\n");
  constexpr std::size_t kShown = 5;  // the first explain the others
  for (std::size_t i = 0; i < std::min(violations.size(), kShown); ++i) {
    text += StrCat(NameOf(violations[i].kind), ": ", violations[i].what, "\n");
  }
  if (violations.size() > kShown) text += StrCat("... ", violations.size(), " violations\n");
  return text;
}

LockVerdict CheckLockHistory(const LockHistory& history, const LockPromises& promises) {
  return Checker(history, promises).Check();
}

}  // namespace coord::testing
