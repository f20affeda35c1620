// Any bytes are a stored response, which is written back as the same bytes, or are refused as lost;
// without a crash, and without more memory than they have.
//
//   clang++ -fsanitize=fuzzer,address,undefined ... && ./stored_response_fuzz -max_len=4096
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "cache/http/internal/stored_response.h"

namespace {

void Require(bool holds, std::string_view claim) {
  if (holds) return;
  std::fprintf(stderr, "violated: %.*s\n", static_cast<int>(claim.size()), claim.data());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using coord::http::internal::DecodeStored;
  using coord::http::internal::EncodeStored;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto decoded = DecodeStored(bytes);
  if (decoded.ok()) {
    Require(EncodeStored(*decoded) == bytes, "what decodes is written back as it was");
    Require(decoded->body.size() < size, "no larger than its bytes");
  } else {
    Require(decoded.status().code() == absl::StatusCode::kDataLoss, "refused as lost");
  }
  return 0;
}
