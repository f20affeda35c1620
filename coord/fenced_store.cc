#include "coord/fenced_store.h"

#include <utility>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

constexpr std::size_t kMaxValue = 64u << 20;
constexpr std::uint64_t kTokenLimit = std::uint64_t{1} << 53;
constexpr std::size_t kTokenDigits = 16;
constexpr absl::Duration kMemory = absl::Hours(48);

absl::Status Unexpected(std::string_view script, const Reply& reply) {
  return internal::MakeStatus(absl::StatusCode::kDataLoss,
                              StrCat(script, " answered ", reply.ToDebugString()));
}

}  // namespace

FencedStore::FencedStore(Client client, std::string_view name)
    : client_(std::move(client)),
      name_(name),
      value_key_(internal::SessionOf(client_).Key("fenced store", name, "fenced")) {
  if (value_key_.ok()) {
    token_key_ = *internal::SessionOf(client_).Key("fenced store", name, "seen");
  }
}

absl::StatusOr<FencedResult> FencedStore::Set(FencingToken token, std::string_view value,
                                              FencedOptions options, CallOptions call) const {
  if (!value_key_.ok()) return value_key_.status();
  if (token.value() == 0 || token.value() >= kTokenLimit) {
    return InvalidArgument(
        StrCat("the token is ", token.value(), "; it must be that of a lease, 1 to 2^53 - 1"));
  }
  if (value.size() > kMaxValue) {
    return InvalidArgument(
        StrCat("the value has ", value.size(), " bytes; it must have at most ", kMaxValue));
  }
  if (options.ttl) {
    if (absl::Status status = internal::CheckDataTtl(*options.ttl); !status.ok()) return status;
  }
  // Texts of one length compare as numbers do.
  std::string digits = StrCat(token.value());
  digits.insert(0, kTokenDigits - digits.size(), '0');
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      internal::Bind(
          internal::kFencedSet, {*value_key_, token_key_},
          {digits, value, options.ttl ? StrCat(internal::CeilMilliseconds(*options.ttl)) : "",
           StrCat(internal::CeilMilliseconds(kMemory))}),
      call);
  if (!reply.ok()) {
    return internal::Annotate(reply.status(), StrCat("fenced store ", Quoted(name_)));
  }
  const auto items = reply->items();
  const auto seen = items.size() == 2 ? internal::ParseInt64(items[1].text()) : std::nullopt;
  if (!seen) return Unexpected("fenced_set", *reply);
  return FencedResult{items[0].integer() == 1, FencingToken(static_cast<std::uint64_t>(*seen))};
}

absl::StatusOr<FencedValue> FencedStore::Get(CallOptions call) const {
  if (!value_key_.ok()) return value_key_.status();
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      internal::Bind(internal::kFencedGet, {*value_key_, token_key_}), call);
  if (!reply.ok()) {
    return internal::Annotate(reply.status(), StrCat("fenced store ", Quoted(name_)));
  }
  std::vector<Reply>& items = reply->mutable_items();
  if (items.size() != 2) return Unexpected("fenced_get", *reply);
  FencedValue found;
  if (items[0].is_string()) found.value = std::move(items[0].mutable_text());
  if (items[1].is_string()) {
    const auto seen = internal::ParseInt64(items[1].text());
    if (!seen) return Unexpected("fenced_get", *reply);
    found.token = FencingToken(static_cast<std::uint64_t>(*seen));
  }
  return found;
}

}  // namespace coord
