#include "bench/hiredis_caller.h"

#include <array>

#include "bench/machine.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::bench {
namespace {

constexpr std::size_t kMostArguments = 32;

}  // namespace

HiredisCaller::HiredisCaller(const std::string& socket_path)
    : context_(redisConnectUnix(socket_path.c_str())) {
  if (context_ == nullptr || context_->err != 0) Fatal("hiredis cannot connect to " + socket_path);
}

HiredisReply HiredisCaller::Send(std::span<const std::string_view> args) {
  std::array<const char*, kMostArguments> text;
  std::array<std::size_t, kMostArguments> size;
  if (args.size() > kMostArguments) return nullptr;
  for (std::size_t i = 0; i < args.size(); ++i) {
    text[i] = args[i].data();
    size[i] = args[i].size();
  }
  HiredisReply reply(static_cast<redisReply*>(
      redisCommandArgv(context_.get(), static_cast<int>(args.size()), text.data(), size.data())));
  if (reply != nullptr && reply->type == REDIS_REPLY_ERROR) reply.reset();
  return reply;
}

HiredisReply HiredisCaller::Command(std::initializer_list<std::string_view> args) {
  return Send({args.begin(), args.size()});
}

void HiredisCaller::Load(const internal::ScriptText& script) {
  const HiredisReply reply = Command({"SCRIPT", "LOAD", script.text});
  if (reply == nullptr ||
      std::string_view(reply->str, static_cast<std::size_t>(reply->len)) != script.sha1) {
    Fatal(internal::StrCat("cannot load script ", script.name));
  }
}

HiredisReply HiredisCaller::Run(const internal::ScriptText& script,
                                std::initializer_list<std::string_view> keys,
                                std::initializer_list<std::string_view> args) {
  const char count[] = {static_cast<char>('0' + keys.size())};  // no script here has ten keys
  std::array<std::string_view, kMostArguments> all = {"EVALSHA", script.sha1,
                                                      std::string_view(count, 1)};
  std::size_t size = 3;
  if (size + keys.size() + args.size() > all.size()) return nullptr;
  for (const std::string_view key : keys) all[size++] = key;
  for (const std::string_view arg : args) all[size++] = arg;
  return Send({all.data(), size});
}

CheapOwnerIds::CheapOwnerIds() : random_(std::random_device()()) {
  id_ = std::string(32, '0') + "@" + internal::DefaultLabel();
}

const std::string& CheapOwnerIds::Next() {
  constexpr char kHex[] = "0123456789abcdef";
  for (std::size_t word = 0; word < 2; ++word) {
    std::uint64_t bits = random_();
    for (std::size_t i = 0; i < 16; ++i, bits >>= 4) id_[16 * word + i] = kHex[bits & 15];
  }
  return id_;
}

HiredisMutex::HiredisMutex(const std::string& socket_path, std::string_view name)
    : caller_(socket_path),
      lease_key_(internal::StrCat("coord:{", name, "}:lease")),
      fence_key_(internal::StrCat("coord:{", name, "}:fence")),
      queue_key_(internal::StrCat("coord:{", name, "}:queue")),
      readers_key_(internal::StrCat("coord:{", name, "}:readers")) {
  caller_.Load(internal::kMutexAcquire);
  caller_.Load(internal::kMutexRelease);
}

bool HiredisMutex::Pair() {
  const std::string& owner = owners_.Next();
  const HiredisReply taken =
      caller_.Run(internal::kMutexAcquire, {lease_key_, fence_key_, queue_key_, readers_key_},
                  {owner, "10000", "t"});
  if (taken == nullptr || taken->elements != 2 || taken->element[0]->str == nullptr) return false;
  const HiredisReply released = caller_.Run(
      internal::kMutexRelease, {lease_key_, fence_key_, queue_key_, readers_key_}, {owner});
  return released != nullptr && released->integer == 1;
}

}  // namespace coord::bench
