#include "tests/http/raw_origin.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

#include <cstdlib>
#include <list>
#include <optional>
#include <thread>
#include <utility>

#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord::testing {
namespace {

using coord::internal::CondVar;
using coord::internal::Mutex;
using coord::internal::MutexLock;
using coord::internal::StrCat;

// Content-Length of a request's head; none: 0.
std::size_t BodySize(std::string_view head) {
  constexpr std::string_view kName = "\r\ncontent-length:";
  for (std::size_t i = 0; i + kName.size() <= head.size(); ++i) {
    if (::strncasecmp(head.data() + i, kName.data(), kName.size()) == 0) {
      return std::strtoull(std::string(head.substr(i + kName.size())).c_str(), nullptr, 10);
    }
  }
  return 0;
}

}  // namespace

struct RawOrigin::State {
  State(Script script_in, Endpoint endpoint_in, std::string greeting_in)
      : script(std::move(script_in)),
        greeting(std::move(greeting_in)),
        endpoint(std::move(endpoint_in)) {}

  class Taken;

  const Script script;
  const std::string greeting;
  Endpoint endpoint;
  UniqueFd listener = Listen(endpoint);
  mutable Mutex mutex;
  CondVar released;
  bool is_released ABSL_GUARDED_BY(mutex) = false, ended ABSL_GUARDED_BY(mutex) = false;
  int requests ABSL_GUARDED_BY(mutex) = 0;
  std::string last ABSL_GUARDED_BY(mutex);
  std::list<Taken> taken ABSL_GUARDED_BY(mutex);
  std::list<std::thread> threads;  // the accepting thread's, until it is joined
  std::thread accepting;

  void Accept();
};

class RawOrigin::State::Taken final : public Connection {
 public:
  Taken(State& state, int fd, int number) : state_(state), fd_(fd), number_(number) {}

  void Run() {
    Send(state_.greeting);
    while (std::optional<std::string> request = ReadRequest()) {
      {
        const MutexLock lock(state_.mutex);
        ++state_.requests;
        state_.last = *request;
      }
      state_.script(*request, *this);
    }
    const MutexLock lock(state_.mutex);
    fd_.Close();
  }
  // With the mutex held: makes what waits for the peer return.
  void ShutDown() { ::shutdown(fd_.get(), SHUT_RDWR); }

  bool Send(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t size = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
  }
  void Reset() override {
    const MutexLock lock(state_.mutex);
    CloseWithReset(fd_);
  }
  void Close() override {
    const MutexLock lock(state_.mutex);
    fd_.Close();
  }
  void HalfClose() override { ::shutdown(fd_.get(), SHUT_WR); }
  void WaitForClose() override {
    char lost[4096];
    while (::recv(fd_.get(), lost, sizeof(lost), 0) > 0) {
    }
  }
  void Hold() override {
    const MutexLock lock(state_.mutex);
    while (!state_.is_released && !state_.ended) state_.released.Wait(state_.mutex);
  }
  int number() const override { return number_; }

 private:
  std::optional<std::string> ReadRequest() {
    std::size_t wanted = 0;
    while (wanted == 0 || unread_.size() < wanted) {
      const std::size_t end = unread_.find("\r\n\r\n");
      if (end != std::string::npos) {
        wanted = end + 4 + BodySize(std::string_view(unread_).substr(0, end));
        if (unread_.size() >= wanted) break;
      }
      char piece[4096];
      const ssize_t size = ::recv(fd_.get(), piece, sizeof(piece), 0);
      if (size <= 0) return std::nullopt;
      unread_.append(piece, static_cast<std::size_t>(size));
    }
    std::string request = unread_.substr(0, wanted);
    unread_.erase(0, wanted);
    return request;
  }

  State& state_;
  UniqueFd fd_;  // closed with the mutex held
  const int number_;
  std::string unread_;
};

void RawOrigin::State::Accept() {
  while (true) {
    pollfd waiting{.fd = listener.get(), .events = POLLIN, .revents = 0};
    ::poll(&waiting, 1, -1);
    const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
    const MutexLock lock(mutex);
    if (ended) {
      UniqueFd late(fd);
      return;
    }
    if (fd < 0) continue;
    SetNoDelay(fd);
    Taken& connection = taken.emplace_back(*this, fd, static_cast<int>(taken.size()) + 1);
    threads.emplace_back([&connection] { connection.Run(); });
  }
}

RawOrigin::RawOrigin(Script script, Endpoint endpoint, std::string greeting)
    : state_(std::make_unique<State>(std::move(script), std::move(endpoint), std::move(greeting))) {
  state_->accepting = std::thread([this] { state_->Accept(); });
}

RawOrigin::RawOrigin(std::string answer)
    : RawOrigin([answer = std::move(answer)](const std::string&, Connection& connection) {
        connection.Send(answer);
      }) {}

RawOrigin::~RawOrigin() {
  {
    const MutexLock lock(state_->mutex);
    state_->ended = true;
    state_->released.NotifyAll();
    for (State::Taken& connection : state_->taken) connection.ShutDown();
  }
  ::shutdown(state_->listener.get(), SHUT_RDWR);
  state_->accepting.join();
  for (std::thread& thread : state_->threads) thread.join();
}

int RawOrigin::port() const { return state_->endpoint.port; }

std::string RawOrigin::Url(std::string_view target) const {
  return StrCat("http://127.0.0.1:", port(), target);
}

int RawOrigin::connections() const {
  const MutexLock lock(state_->mutex);
  return static_cast<int>(state_->taken.size());
}

int RawOrigin::requests() const {
  const MutexLock lock(state_->mutex);
  return state_->requests;
}

std::string RawOrigin::last_request() const {
  const MutexLock lock(state_->mutex);
  return state_->last;
}

void RawOrigin::Release() {
  const MutexLock lock(state_->mutex);
  state_->is_released = true;
  state_->released.NotifyAll();
}

}  // namespace coord::testing
