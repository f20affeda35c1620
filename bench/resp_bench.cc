// The wire without a socket: replies parsed and commands encoded, against hiredis' reader and
// formatter on the same bytes.
#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "bench/microbench.h"
#include "coord/wire/request.h"
#include "coord/wire/resp.h"
#include "scripts.h"

namespace coord::bench {
namespace {

// What one receive may bring: as many replies as fill a buffer.
constexpr std::size_t kBuffer = 16 * 1024;

std::string LeaseReply() { return "*2\r\n:1714564800123456\r\n:10000\r\n"; }

std::string BulkReply(std::size_t size) {
  std::string reply;
  internal::AppendBulk(reply, std::string(size, 'x'));
  return reply;
}

std::string ItemsReply() {
  std::string reply = "*100\r\n";
  for (int i = 0; i < 100; ++i) reply += BulkReply(60);
  return reply;
}

struct Stream {
  std::string bytes;
  std::int64_t replies = 0;
};

Stream Repeated(std::string_view reply) {
  Stream stream;
  do {
    stream.bytes += reply;
    ++stream.replies;
  } while (stream.bytes.size() + reply.size() <= kBuffer);
  return stream;
}

// Both sides get the stream in pieces, as from a socket, and take what each piece completes.
template <typename Piece>
void InPieces(benchmark::State& state, const Stream& stream, const Piece& piece) {
  for (auto _ : state) {
    std::int64_t taken = 0;
    for (std::string_view rest = stream.bytes; !rest.empty();) {
      const std::string_view next = rest.substr(0, kBuffer);
      rest.remove_prefix(next.size());
      taken += piece(next);
    }
    if (taken != stream.replies) return state.SkipWithError("not parsed");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(stream.bytes.size()));
  state.SetItemsProcessed(state.iterations() * stream.replies);
}

void ParseCoord(benchmark::State& state, const std::string& reply) {
  internal::RespParser parser;
  InPieces(state, Repeated(reply), [&](std::string_view piece) {
    const std::span<char> room = parser.Prepare(piece.size());
    std::memcpy(room.data(), piece.data(), piece.size());
    parser.Commit(piece.size());
    std::int64_t taken = 0;
    for (Reply parsed; parser.Next(parsed) == internal::RespParser::Outcome::kReply; ++taken) {
      benchmark::DoNotOptimize(parsed);
    }
    return taken;
  });
}

void ParseHiredis(benchmark::State& state, const std::string& reply) {
  redisReader* const reader = redisReaderCreate();
  InPieces(state, Repeated(reply), [&](std::string_view piece) {
    redisReaderFeed(reader, piece.data(), piece.size());
    std::int64_t taken = 0;
    void* parsed = nullptr;
    for (; redisReaderGetReply(reader, &parsed) == REDIS_OK && parsed != nullptr; ++taken) {
      freeReplyObject(parsed);
    }
    return taken;
  });
  redisReaderFree(reader);
}

BENCHMARK_CAPTURE(ParseCoord, lease, LeaseReply())->Name("ParseLeaseReply/coord");
BENCHMARK_CAPTURE(ParseHiredis, lease, LeaseReply())->Name("ParseLeaseReply/hiredis");
BENCHMARK_CAPTURE(ParseCoord, items, ItemsReply())->Name("Parse100Items/coord");
BENCHMARK_CAPTURE(ParseHiredis, items, ItemsReply())->Name("Parse100Items/hiredis");
BENCHMARK_CAPTURE(ParseCoord, bulk, BulkReply(1 << 20))->Name("Parse1MB/coord");
BENCHMARK_CAPTURE(ParseHiredis, bulk, BulkReply(1 << 20))->Name("Parse1MB/hiredis");

// A renewal: EVALSHA, SHA1, number of keys, two keys, owner, time to live.
constexpr std::string_view kLease = "coord:{deploy}:lease";
constexpr std::string_view kFence = "coord:{deploy}:fence";
constexpr std::string_view kOwner = "0123456789abcdef0123456789abcdef@host:12345";

void EncodeCoord(benchmark::State& state) {
  for (auto _ : state) {
    const internal::Request request =
        internal::Bind(internal::kMutexRenew, {kLease, kFence}, {kOwner, "10000"});
    benchmark::DoNotOptimize(request.bytes().data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(EncodeCoord)->Name("EncodeRenew/coord");

void EncodeHiredis(benchmark::State& state) {
  const std::array<std::string_view, 7> args = {
      "EVALSHA", internal::kMutexRenew.sha1, "2", kLease, kFence, kOwner, "10000"};
  std::array<const char*, args.size()> text;
  std::array<std::size_t, args.size()> size;
  for (std::size_t i = 0; i < args.size(); ++i) {
    text[i] = args[i].data();
    size[i] = args[i].size();
  }
  for (auto _ : state) {
    char* command = nullptr;
    if (redisFormatCommandArgv(&command, static_cast<int>(args.size()), text.data(), size.data()) <
        0) {
      return state.SkipWithError("not encoded");
    }
    benchmark::DoNotOptimize(command);
    redisFreeCommand(command);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(EncodeHiredis)->Name("EncodeRenew/hiredis");

}  // namespace
}  // namespace coord::bench
