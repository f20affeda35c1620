// A descriptor with one owner, and a deadline on the steady clock: what the embedded servers' raw
// system calls need.
#ifndef COORD_DEPLOYMENT_OWNED_FD_H_
#define COORD_DEPLOYMENT_OWNED_FD_H_

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/time.h"

namespace coord::internal::embedded {

class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.Release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = other.Release();
    }
    return *this;
  }
  ~OwnedFd() { Close(); }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

class Deadline {
 public:
  explicit Deadline(absl::Duration timeout)
      // A year stands for "for ever": adding an infinite duration to a time point overflows.
      : at_(std::chrono::steady_clock::now() +
            absl::ToChronoMicroseconds(
                std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24 * 365)))) {}

  bool Passed() const { return std::chrono::steady_clock::now() >= at_; }

  // What poll() takes: the time left in milliseconds, rounded up, at most `most`.
  int PollTimeout(int most) const {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(at_ - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::chrono::milliseconds::rep>(left.count(), 0, most));
  }

 private:
  std::chrono::steady_clock::time_point at_;
};

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_OWNED_FD_H_
