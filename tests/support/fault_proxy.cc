#include "tests/support/fault_proxy.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/loop_thread.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {
namespace {

using SteadyTime = internal::SteadyTime;

// Beyond this a direction is not read any more until some of it is gone, as with a real network's
// buffers.
constexpr std::size_t kMaxHeld = 4u << 20;
constexpr std::size_t kDirections = 2;

// Bytes on their way, or an end that must not overtake them.
struct Piece {
  enum class End { kNone, kEof, kClose, kReset };
  SteadyTime due;
  std::string bytes;
  End end = End::kNone;
};

// One direction of one connection.
struct Lane {
  UniqueFd* source = nullptr;
  UniqueFd* sink = nullptr;
  Faults faults;
  std::deque<Piece> queue;
  std::size_t queued = 0;
  std::uint64_t seen = 0;  // bytes since the faults were set
  bool source_open = true;
  bool sink_open = true;  // false: bytes vanish
  SteadyTime last_due;
  SteadyTime next_write;

  void Set(const Faults& what) {
    faults = what;
    seen = 0;
    next_write = SteadyTime();
  }
  // What must be written next, if it may be.
  std::optional<SteadyTime> NextWrite() const {
    if (queue.empty() || faults.hold) return std::nullopt;
    return std::max(queue.front().due, next_write);
  }
  bool Done() const { return !source_open && queue.empty(); }
};

struct Connection {
  std::size_t number = 0;
  UniqueFd client;
  UniqueFd upstream;
  std::array<Lane, kDirections> lanes;
  std::size_t polled_at =
      0;  // index of the client in the poll set, the upstream follows; 0: not there
  bool gone = false;
};

void DrainAndClose(UniqueFd& fd) {
  // A close with unread bytes would be a reset.
  char ignored[4096];
  while (fd.valid() && recv(fd.get(), ignored, sizeof(ignored), 0) > 0) {
  }
  fd.Close();
}

}  // namespace

// All of it lives on loop_'s thread.
class FaultProxy::Core {
 public:
  Core(std::string_view upstream, Listener listener) : upstream_(ParseEndpoint(upstream)) {
    if (listener == Listener::kUnix) endpoint_.path = directory_.File("proxy.sock");
    listener_ = Listen(endpoint_);
    loop_.emplace([this](std::vector<pollfd>& polled) { return Prepare(polled); },
                  [this](std::span<const pollfd> polled) { Handle(polled); });
  }

  void Run(const std::function<void()>& task) { loop_->Run(task); }
  const Endpoint& endpoint() const { return endpoint_; }

  template <typename Chosen>
  void SetWhere(Direction direction, const Faults& faults, Chosen chosen) {
    for (const auto& connection : connections_) {
      if (!chosen(*connection)) continue;
      Lane& lane = LaneOf(*connection, direction);
      lane.Set(faults);
      Write(*connection, lane, direction);
    }
    Sweep();
  }
  void SetDefault(Direction direction, const Faults& faults) {
    defaults_[Index(direction)] = faults;
  }
  void EndAll(Piece::End end) {
    for (const auto& connection : connections_) End(*connection, end);
    Sweep();
  }
  void HalfClose(Direction direction) {
    for (const auto& connection : connections_) {
      Lane& lane = LaneOf(*connection, direction);
      Push(lane, {}, Piece::End::kEof);
      Write(*connection, lane, direction);
    }
    Sweep();
  }
  void Refuse(bool refuse) {
    if (refuse) {
      listener_.Close();
    } else if (!listener_.valid()) {
      listener_ = Listen(endpoint_);
    }
  }
  void SetUpstream(const Endpoint& upstream) { upstream_ = upstream; }
  std::size_t Held(Direction direction) {
    std::size_t total = 0;
    for (const auto& connection : connections_) total += LaneOf(*connection, direction).queued;
    return total;
  }
  void DiscardHeld(Direction direction) {
    for (const auto& connection : connections_) {
      Lane& lane = LaneOf(*connection, direction);
      std::erase_if(lane.queue, [](const Piece& piece) { return piece.end == Piece::End::kNone; });
      lane.queued = 0;
    }
  }
  std::size_t accepted() const { return accepted_; }
  std::size_t open() const { return connections_.size(); }
  std::uint64_t passed(Direction direction) const { return passed_[Index(direction)]; }
  std::uint64_t arrived(Direction direction) const { return arrived_[Index(direction)]; }

 private:
  static std::size_t Index(Direction direction) { return static_cast<std::size_t>(direction); }
  static Lane& LaneOf(Connection& connection, Direction direction) {
    return connection.lanes[Index(direction)];
  }

  std::optional<SteadyTime> Prepare(std::vector<pollfd>& polled) {
    const SteadyTime now = std::chrono::steady_clock::now();
    const std::size_t first = polled.size();  // indexes below count from here, as Handle does
    std::optional<SteadyTime> due;
    polled.push_back({.fd = listener_.get(), .events = POLLIN, .revents = 0});
    for (const auto& connection : connections_) {
      short client = 0;
      short upstream = 0;
      Lane& requests = LaneOf(*connection, Direction::kRequests);
      Lane& replies = LaneOf(*connection, Direction::kReplies);
      if (requests.source_open && requests.queued < kMaxHeld) client |= POLLIN;
      if (replies.source_open && replies.queued < kMaxHeld) upstream |= POLLIN;
      const auto want = [&](const Lane& lane, short& events) {
        const std::optional<SteadyTime> next = lane.NextWrite();
        if (!next) return;
        if (*next <= now) {
          events |= POLLOUT;
        } else if (!due || *next < *due) {
          due = *next;
        }
      };
      want(requests, upstream);
      want(replies, client);
      connection->polled_at = polled.size() - first;
      // Not polled at all when nothing is wanted: poll() would report a hang-up again and again.
      polled.push_back({client != 0 ? connection->client.get() : -1, client, 0});
      polled.push_back({upstream != 0 ? connection->upstream.get() : -1, upstream, 0});
    }
    return due;
  }

  void Handle(std::span<const pollfd> polled) {
    for (const auto& connection : connections_) {
      for (const Direction direction : {Direction::kRequests, Direction::kReplies}) {
        Lane& lane = LaneOf(*connection, direction);
        const pollfd& source = polled[connection->polled_at + Index(direction)];
        if (source.revents != 0 && (source.events & POLLIN) != 0)
          Read(*connection, lane, direction);
      }
      for (const Direction direction : {Direction::kRequests, Direction::kReplies}) {
        Write(*connection, LaneOf(*connection, direction), direction);
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
      SetNoDelay(client.get());
      connection->upstream = Connect(upstream_);
      if (!connection->upstream.valid()) {
        CloseWithReset(client);
        continue;
      }
      connection->client = std::move(client);
      Lane& requests = LaneOf(*connection, Direction::kRequests);
      Lane& replies = LaneOf(*connection, Direction::kReplies);
      requests.source = replies.sink = &connection->client;
      requests.sink = replies.source = &connection->upstream;
      requests.Set(defaults_[Index(Direction::kRequests)]);
      replies.Set(defaults_[Index(Direction::kReplies)]);
      connections_.push_back(std::move(connection));
    }
  }

  void Read(Connection& connection, Lane& lane, Direction direction) {
    if (connection.gone || !lane.source_open) return;
    char buffer[65536];
    const ssize_t n = recv(lane.source->get(), buffer, sizeof(buffer), 0);
    if (n > 0) {
      Arrive(connection, lane, direction, std::string(buffer, static_cast<std::size_t>(n)));
    } else if (n == 0) {
      lane.source_open = false;
      Push(lane, {}, Piece::End::kEof);
    } else if (errno != EAGAIN && errno != EINTR) {
      lane.source_open = false;
      // A client that vanished leaves its requests on the way; a server that vanished is shown as
      // such.
      const bool replies = direction == Direction::kReplies;
      Push(lane, {}, replies ? Piece::End::kReset : Piece::End::kEof);
    }
  }

  void Arrive(Connection& connection, Lane& lane, Direction direction, std::string bytes) {
    const Faults faults = lane.faults;
    const std::uint64_t start = lane.seen;
    const std::uint64_t end = start + bytes.size();
    lane.seen = end;
    arrived_[Index(direction)] += bytes.size();
    if (faults.reset) {
      End(connection, Piece::End::kReset);
      return Happened(direction, faults);
    }
    if (faults.drop) return;
    if (faults.corrupt_at && start <= *faults.corrupt_at && *faults.corrupt_at < end) {
      char& byte = bytes[static_cast<std::size_t>(*faults.corrupt_at - start)];
      byte = static_cast<char>(static_cast<unsigned char>(byte) ^ faults.corrupt_xor);
      Happened(direction, faults);
    }
    if (faults.truncate_after && end >= *faults.truncate_after) {
      bytes.resize(static_cast<std::size_t>(*faults.truncate_after - start));
      Push(lane, std::move(bytes));
      Push(lane, {}, Piece::End::kClose);
      lane.source_open = false;
      return Happened(direction, faults);
    }
    Push(lane, std::move(bytes));
  }

  void Happened(Direction direction, const Faults& faults) {
    if (!faults.once) return;
    defaults_[Index(direction)] = {};
    for (const auto& connection : connections_) LaneOf(*connection, direction).Set({});
  }

  void Push(Lane& lane, std::string bytes, Piece::End end = Piece::End::kNone) {
    absl::Duration delay = lane.faults.delay;
    if (lane.faults.jitter > absl::ZeroDuration()) {
      delay += lane.faults.jitter * std::uniform_real_distribution<double>(0, 1)(random_);
    }
    const SteadyTime due = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(delay);
    lane.last_due = std::max(lane.last_due, due);  // never out of order
    lane.queued += bytes.size();
    lane.queue.push_back({lane.last_due, std::move(bytes), end});
  }

  void Write(Connection& connection, Lane& lane, Direction direction) {
    while (!connection.gone) {
      const SteadyTime now = std::chrono::steady_clock::now();
      const std::optional<SteadyTime> next = lane.NextWrite();
      if (!next || *next > now) return;
      Piece& piece = lane.queue.front();
      if (piece.end != Piece::End::kNone) {
        const Piece::End end = piece.end;
        lane.queue.pop_front();
        if (end != Piece::End::kEof) return End(connection, end);
        if (lane.sink_open) shutdown(lane.sink->get(), SHUT_WR);
        lane.sink_open = false;
        continue;
      }
      std::size_t size = piece.bytes.size();
      if (lane.faults.chunk != 0) size = std::min(size, lane.faults.chunk);
      if (lane.sink_open) {
        const ssize_t n = send(lane.sink->get(), piece.bytes.data(), size, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) {
          lane.sink_open = false;
        } else {
          size = static_cast<std::size_t>(n);
          passed_[Index(direction)] += size;
        }
      }
      piece.bytes.erase(0, size);
      lane.queued -= size;
      if (piece.bytes.empty()) lane.queue.pop_front();
      if (lane.faults.chunk != 0) {
        lane.next_write = now + absl::ToChronoNanoseconds(lane.faults.chunk_pause);
        return;
      }
    }
  }

  void End(Connection& connection, Piece::End end) {
    if (connection.gone) return;
    for (UniqueFd* fd : {&connection.client, &connection.upstream}) {
      if (end == Piece::End::kReset) {
        CloseWithReset(*fd);
      } else {
        DrainAndClose(*fd);
      }
    }
    connection.gone = true;
  }

  void Sweep() {
    std::erase_if(connections_, [](const std::unique_ptr<Connection>& connection) {
      return connection->gone || std::all_of(connection->lanes.begin(), connection->lanes.end(),
                                             [](const Lane& lane) { return lane.Done(); });
    });
  }

  TempDir directory_;
  Endpoint upstream_;
  Endpoint endpoint_;
  UniqueFd listener_;
  std::array<Faults, kDirections> defaults_;
  std::array<std::uint64_t, kDirections> passed_{};
  std::array<std::uint64_t, kDirections> arrived_{};
  std::vector<std::unique_ptr<Connection>> connections_;
  std::size_t accepted_ = 0;
  std::minstd_rand random_{std::random_device{}()};
  std::optional<LoopThread> loop_;  // last: ends first
};

FaultProxy::FaultProxy(std::string_view upstream, Listener listener)
    : core_(std::make_unique<Core>(upstream, listener)) {}

FaultProxy::~FaultProxy() = default;

std::string FaultProxy::url() const { return core_->endpoint().Url(); }
int FaultProxy::port() const { return core_->endpoint().port; }

void FaultProxy::Set(Direction direction, const Faults& faults) {
  core_->Run([&] {
    core_->SetDefault(direction, faults);
    core_->SetWhere(direction, faults, [](const Connection&) { return true; });
  });
}

void FaultProxy::SetPresent(Direction direction, const Faults& faults) {
  core_->Run([&] { core_->SetWhere(direction, faults, [](const Connection&) { return true; }); });
}

void FaultProxy::SetOne(std::size_t connection, Direction direction, const Faults& faults) {
  core_->Run([&] {
    core_->SetWhere(direction, faults,
                    [connection](const Connection& other) { return other.number == connection; });
  });
}

void FaultProxy::Heal() {
  Set(Direction::kRequests, {});
  Set(Direction::kReplies, {});
  Refuse(false);
}

void FaultProxy::LoseRepliesWhile(const std::atomic<int>& running) {
  for (int i = 0; running > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(12));
    if (i % 2 == 0) {
      ResetBeforeReply();
    } else {
      Set(Direction::kReplies, {.drop = true});
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      // What was dropped is missing from the stream, so the connection goes with it.
      ResetConnections();
      Heal();
    }
  }
  Heal();
}

void FaultProxy::ResetConnections() {
  core_->Run([&] { core_->EndAll(Piece::End::kReset); });
}

void FaultProxy::CloseConnections() {
  core_->Run([&] { core_->EndAll(Piece::End::kClose); });
}

void FaultProxy::HalfClose(Direction direction) {
  core_->Run([&] { core_->HalfClose(direction); });
}

void FaultProxy::Refuse(bool refuse) {
  core_->Run([&] { core_->Refuse(refuse); });
}

void FaultProxy::SetUpstream(std::string_view upstream) {
  core_->Run([&] { core_->SetUpstream(ParseEndpoint(upstream)); });
}

std::size_t FaultProxy::DiscardHeld(Direction direction) {
  std::size_t bytes = 0;
  core_->Run([&] {
    bytes = core_->Held(direction);
    core_->DiscardHeld(direction);
  });
  return bytes;
}

std::size_t FaultProxy::accepted() {
  std::size_t result = 0;
  core_->Run([&] { result = core_->accepted(); });
  return result;
}

std::size_t FaultProxy::open() {
  std::size_t result = 0;
  core_->Run([&] { result = core_->open(); });
  return result;
}

std::size_t FaultProxy::held(Direction direction) {
  std::size_t result = 0;
  core_->Run([&] { result = core_->Held(direction); });
  return result;
}

std::uint64_t FaultProxy::passed(Direction direction) {
  std::uint64_t result = 0;
  core_->Run([&] { result = core_->passed(direction); });
  return result;
}

std::uint64_t FaultProxy::arrived(Direction direction) {
  std::uint64_t result = 0;
  core_->Run([&] { result = core_->arrived(direction); });
  return result;
}

}  // namespace coord::testing
