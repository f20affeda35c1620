#include "coord/wire/request.h"

#include <charconv>
#include <utility>

namespace coord::internal {
namespace {

constexpr std::string_view kPing = "*1\r\n$4\r\nPING\r\n";

}  // namespace

Request Request::Command(std::span<const std::string_view> args) {
  Request request;
  if (!args.empty()) request.what_ = args[0].substr(0, 64);
  AppendCommand(request.bytes_, args);
  return request;
}

Request Request::Call(const ScriptText& script, std::span<const std::string_view> keys,
                      std::span<const std::string_view> args) {
  Request request;
  request.script_ = &script;
  request.what_ = script.name;
  request.retry_safe_ = script.retry_safe;
  request.arity_ = 3 + keys.size() + args.size();
  std::size_t size = 96;
  for (std::string_view part : keys) size += part.size() + 16;
  for (std::string_view part : args) size += part.size() + 16;
  std::string& out = request.bytes_;
  out.reserve(size);
  AppendArrayHeader(out, request.arity_);
  out.append("$7\r\nEVALSHA\r\n");
  AppendBulk(out, script.sha1);
  request.tail_ = out.size();
  char digits[24];
  const char* end = std::to_chars(digits, digits + sizeof(digits), keys.size()).ptr;
  AppendBulk(out, std::string_view(digits, static_cast<std::size_t>(end - digits)));
  for (std::string_view key : keys) AppendBulk(out, key);
  for (std::string_view arg : args) AppendBulk(out, arg);
  return request;
}

Request Request::PushedCommand(std::span<const std::string_view> args) {
  Request request = Command(args);
  request.bytes_.append(kPing);
  return request;
}

Request Request::CommandKeysOf(std::int64_t words, std::string_view encoded) {
  Request request;
  request.what_ = "COMMAND GETKEYS";
  AppendArrayHeader(request.bytes_, static_cast<std::size_t>(words) + 2);
  AppendBulk(request.bytes_, "COMMAND");
  AppendBulk(request.bytes_, "GETKEYS");
  request.bytes_.append(encoded);
  request.retry_safe_ = true;
  return request;
}

void Request::TellOthersFirst() {
  if (std::exchange(told_first_, true)) return;
  bytes_.insert(0, kPing);
  prefix_ += kPing.size();
  tail_ += kPing.size();
}

void Request::SetAsking(bool asking) {
  constexpr std::string_view kAsking = "*1\r\n$6\r\nASKING\r\n";
  if (std::exchange(asking_, asking) == asking) return;
  if (asking) {
    bytes_.insert(prefix_, kAsking);
    prefix_ += kAsking.size();
    tail_ += kAsking.size();
  } else {
    prefix_ -= kAsking.size();
    tail_ -= kAsking.size();
    bytes_.erase(prefix_, kAsking.size());
  }
}

bool Request::UseEval() {
  if (script_ == nullptr) return false;
  std::string eval;
  eval.reserve(bytes_.size() + script_->text.size() + 32);
  eval.append(bytes_, 0, prefix_);
  AppendArrayHeader(eval, arity_);
  eval.append("$4\r\nEVAL\r\n");
  AppendBulk(eval, script_->text);
  eval.append(bytes_, tail_);
  bytes_ = std::move(eval);
  script_ = nullptr;
  return true;
}

}  // namespace coord::internal
