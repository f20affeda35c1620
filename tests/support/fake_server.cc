#include "tests/support/fake_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"
#include "tests/support/loop_thread.h"
#include "tests/support/sockets.h"

namespace coord::testing {
namespace {

using Then = FakeAnswer::Then;

constexpr std::size_t kMaxInput = 64u << 20;

struct Connection {
  std::size_t number = 0;
  UniqueFd fd;
  std::string in;
  std::string out;
  Then then = Then::kStay;  // once `out` is written
};

// Takes one line off `text` from `at` on, without its end; nothing when it is not complete.
std::optional<std::string_view> TakeLine(std::string_view text, std::size_t& at) {
  const std::size_t end = text.find('\n', at);
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view line = text.substr(at, end - at);
  if (line.ends_with('\r')) line.remove_suffix(1);
  at = end + 1;
  return line;
}

std::vector<std::string> SplitAtBlanks(std::string_view line) {
  std::vector<std::string> words;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    if (end > 0) words.emplace_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

// Takes one command off `in`; nothing when it is not complete.
std::optional<std::vector<std::string>> TakeCommand(std::string& in) {
  std::size_t at = 0;
  const std::optional<std::string_view> head = TakeLine(in, at);
  if (!head) return std::nullopt;
  std::vector<std::string> arguments;
  const std::optional<std::int64_t> count =
      head->starts_with('*') ? internal::ParseInt64(head->substr(1)) : std::nullopt;
  if (!count) {
    arguments = SplitAtBlanks(*head);
  } else {
    for (std::int64_t i = 0; i < *count; ++i) {
      const std::optional<std::string_view> line = TakeLine(in, at);
      if (!line) return std::nullopt;
      const std::optional<std::int64_t> size =
          line->starts_with('$') ? internal::ParseInt64(line->substr(1)) : std::nullopt;
      if (!size || *size < 0) Fatal("the fake server got a broken command: " + in);
      const auto length = static_cast<std::size_t>(*size);
      if (in.size() - at < length + 2) return std::nullopt;
      arguments.push_back(in.substr(at, length));
      at += length + 2;
    }
  }
  in.erase(0, at);
  return arguments;
}

}  // namespace

// All of it lives on loop_'s thread.
class FakeServer::Core {
 public:
  explicit Core(FakeScript script) : script_(std::move(script)), listener_(Listen(endpoint_)) {
    loop_.emplace([this](std::vector<pollfd>& polled) { return Prepare(polled); },
                  [this](std::span<const pollfd> polled) { Handle(polled); });
  }

  void Run(const std::function<void()>& task) { loop_->Run(task); }
  const Endpoint& endpoint() const { return endpoint_; }

  void Send(std::size_t number, std::string_view bytes) {
    for (const auto& connection : connections_) {
      if (connection->number == number) connection->out += bytes;
    }
  }
  std::size_t accepted() const { return accepted_; }
  std::size_t open() const { return connections_.size(); }
  const std::vector<FakeCommand>& commands() const { return commands_; }
  const std::string& received() const { return received_; }

 private:
  std::optional<internal::SteadyTime> Prepare(std::vector<pollfd>& polled) {
    polled.push_back({.fd = listener_.get(), .events = POLLIN, .revents = 0});
    for (const auto& connection : connections_) {
      const int events = POLLIN | (connection->out.empty() ? 0 : POLLOUT);
      polled.push_back({connection->fd.get(), static_cast<short>(events), 0});
    }
    return std::nullopt;
  }

  void Handle(std::span<const pollfd> polled) {
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      if (polled[i + 1].revents == 0) continue;
      Read(*connections_[i]);
      Write(*connections_[i]);
    }
    if (polled[0].revents != 0) Accept();
    std::erase_if(connections_, [](const auto& connection) { return !connection->fd.valid(); });
  }

  void Accept() {
    while (true) {
      UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd.valid()) return;
      auto connection = std::make_unique<Connection>();
      connection->number = accepted_++;
      connection->fd = std::move(fd);
      SetNoDelay(connection->fd.get());
      Answer(*connection, script_.on_connect);
      Write(*connection);
      connections_.push_back(std::move(connection));
    }
  }

  void Answer(Connection& connection, const FakeAnswer& answer) {
    connection.out += answer.bytes;
    connection.then = answer.then;
  }

  void Read(Connection& connection) {
    char buffer[65536];
    const ssize_t n = recv(connection.fd.get(), buffer, sizeof(buffer), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return connection.fd.Close();
    const std::string_view bytes(buffer, static_cast<std::size_t>(n));
    received_ += bytes;
    connection.in += bytes;
    if (received_.size() > kMaxInput) Fatal("the fake server got more than 64 MiB");
    while (connection.then == Then::kStay) {
      std::optional<std::vector<std::string>> arguments = TakeCommand(connection.in);
      if (!arguments) return;
      if (arguments->empty()) continue;
      commands_.push_back({connection.number, *std::move(arguments)});
      // A copy: the callback may look at commands().
      const FakeCommand command = commands_.back();
      if (script_.on_command) Answer(connection, script_.on_command(command));
    }
  }

  void Write(Connection& connection) {
    while (connection.fd.valid() && !connection.out.empty()) {
      const ssize_t n =
          send(connection.fd.get(), connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (n < 0) return connection.fd.Close();
      connection.out.erase(0, static_cast<std::size_t>(n));
    }
    if (connection.then == Then::kReset) return CloseWithReset(connection.fd);
    if (connection.then == Then::kStay || !connection.fd.valid()) return;
    // A close with unread bytes would be a reset, which can overtake the answer.
    char ignored[4096];
    while (recv(connection.fd.get(), ignored, sizeof(ignored), 0) > 0) {
    }
    connection.fd.Close();
  }

  const FakeScript script_;
  Endpoint endpoint_;
  const UniqueFd listener_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::size_t accepted_ = 0;
  std::vector<FakeCommand> commands_;
  std::string received_;
  std::optional<LoopThread> loop_;  // last: ends first
};

FakeScript Hangs() { return {}; }

FakeScript ClosesAtOnce() { return Says("", Then::kClose); }

FakeScript ResetsAtOnce() { return Says("", Then::kReset); }

FakeScript Says(std::string bytes, Then then) {
  return {.on_connect = {.bytes = std::move(bytes), .then = then}, .on_command = nullptr};
}

FakeScript AnswersHttp() {
  return Answers([](const FakeCommand&) -> FakeAnswer {
    return {.bytes =
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                "Connection: close\r\n\r\n400 Bad Request",
            .then = Then::kClose};
  });
}

FakeScript Answers(std::function<FakeAnswer(const FakeCommand&)> on_command) {
  return {.on_connect = {}, .on_command = std::move(on_command)};
}

FakeScript AnswersAll(std::string bytes) {
  return Answers([bytes = std::move(bytes)](const FakeCommand&) -> FakeAnswer {
    return {.bytes = bytes, .then = Then::kStay};
  });
}

FakeServer::FakeServer(FakeScript script) : core_(std::make_unique<Core>(std::move(script))) {}

FakeServer::~FakeServer() = default;

std::string FakeServer::url() const { return core_->endpoint().Url(); }
int FakeServer::port() const { return core_->endpoint().port; }

void FakeServer::Send(std::size_t connection, std::string bytes) {
  core_->Run([&] { core_->Send(connection, bytes); });
}

std::size_t FakeServer::accepted() {
  std::size_t result = 0;
  core_->Run([&] { result = core_->accepted(); });
  return result;
}

std::size_t FakeServer::open() {
  std::size_t result = 0;
  core_->Run([&] { result = core_->open(); });
  return result;
}

std::vector<FakeCommand> FakeServer::commands() {
  std::vector<FakeCommand> result;
  core_->Run([&] { result = core_->commands(); });
  return result;
}

std::string FakeServer::received() {
  std::string result;
  core_->Run([&] { result = core_->received(); });
  return result;
}

}  // namespace coord::testing
