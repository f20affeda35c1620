#include "bench/raw_pipeline.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "bench/hiredis_caller.h"
#include "bench/machine.h"

namespace coord::bench {
namespace {

// An array of two bulk strings.
constexpr std::size_t kAcquireLines = 5;

void AppendNumber(std::string& out, std::size_t number) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof(digits), number).ptr);
}

void AppendBulk(std::string& out, std::string_view text) {
  out.push_back('$');
  AppendNumber(out, text.size());
  out.append("\r\n").append(text).append("\r\n");
}

}  // namespace

RawPipeline::RawPipeline(const std::string& socket_path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) Fatal("socket path too long: " + socket_path);
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    Fatal("cannot connect to " + socket_path);
  }
}

RawPipeline::~RawPipeline() { close(fd_); }

void RawPipeline::Load(const internal::ScriptText& script) {
  AppendBulk(output_.append("*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n"), script.text);
  lines_ += 2;
  if (!Run()) Fatal("cannot load a script");
}

void RawPipeline::Add(const internal::ScriptText& script,
                      std::initializer_list<std::string_view> keys,
                      std::initializer_list<std::string_view> args) {
  output_.push_back('*');
  AppendNumber(output_, 3 + keys.size() + args.size());
  output_.append("\r\n$7\r\nEVALSHA\r\n");
  AppendBulk(output_, script.sha1);
  const char count = static_cast<char>('0' + keys.size());
  AppendBulk(output_, std::string_view(&count, 1));
  for (const std::string_view key : keys) AppendBulk(output_, key);
  for (const std::string_view arg : args) AppendBulk(output_, arg);
  lines_ += script.name == "mutex_acquire" ? kAcquireLines : 1;
}

bool RawPipeline::Run() {
  std::string_view rest = output_;
  while (!rest.empty()) {
    const ssize_t n = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  output_.clear();
  char input[64 * 1024];
  while (lines_ > 0) {
    const ssize_t n = recv(fd_, input, sizeof(input), 0);
    if (n <= 0) return false;
    const std::string_view got(input, static_cast<std::size_t>(n));
    // An error, or a lease that was refused: neither may be counted as work done.
    if (got.find('-') != std::string_view::npos || got.find(":0\r\n") != std::string_view::npos) {
      return false;
    }
    const auto lines = static_cast<std::size_t>(std::count(got.begin(), got.end(), '\n'));
    if (lines > lines_) return false;
    lines_ -= lines;
  }
  return true;
}

}  // namespace coord::bench
