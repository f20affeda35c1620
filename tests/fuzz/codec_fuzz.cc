// Any bytes are decoded or refused as lost, without a crash; what is decoded can be encoded and
// decodes to the same.
//
//   clang++ -fsanitize=fuzzer,address,undefined ... && ./codec_fuzz -max_len=4096
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cache/codec.h"

namespace {

using Json = nlohmann::json;

void Require(bool holds, std::string_view claim) {
  if (holds) return;
  std::fprintf(stderr, "violated: %.*s\n", static_cast<int>(claim.size()), claim.data());
  std::abort();
}

template <typename Codec>
void Check(const Codec& codec, std::string_view bytes) {
  const absl::StatusOr<Json> json = codec.template Decode<Json>(bytes);
  if (!json.ok()) {
    Require(json.status().code() == absl::StatusCode::kDataLoss, "refused as lost");
    return;
  }
  Require(Codec::IsNull(bytes) == json->is_null(), "null is recognised");
  std::string again;
  Require(codec.Encode(*json, again).ok(), "what is decoded can be encoded");
  const absl::StatusOr<Json> second = codec.template Decode<Json>(again);
  Require(second.ok(), "what is encoded can be decoded");
  // As text, since not-a-number is not equal to itself.
  std::string third;
  Require(codec.Encode(*second, third).ok() && third == again, "it decodes to the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Check(coord::JsonCodec(), bytes);
  Check(coord::MessagePackCodec(), bytes);
  const absl::StatusOr<double> number = coord::RawCodec().Decode<double>(bytes);
  if (number.ok()) {
    std::string text;
    Require(coord::RawCodec().Encode(*number, text).ok(), "a number can be written");
    Require(*coord::RawCodec().Decode<double>(text) == *number, "and reads the same");
  }
  return 0;
}
