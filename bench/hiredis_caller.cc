#include "bench/hiredis_caller.h"

#include <array>

#include "bench/machine.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::bench {
namespace {

constexpr std::size_t kMostArguments = 32;

struct Words {
  std::array<std::string_view, kMostArguments> all;
  std::size_t size = 0;  // 0: they are too many
};

Words EvalSha(const internal::ScriptText& script, std::initializer_list<std::string_view> keys,
              std::initializer_list<std::string_view> args, std::string_view count) {
  Words words{{"EVALSHA", script.sha1, count}, 3};
  if (words.size + keys.size() + args.size() > words.all.size()) return {};
  for (const std::string_view key : keys) words.all[words.size++] = key;
  for (const std::string_view arg : args) words.all[words.size++] = arg;
  return words;
}

// As hiredis wants them.
struct Arguments {
  explicit Arguments(std::span<const std::string_view> words)
      : size(static_cast<int>(words.size())) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      texts[i] = words[i].data();
      sizes[i] = words[i].size();
    }
  }
  std::array<const char*, kMostArguments> texts;
  std::array<std::size_t, kMostArguments> sizes;
  const int size;
};

// No script here has ten keys.
char Digit(std::size_t count) { return static_cast<char>('0' + count); }

}  // namespace

HiredisCaller::HiredisCaller(const std::string& socket_path)
    : context_(redisConnectUnix(socket_path.c_str())) {
  if (context_ == nullptr || context_->err != 0) Fatal("hiredis cannot connect to " + socket_path);
}

HiredisReply HiredisCaller::Send(std::span<const std::string_view> words) {
  if (words.empty() || words.size() > kMostArguments) return nullptr;
  Arguments arguments(words);
  HiredisReply reply(static_cast<redisReply*>(redisCommandArgv(
      context_.get(), arguments.size, arguments.texts.data(), arguments.sizes.data())));
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
  const char count = Digit(keys.size());
  const Words words = EvalSha(script, keys, args, {&count, 1});
  return Send({words.all.data(), words.size});
}

bool HiredisCaller::Append(const internal::ScriptText& script,
                           std::initializer_list<std::string_view> keys,
                           std::initializer_list<std::string_view> args) {
  const char count = Digit(keys.size());
  const Words words = EvalSha(script, keys, args, {&count, 1});
  if (words.size == 0) return false;
  Arguments arguments({words.all.data(), words.size});
  return redisAppendCommandArgv(context_.get(), arguments.size, arguments.texts.data(),
                                arguments.sizes.data()) == REDIS_OK;
}

bool HiredisCaller::Flush() {
  for (int done = 0; done == 0;) {
    if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return false;
  }
  return true;
}

HiredisReply HiredisCaller::Receive() {
  void* received = nullptr;
  if (redisGetReply(context_.get(), &received) != REDIS_OK) return nullptr;
  HiredisReply reply(static_cast<redisReply*>(received));
  if (reply != nullptr && reply->type == REDIS_REPLY_ERROR) reply.reset();
  return reply;
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
