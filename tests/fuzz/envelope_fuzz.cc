// Any stored bytes open or are refused as lost, without a crash and within the bound; what opens
// can be sealed again and opens to the same; nothing opens with a signer that did not sign it.
//
//   clang++ -fsanitize=fuzzer,address,undefined ... && ./envelope_fuzz -max_len=4096
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cache/internal/envelope.h"

namespace {

using coord::internal::Open;
using coord::internal::Opened;
using coord::internal::Seal;

constexpr std::size_t kMaxBytes = std::size_t{1} << 20;

void Require(bool holds, std::string_view claim) {
  if (holds) return;
  std::fprintf(stderr, "violated: %.*s\n", static_cast<int>(claim.size()), claim.data());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const coord::Signer* const signer =
      new coord::Signer({coord::SigningKey{"id", "0123456789abcdef"}});
  const std::string stored(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Opened> opened = Open("key", stored, {.max_bytes = kMaxBytes});
  if (opened.ok()) {
    Require(opened->payload.size() <= kMaxBytes, "within the bound");
    const absl::StatusOr<std::string> sealed = Seal("key", opened->payload, opened->fields, {});
    Require(sealed.ok(), "what opens can be sealed");
    const absl::StatusOr<Opened> again = Open("key", *sealed, {});
    Require(again.ok() && again->fields == opened->fields && again->payload == opened->payload,
            "what is sealed opens to the same");
  } else {
    Require(opened.status().code() == absl::StatusCode::kDataLoss, "refused as lost");
  }
  Require(!Open("key", stored, {.max_bytes = kMaxBytes, .signer = signer}).ok(), "not signed");

  // Signed bytes of the fuzzer's, so that what stands behind the signature is reached.
  std::string signed_bytes = stored;
  Require(signer->Sign("key", signed_bytes).ok(), "anything can be signed");
  const absl::StatusOr<Opened> verified = Open("key", signed_bytes, {.signer = signer});
  Require(verified.ok() || verified.status().code() == absl::StatusCode::kDataLoss,
          "refused as lost");
  return 0;
}
