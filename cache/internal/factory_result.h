// What a factory may be and return, and how it becomes bytes.
#ifndef COORD_CACHE_INTERNAL_FACTORY_RESULT_H_
#define COORD_CACHE_INTERNAL_FACTORY_RESULT_H_

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace coord {
class ComputeContext;
}

namespace coord::internal {

// Type URL of an empty payload that a factory's own errors carry, so that one can tell them from
// the cache's.
inline constexpr char kFromFactory[] = "coord/factory";

// T of T, std::optional<T>; text of literals and views.
template <typename T>
struct Nullable {
  using Value =
      std::conditional_t<std::is_convertible_v<const T&, std::string_view>, std::string, T>;
};
template <typename T>
struct Nullable<std::optional<T>> : Nullable<T> {};
template <typename T>
using NullableValue = typename Nullable<std::remove_cvref_t<T>>::Value;

template <typename T>
struct Result {
  using Inner = T;
};
template <typename T>
struct Result<absl::StatusOr<T>> {
  using Inner = T;
};

template <typename F>
auto CallFactory(F& factory, ComputeContext& context) {
  if constexpr (std::is_invocable_v<F&, ComputeContext&>) {
    return factory(context);
  } else {
    return factory();
  }
}
template <typename F>
using FactoryInner = typename Result<decltype(CallFactory(std::declval<F&>(),
                                                          std::declval<ComputeContext&>()))>::Inner;
// T of a factory that returns T, std::optional<T>, or absl::StatusOr of either.
template <typename F>
using FactoryValue = NullableValue<FactoryInner<F>>;

// What it makes; what it throws as a status.
template <typename F>
absl::StatusOr<FactoryInner<F>> RunFactory(F& factory, ComputeContext& context) {
  try {
    return CallFactory(factory, context);
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("the factory threw: ") + error.what());
  } catch (...) {
    return absl::InternalError("the factory threw something that is no std::exception");
  }
}

template <typename Codec, typename T>
absl::StatusOr<std::string> EncodeWith(const Codec& codec, const T& value) {
  std::string bytes;
  absl::Status encoded;
  if constexpr (std::is_convertible_v<const T&, std::string_view> &&
                !std::is_same_v<T, std::string>) {
    encoded = codec.Encode(std::string(std::string_view(value)), bytes);
  } else {
    encoded = codec.Encode(value, bytes);
  }
  if (!encoded.ok()) return encoded;
  return bytes;
}

template <typename Codec, typename T>
absl::StatusOr<std::optional<std::string>> EncodeNullable(const Codec& codec, const T& value) {
  if constexpr (std::is_same_v<T, std::nullopt_t> || std::is_same_v<T, std::nullptr_t>) {
    return std::optional<std::string>();
  } else if constexpr (requires { typename T::value_type; } &&
                       std::is_same_v<T, std::optional<NullableValue<T>>>) {
    if (!value.has_value()) return std::optional<std::string>();
    return EncodeNullable(codec, *value);
  } else {
    absl::StatusOr<std::string> bytes = EncodeWith(codec, value);
    if (!bytes.ok()) return bytes.status();
    return std::optional<std::string>(*std::move(bytes));
  }
}

template <typename Codec, typename T>
absl::StatusOr<std::optional<std::string>> EncodeMade(const Codec& codec,
                                                      const absl::StatusOr<T>& made) {
  if (!made.ok()) return made.status();
  return EncodeNullable(codec, *made);
}

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_FACTORY_RESULT_H_
