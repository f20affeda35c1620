#include "tools/dev/origin.h"

#include <fcntl.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord::dev {
namespace {

using coord::internal::CondVar;
using coord::internal::Mutex;
using coord::internal::MutexLock;
using coord::internal::StrCat;

// The library keeps a thread for each connection as long as it is open.
constexpr int kMaxThreads = 192;
// The library listens with a backlog of five, and a connection beyond it comes a second late.
constexpr int kBacklog = 1024;
constexpr std::time_t kPatienceSeconds = 60;

bool SameName(std::string_view one, std::string_view other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](char a, char b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(a) == lower(b);
  });
}

bool Has(const Origin::Fields& fields, std::string_view name) {
  return std::any_of(fields.begin(), fields.end(),
                     [&](const auto& field) { return SameName(field.first, name); });
}

// Path of a target, in origin form or (of a request to a proxy) with scheme and host before.
std::string PathOf(std::string_view target) {
  const std::size_t scheme = target.find("://");
  if (!target.starts_with('/') && scheme != std::string_view::npos) {
    const std::size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  return std::string(target.substr(0, target.find('?')));
}

Origin::Request Copy(const httplib::Request& request) {
  Origin::Request copy{request.method, request.target, {}, {}};
  // The library puts some of its own among the client's.
  constexpr std::array<std::string_view, 4> kOwn = {"REMOTE_ADDR", "REMOTE_PORT", "LOCAL_ADDR",
                                                    "LOCAL_PORT"};
  for (const auto& [name, value] : request.headers) {
    if (std::find(kOwn.begin(), kOwn.end(), name) == kOwn.end()) {
      copy.headers.emplace_back(name, value);
    }
  }
  return copy;
}

// Whether those of one name stand in `map` as in `fields`.
bool SameOrder(const Origin::Fields& fields, const httplib::Headers& map) {
  return std::all_of(fields.begin(), fields.end(), [&](const auto& field) {
    const auto [first, last] = map.equal_range(field.first);
    std::vector<std::string_view> there, wanted;
    std::for_each(first, last, [&](const auto& entry) { there.push_back(entry.second); });
    for (const auto& [name, value] : fields) {
      if (SameName(name, field.first)) wanted.push_back(value);
    }
    return there == wanted;
  });
}

// Which way the library's map keeps those of one name depends on its version.
httplib::Headers ToMap(const Origin::Fields& fields) {
  httplib::Headers map;
  for (const auto& [name, value] : fields) map.emplace(name, value);
  if (SameOrder(fields, map)) return map;
  map.clear();
  for (auto field = fields.rbegin(); field != fields.rend(); ++field) {
    map.emplace(field->first, field->second);
  }
  return map;
}

bool IsAtPort(int fd, int port) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
         address.sin_family == AF_INET && ntohs(address.sin_port) == port;
}

// Ends what is open at `port` of this process, so that threads that wait for a next request
// return.
void ShutDownConnections(int port) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end;
       !error && entry != end; entry.increment(error)) {
    const int fd = std::atoi(entry->path().filename().c_str());
    // Of other files no copies are made: to close one of a file would give up all locks that this
    // process has on it, such as a database's.
    if (!IsAtPort(fd, port)) continue;
    // The copy stays what it is, whatever other threads close and open meanwhile. It is not for
    // programs that they start: those would keep the connection open.
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) continue;
    if (IsAtPort(copy, port)) ::shutdown(copy, SHUT_RDWR);
    ::close(copy);
  }
}

// A thread for each connection, started when there is none to spare.
class Threads final : public httplib::TaskQueue {
 public:
  using Task = std::function<void()>;
  // bool in newer versions of the library, void in older ones.
  using Taken = decltype(std::declval<httplib::TaskQueue&>().enqueue(Task()));

  explicit Threads(int port) : port_(port) {}

  Taken enqueue(Task task) override {
    Add(std::move(task));
    return static_cast<Taken>(true);
  }

  // The library's, when it no longer listens; destroys the queue afterwards.
  void shutdown() override {
    {
      const MutexLock lock(mutex_);
      ended_ = true;
      changed_.NotifyAll();
      while (running_ > 0) {
        // Again and again: one that was accepted last may begin to wait only now.
        mutex_.Unlock();
        ShutDownConnections(port_);
        mutex_.Lock();
        if (running_ > 0) {
          finished_.WaitUntil(mutex_,
                              std::chrono::steady_clock::now() + std::chrono::milliseconds(10));
        }
      }
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Add(Task task) {
    const MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ < static_cast<int>(tasks_.size()) && running_ < kMaxThreads) {
      ++running_;
      threads_.emplace_back([this] { Run(); });
    }
    changed_.NotifyOne();
  }

  void Run() {
    const MutexLock lock(mutex_);
    while (true) {
      ++idle_;
      while (tasks_.empty() && !ended_) changed_.Wait(mutex_);
      --idle_;
      if (tasks_.empty()) break;
      const Task task = std::move(tasks_.front());
      tasks_.erase(tasks_.begin());
      mutex_.Unlock();
      task();
      mutex_.Lock();
    }
    --running_;
    finished_.NotifyAll();
  }

  const int port_;
  Mutex mutex_;
  CondVar changed_, finished_;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  int idle_ ABSL_GUARDED_BY(mutex_) = 0, running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // added to and joined by the listening thread
};

}  // namespace

struct Origin::State {
  std::unique_ptr<httplib::Server> server;
  bool tls = false;
  int port = 0;
  int listening = -1;  // the server's socket
  std::thread thread;

  mutable Mutex mutex;
  std::map<std::string, Handler, std::less<>> handlers ABSL_GUARDED_BY(mutex);
  std::vector<Request> received ABSL_GUARDED_BY(mutex);
  // Requests whose heads have been read, by the library's objects for them.
  std::map<const httplib::Request*, Request> underway ABSL_GUARDED_BY(mutex);

  void SetUp();
  void HeadRead(httplib::Request& request);
  void BodyRead(httplib::Request& request, httplib::Response& response);
  void Respond(httplib::Request& request, httplib::Response& response);
  Reply Answer(const Request& request);
};

// What the library would do by itself with a request and its response (decode the one's body and
// take forms apart, compress the other, cut ranges out of it, add fields) hangs on fields of the
// request. So it does not see them. The requests that its callbacks get as const are not.
void Origin::State::SetUp() {
  const auto mutable_of = [](const httplib::Request& request) -> httplib::Request& {
    return const_cast<httplib::Request&>(request);
  };
  server->set_pre_routing_handler(
      [this, mutable_of](const httplib::Request& request, httplib::Response&) {
        HeadRead(mutable_of(request));
        return httplib::Server::HandlerResponse::Unhandled;
      });
  const httplib::Server::Handler body_read = [this, mutable_of](const httplib::Request& request,
                                                                httplib::Response& response) {
    BodyRead(mutable_of(request), response);
  };
  server->Get("[^]*", body_read);
  server->Post("[^]*", body_read);
  // Called last before the response is written, after the library has added its own.
  server->set_post_routing_handler(
      [this, mutable_of](const httplib::Request& request, httplib::Response& response) {
        Respond(mutable_of(request), response);
      });
  server->set_tcp_nodelay(true);
  server->set_keep_alive_max_count(1'000'000'000);
  server->set_keep_alive_timeout(kPatienceSeconds);
  server->set_read_timeout(kPatienceSeconds);
  server->set_write_timeout(kPatienceSeconds);
  server->set_socket_options([this](auto socket) { listening = static_cast<int>(socket); });
  server->new_task_queue = [this] { return new Threads(port); };
}

void Origin::State::HeadRead(httplib::Request& request) {
  Request copy = Copy(request);
  for (const char* name : {"Accept-Encoding", "Content-Encoding", "Content-Type", "Range"}) {
    request.headers.erase(name);
  }
  request.ranges.clear();
  // It reads a body, or none, according to the method.
  const bool has_body =
      request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
  request.method = has_body ? "POST" : "GET";
  const MutexLock lock(mutex);
  underway.insert_or_assign(&request, std::move(copy));
}

void Origin::State::BodyRead(httplib::Request& request, httplib::Response& response) {
  response.status = 200;
  const MutexLock lock(mutex);
  Request& copy = underway.at(&request);
  copy.body = std::move(request.body);
  request.method = copy.method;
}

Origin::Reply Origin::State::Answer(const Request& request) {
  Handler handler;
  {
    const MutexLock lock(mutex);
    received.push_back(request);
    const auto found = handlers.find(PathOf(request.target));
    if (found == handlers.end()) return {.status = 404};
    handler = found->second;
  }
  try {
    return handler(request);
  } catch (...) {
    return {.status = 500, .body = "the handler threw\n"};
  }
}

void Origin::State::Respond(httplib::Request& request, httplib::Response& response) {
  Request copy;
  {
    const MutexLock lock(mutex);
    const auto found = underway.find(&request);
    // What the library could not read, it answers itself.
    if (found == underway.end()) return;
    copy = std::move(found->second);
    underway.erase(found);
    if (response.status != 200) return;
  }
  Reply reply = Answer(copy);
  const bool no_body = reply.status < 200 || reply.status == 204 || reply.status == 304;
  if (no_body) {
    reply.body.clear();
    reply.chunked_bytes = 0;
  }
  const bool close = response.get_header_value("Connection") == "close";
  if (close && !Has(reply.headers, "Connection")) reply.headers.emplace_back("Connection", "close");
  if (reply.chunked_bytes > 0) {
    response.set_chunked_content_provider(
        "text/plain", [left = reply.chunked_bytes](std::size_t, httplib::DataSink& sink) mutable {
          static constexpr std::string_view kPattern = "0123456789abcdefghijklmnopqrstuvwxyz\n";
          static const std::string kPiece = [] {
            std::string piece;
            while (piece.size() < 16384) piece += kPattern;
            return piece;
          }();
          const std::size_t size = std::min(left, kPiece.size());
          left -= size;
          const bool written = sink.write(kPiece.data(), size);
          if (left == 0) sink.done();
          return written;
        });
    if (!Has(reply.headers, "Transfer-Encoding")) {
      reply.headers.emplace_back("Transfer-Encoding", "chunked");
    }
  } else if (!no_body && !Has(reply.headers, "Content-Length")) {
    reply.headers.emplace_back("Content-Length", StrCat(reply.body.size()));
  }
  response.status = reply.status;
  response.headers = ToMap(reply.headers);
  response.body = std::move(reply.body);
}

std::string Origin::Request::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (SameName(key, name)) return value;
  }
  return {};
}

Origin::Origin(std::unique_ptr<State> state) : state_(std::move(state)) {}

Origin::~Origin() {
  state_->server->stop();
  state_->thread.join();
}

absl::StatusOr<std::unique_ptr<Origin>> Origin::Start() { return Start(Tls{}); }

absl::StatusOr<std::unique_ptr<Origin>> Origin::Start(const Tls& tls) {
  auto state = std::make_unique<State>();
  state->tls = !tls.cert_file.empty();
  if (state->tls) {
    state->server = std::make_unique<httplib::SSLServer>(
        tls.cert_file.c_str(), tls.key_file.c_str(),
        tls.client_ca_file.empty() ? nullptr : tls.client_ca_file.c_str());
  } else {
    state->server = std::make_unique<httplib::Server>();
  }
  if (!state->server->is_valid()) {
    return absl::InternalError("cannot start an HTTP server: certificate or key cannot be used");
  }
  state->SetUp();
  state->port = state->server->bind_to_any_port("127.0.0.1");
  if (state->port <= 0 || ::listen(state->listening, kBacklog) != 0) {
    return absl::InternalError("cannot start an HTTP server: no port to listen at");
  }
  State* const raw = state.get();
  state->thread = std::thread([raw] { raw->server->listen_after_bind(); });
  // Until then it would not heed that it is stopped.
  while (!state->server->is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return std::unique_ptr<Origin>(new Origin(std::move(state)));
}

void Origin::On(std::string path, Handler handler) {
  const MutexLock lock(state_->mutex);
  state_->handlers.insert_or_assign(std::move(path), std::move(handler));
}

void Origin::On(std::string path, Reply reply) {
  On(std::move(path), Handler([reply = std::move(reply)](const Request&) { return reply; }));
}

int Origin::port() const { return state_->port; }

std::string Origin::Url(std::string_view target) const {
  return StrCat(state_->tls ? "https" : "http", "://127.0.0.1:", state_->port, target);
}

int Origin::requests(std::string_view path) const {
  const MutexLock lock(state_->mutex);
  return static_cast<int>(
      std::count_if(state_->received.begin(), state_->received.end(),
                    [&](const Request& request) { return PathOf(request.target) == path; }));
}

int Origin::requests() const {
  const MutexLock lock(state_->mutex);
  return static_cast<int>(state_->received.size());
}

std::vector<Origin::Request> Origin::log(std::string_view path) const {
  const MutexLock lock(state_->mutex);
  std::vector<Request> found;
  for (const Request& request : state_->received) {
    if (PathOf(request.target) == path) found.push_back(request);
  }
  return found;
}

}  // namespace coord::dev
