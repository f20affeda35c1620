#include "tests/support/push_filter.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <set>
#include <span>
#include <utility>

#include "coord/internal/strings.h"
#include "tests/support/loop_thread.h"
#include "tests/support/sockets.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {
namespace {

constexpr std::string_view kLineEnd = "\r\n";

struct Connection {
  std::size_t number = 0;
  UniqueFd client;
  UniqueFd upstream;
  FrameCutter cutter;
  std::set<std::string> channels;  // it is subscribed to, as the server has confirmed
  std::string to_client;
  std::string to_upstream;
  bool ending = false;  // one side has ended: what is there is still delivered
  std::size_t polled_at = 0;
  bool gone = false;
};

// Shut down first: a forked child may have copies of the descriptors, and then a close tells
// nobody.
void End(UniqueFd& fd) {
  if (fd.valid()) shutdown(fd.get(), SHUT_RDWR);
  fd.Close();
}

// Writes what it can; false when the other side is gone.
bool Flush(int fd, std::string& bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    bytes.erase(0, static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

// ---- Frames ----

bool FrameCutter::Step() {
  const std::size_t end = buffer_.find(kLineEnd, at_);
  if (end == std::string::npos) return false;
  const char type = buffer_[at_];
  const std::string_view line = std::string_view(buffer_).substr(at_ + 1, end - at_ - 1);
  std::size_t next = end + kLineEnd.size();
  std::int64_t children = 0;
  std::int64_t wanted = 0;  // beside what it stands for itself
  switch (type) {
    case '+':
    case '-':
    case ':':
    case ',':
    case '(':
    case '#':
    case '_':
      break;
    case '$':
    case '=':
    case '!': {
      const std::optional<std::int64_t> length = internal::ParseInt64(line);
      if (!length) return broken_ = true, false;
      if (*length < 0) break;  // RESP2's nil
      next += static_cast<std::size_t>(*length) + kLineEnd.size();
      if (buffer_.size() < next) return false;
      break;
    }
    case '*':
    case '~':
    case '>':
    case '%':
    case '|': {
      const std::optional<std::int64_t> length = internal::ParseInt64(line);
      if (!length) return broken_ = true, false;
      children = std::max<std::int64_t>(*length, 0) * (type == '%' || type == '|' ? 2 : 1);
      wanted = type == '|' ? 1 : 0;  // attributes stand before the element that they belong to
      break;
    }
    default:
      return broken_ = true, false;
  }
  at_ = next;
  if (open_.empty()) open_.push_back(1);
  open_.back() += wanted - 1;
  if (children > 0) open_.push_back(children);
  while (!open_.empty() && open_.back() == 0) open_.pop_back();
  return true;
}

std::optional<std::string> FrameCutter::Next() {
  while (!broken_ && at_ < buffer_.size() && Step()) {
    if (!open_.empty()) continue;
    std::string frame = buffer_.substr(0, at_);
    buffer_.erase(0, at_);
    at_ = 0;
    return frame;
  }
  return std::nullopt;
}

std::optional<std::vector<std::string>> FrameTexts(std::string_view frame) {
  if (frame.empty() || (frame[0] != '*' && frame[0] != '>')) return std::nullopt;
  std::vector<std::string> texts;
  std::size_t at = frame.find(kLineEnd);
  const std::optional<std::int64_t> count = internal::ParseInt64(frame.substr(1, at - 1));
  if (!count) return std::nullopt;
  at += kLineEnd.size();
  for (std::int64_t i = 0; i < *count; ++i) {
    const std::size_t end = frame.find(kLineEnd, at);
    if (end == std::string_view::npos) return std::nullopt;
    const char type = frame[at];
    const std::string_view line = frame.substr(at + 1, end - at - 1);
    at = end + kLineEnd.size();
    if (type == '+' || type == ':') {
      texts.emplace_back(line);
    } else if (type == '$') {
      const std::int64_t length = internal::ParseInt64(line).value_or(-1);
      if (length < 0) {
        texts.emplace_back();
        continue;
      }
      texts.emplace_back(frame.substr(at, static_cast<std::size_t>(length)));
      at += static_cast<std::size_t>(length) + kLineEnd.size();
    } else {
      return std::nullopt;
    }
  }
  return texts;
}

// ---- The proxy ----

// All of it lives on loop_'s thread.
class PushFilter::Core {
 public:
  Core(std::string_view upstream, std::string path) : upstream_(ParseEndpoint(upstream)) {
    endpoint_.path = path.empty() ? directory_.File("filter.sock") : std::move(path);
    listener_ = Listen(endpoint_);
    loop_.emplace([this](std::vector<pollfd>& polled) { return Prepare(polled); },
                  [this](std::span<const pollfd> polled) { Handle(polled); });
  }

  void Run(const std::function<void()>& task) { loop_->Run(task); }
  const Endpoint& endpoint() const { return endpoint_; }
  void SetJudge(std::function<PushVerdict(const PushMessage&)> judge) { judge_ = std::move(judge); }

  std::size_t ReleaseHeld() {
    const std::size_t before = held_.size();
    std::erase_if(held_, [this](const Held& held) {
      bool delivered = false;
      for (const auto& connection : connections_) {
        if (connection->channels.count(held.channel) == 0) continue;
        connection->to_client += held.frame;
        delivered = true;
      }
      return delivered;
    });
    for (const auto& connection : connections_) Write(*connection);
    Sweep();
    return before - held_.size();
  }
  void CloseConnections() {
    for (const auto& connection : connections_) connection->gone = true;
    Sweep();
  }

  std::uint64_t messages() const { return messages_; }
  std::uint64_t dropped() const { return dropped_; }
  std::size_t held() const { return held_.size(); }
  std::size_t accepted() const { return accepted_; }

 private:
  struct Held {
    std::string channel;
    std::string frame;
  };

  std::optional<internal::SteadyTime> Prepare(std::vector<pollfd>& polled) {
    const std::size_t first = polled.size();  // indexes below count from here, as Handle does
    polled.push_back({.fd = listener_.get(), .events = POLLIN, .revents = 0});
    for (const auto& connection : connections_) {
      const auto events = [&](const std::string& pending) {
        const int in = connection->ending ? 0 : POLLIN;
        return static_cast<short>(in | (pending.empty() ? 0 : POLLOUT));
      };
      connection->polled_at = polled.size() - first;
      polled.push_back({connection->client.get(), events(connection->to_client), 0});
      polled.push_back({connection->upstream.get(), events(connection->to_upstream), 0});
    }
    return std::nullopt;
  }

  void Handle(std::span<const pollfd> polled) {
    for (const auto& connection : connections_) {
      const pollfd& client = polled[connection->polled_at];
      const pollfd& upstream = polled[connection->polled_at + 1];
      if (!connection->ending && client.revents != 0) ReadClient(*connection);
      if (!connection->ending && upstream.revents != 0) ReadUpstream(*connection);
      Write(*connection);
      // A hang-up is reported even where nothing is wanted.
      if (connection->ending && ((client.revents | upstream.revents) & (POLLHUP | POLLERR)) != 0) {
        connection->gone = true;
      }
    }
    Sweep();
    if (polled[0].revents != 0) Accept();
  }

  void Accept() {
    while (true) {
      UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!client.valid()) return;
      auto connection = std::make_unique<Connection>();
      connection->number = accepted_++;
      connection->upstream = Connect(upstream_);
      if (!connection->upstream.valid()) {
        End(client);
        continue;
      }
      connection->client = std::move(client);
      connections_.push_back(std::move(connection));
    }
  }

  // Appends what there is; false at the end.
  static bool Receive(int fd, std::string& bytes) {
    char buffer[65536];
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n > 0) bytes.append(buffer, static_cast<std::size_t>(n));
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
  }

  void ReadClient(Connection& connection) {
    if (!Receive(connection.client.get(), connection.to_upstream)) connection.ending = true;
  }

  void ReadUpstream(Connection& connection) {
    std::string bytes;
    if (!Receive(connection.upstream.get(), bytes)) connection.ending = true;
    connection.cutter.Feed(bytes);
    while (std::optional<std::string> frame = connection.cutter.Next()) {
      if (Passes(connection, *frame)) connection.to_client += *frame;
    }
    if (connection.cutter.broken() || connection.ending) {
      connection.to_client += connection.cutter.rest();  // cut off there, or no RESP at all
      connection.ending = true;
    }
  }

  bool Passes(Connection& connection, const std::string& frame) {
    const std::optional<std::vector<std::string>> texts = FrameTexts(frame);
    if (!texts || texts->size() < 3) return true;
    const std::string& kind = (*texts)[0];
    if (kind == "subscribe" || kind == "ssubscribe") connection.channels.insert((*texts)[1]);
    if (kind == "unsubscribe" || kind == "sunsubscribe") connection.channels.erase((*texts)[1]);
    const bool plain = (kind == "message" || kind == "smessage") && texts->size() == 3;
    const bool pattern = kind == "pmessage" && texts->size() == 4;
    if (!plain && !pattern) return true;
    const std::uint64_t number = messages_++;
    if (!judge_) return true;
    const std::string& channel = (*texts)[texts->size() - 2];
    switch (judge_({connection.number, kind, channel, texts->back(), number})) {
      case PushVerdict::kPass:
        return true;
      case PushVerdict::kDrop:
        ++dropped_;
        return false;
      case PushVerdict::kHold:
        held_.push_back({channel, frame});
        return false;
    }
    return true;
  }

  void Write(Connection& connection) {
    const bool to_client = Flush(connection.client.get(), connection.to_client);
    const bool to_upstream = Flush(connection.upstream.get(), connection.to_upstream);
    if (!to_client || !to_upstream) connection.ending = true;
    const bool done = connection.to_client.empty() && connection.to_upstream.empty();
    if (connection.ending && (done || !to_client || !to_upstream)) connection.gone = true;
  }

  void Sweep() {
    std::erase_if(connections_, [](const std::unique_ptr<Connection>& connection) {
      if (!connection->gone) return false;
      End(connection->client);
      End(connection->upstream);
      return true;
    });
  }

  TempDir directory_;
  Endpoint upstream_;
  Endpoint endpoint_;
  UniqueFd listener_;
  std::function<PushVerdict(const PushMessage&)> judge_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Held> held_;
  std::uint64_t messages_ = 0;
  std::uint64_t dropped_ = 0;
  std::size_t accepted_ = 0;
  std::optional<LoopThread> loop_;  // last: ends first
};

PushFilter::PushFilter(std::string_view upstream, std::string path)
    : core_(std::make_unique<Core>(upstream, std::move(path))) {}

PushFilter::~PushFilter() { CloseConnections(); }

std::string PushFilter::url() const { return core_->endpoint().Url(); }

void PushFilter::OnMessage(std::function<PushVerdict(const PushMessage&)> judge) {
  core_->Run([&] { core_->SetJudge(std::move(judge)); });
}

std::size_t PushFilter::ReleaseHeld() {
  std::size_t delivered = 0;
  core_->Run([&] { delivered = core_->ReleaseHeld(); });
  return delivered;
}

void PushFilter::CloseConnections() {
  core_->Run([&] { core_->CloseConnections(); });
}

std::uint64_t PushFilter::messages() {
  std::uint64_t result = 0;
  core_->Run([&] { result = core_->messages(); });
  return result;
}

std::uint64_t PushFilter::dropped() {
  std::uint64_t result = 0;
  core_->Run([&] { result = core_->dropped(); });
  return result;
}

std::size_t PushFilter::held() {
  std::size_t result = 0;
  core_->Run([&] { result = core_->held(); });
  return result;
}

std::size_t PushFilter::accepted() {
  std::size_t result = 0;
  core_->Run([&] { result = core_->accepted(); });
  return result;
}

}  // namespace coord::testing
