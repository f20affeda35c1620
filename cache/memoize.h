// A function whose results are cached.
//
//   User LoadUser(int id);
//   auto get_user = coord::Memoize(cache, LoadUser, {.key = "user:{0}", .ttl = absl::Hours(1)});
//   absl::StatusOr<User> user = get_user(7);   // "user:7"
//   absl::Status forgotten = get_user.Invalidate(7);
#ifndef COORD_CACHE_MEMOIZE_H_
#define COORD_CACHE_MEMOIZE_H_

#include <concepts>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/internal/factory_result.h"
#include "cache/key_builder.h"
#include "coord/errors.h"

namespace coord {

// Which key a call has: a template ("user:{0}:{1}", see KeyTemplate), which names every argument,
// or a callable that makes one of the arguments. In a template strings stand as they are (escaped),
// integers in decimal, bool as true and false, everything else as a hash of its canonical JSON.
template <typename... Args>
class MemoKey {
 public:
  using Make = std::function<std::string(const Args&...)>;

  MemoKey() = default;
  template <typename K>
  requires(!std::same_as<std::remove_cvref_t<K>, MemoKey>) MemoKey(K&& key) {  // NOLINT
    if constexpr (std::is_convertible_v<K, std::string_view>) {
      text_ = std::string(std::string_view(key));
    } else {
      make_ = std::forward<K>(key);
    }
  }
  const std::optional<std::string>& text() const { return text_; }
  const Make& make() const { return make_; }

 private:
  std::optional<std::string> text_;
  Make make_;
};

// How long a result is kept: one time to live for all, or a callable that says it of the arguments.
template <typename... Args>
class MemoTtl {
 public:
  using Make = std::function<coord::Ttl(const Args&...)>;

  MemoTtl() = default;  // the cache's default
  template <typename T>
  requires(!std::same_as<std::remove_cvref_t<T>, MemoTtl>) MemoTtl(T&& ttl) {  // NOLINT
    if constexpr (std::is_convertible_v<T, coord::Ttl>) {
      fixed_ = std::forward<T>(ttl);
    } else {
      make_ = std::forward<T>(ttl);
    }
  }
  coord::Ttl For(const Args&... args) const { return make_ ? make_(args...) : fixed_; }

 private:
  coord::Ttl fixed_;
  Make make_;
};

enum class OnCacheError {
  kRaise,    // it is the call's error
  kExecute,  // the cache is passed by: the function runs, and its result is returned
};

// `Args`: the types of the function's parameters, without references; std::string for views.
template <typename... Args>
struct MemoizeOptions {
  MemoKey<Args...> key = {};
  MemoTtl<Args...> ttl = {};
  // True: the function runs and its result is stored, whatever is cached.
  std::function<bool(const Args&...)> bypass = {};
  OnCacheError on_error = OnCacheError::kRaise;
  std::vector<std::string> tags = {};
  // Everything else that GetOrCompute can be told; its ttl and tags are not used. By default the
  // cache's own.
  std::optional<ComputeOptions> compute = std::nullopt;
};

namespace internal {

template <typename A>
using OwnedArg =
    std::conditional_t<std::is_convertible_v<const std::remove_cvref_t<A>&, std::string_view>,
                       std::string, std::remove_cvref_t<A>>;

template <typename Signature>
struct MemoSignature;
template <typename R, typename... A>
struct MemoSignature<std::function<R(A...)>> {
  static_assert(!(std::is_pointer_v<std::remove_cvref_t<A>> || ...),
                "what a pointer points to is no part of a key: make it a value");
  using Inner = typename Result<R>::Inner;
  using Value = NullableValue<Inner>;
  static constexpr bool kNullable = requires {
    requires std::same_as<Inner, std::optional<Value>>;
  };
  using Returned = std::conditional_t<kNullable, std::optional<Value>, Value>;
  using Options = MemoizeOptions<OwnedArg<A>...>;
};
template <typename F>
using MemoSignatureOf = MemoSignature<decltype(std::function{std::declval<F>()})>;

template <typename A>
absl::StatusOr<std::string> MemoText(const A& arg) {
  if constexpr (std::is_same_v<A, std::string>) {
    return arg;
  } else if constexpr (std::is_same_v<A, bool>) {
    return std::string(arg ? "true" : "false");
  } else if constexpr (std::is_integral_v<A>) {
    return std::to_string(arg);
  } else {
    absl::StatusOr<std::string> key = KeyBuilder("memo").Build("argument", nlohmann::json(arg));
    if (!key.ok()) return key.status();
    return key->substr(key->rfind(':') + 1);
  }
}

// What a callable of the user's returns; what it throws as a status.
template <typename F>
auto Guarded(std::string_view what, F call) -> absl::StatusOr<decltype(call())> {
  try {
    return call();
  } catch (const std::exception& error) {
    return absl::InternalError(std::string(what).append(" threw: ").append(error.what()));
  } catch (...) {
    return absl::InternalError(std::string(what).append(" threw something"));
  }
}

}  // namespace internal

template <typename C, typename F, typename Options>
class Memoized;

// Thread-safe as far as the function and the options' callables are, and cheap to copy. Calls with
// the same key share one run of the function, as GetOrCompute says it; with timeouts it may run on
// another thread, after the call has returned, and has arguments of its own then.
template <typename C, typename F, typename... Args>
class Memoized<C, F, MemoizeOptions<Args...>> {
  using Signature = internal::MemoSignatureOf<F>;

 public:
  using Options = MemoizeOptions<Args...>;
  // T of a function that returns T or StatusOr<T>; std::optional<T>, whose absence is cached too,
  // where it returns that.
  using Value = typename Signature::Returned;

  Memoized(C cache, F fn, Options options)
      : cache_(std::move(cache)),
        shared_(std::make_shared<const Shared>(std::move(fn), std::move(options))) {}

  // The function's error, also what it throws (kInternal), is the call's; that of the cache as
  // OnCacheError says. A template that does not fit the arguments is kInvalidArgument.
  absl::StatusOr<Value> operator()(const Args&... args) const {
    const auto bypass = internal::Guarded(
        "bypass", [&] { return shared_->options.bypass && shared_->options.bypass(args...); });
    if (!bypass.ok()) return bypass.status();
    return Call(*bypass, args...);
  }
  // Runs the function now, whatever is cached, and stores its result.
  absl::StatusOr<Value> Refresh(const Args&... args) const { return Call(true, args...); }
  absl::Status Invalidate(const Args&... args) const {
    const absl::StatusOr<std::string> key = KeyFor(args...);
    return key.ok() ? cache_.Delete(*key).status() : key.status();
  }
  // Without the cache's prefix.
  absl::StatusOr<std::string> KeyFor(const Args&... args) const {
    if (const auto& make = shared_->options.key.make(); make) {
      return internal::Guarded("the key's callable", [&] { return make(args...); });
    }
    if (!shared_->key.ok()) return shared_->key.status();
    std::vector<std::string> texts;
    for (absl::StatusOr<std::string>& text :
         std::vector<absl::StatusOr<std::string>>{internal::MemoText(args)...}) {
      if (!text.ok()) return text.status();
      texts.push_back(*std::move(text));
    }
    return shared_->key->Expand(texts);
  }

 private:
  struct Shared {
    Shared(F f, Options o)
        : fn(std::move(f)),
          options(std::move(o)),
          key(options.key.text() ? KeyTemplate::Parse(*options.key.text())
                                 : absl::InvalidArgumentError("a memoized function needs a key")) {}
    F fn;
    Options options;
    absl::StatusOr<KeyTemplate> key;
  };

  absl::StatusOr<Value> Call(bool anew, const Args&... args) const {
    const absl::StatusOr<std::string> key = KeyFor(args...);
    if (!key.ok()) return key.status();
    ComputeOptions options = shared_->options.compute.value_or(cache_.options().compute);
    const auto ttl = internal::Guarded("ttl", [&] { return shared_->options.ttl.For(args...); });
    if (!ttl.ok()) return ttl.status();
    options.ttl = *ttl;
    options.tags = shared_->options.tags;
    const auto run = [shared = shared_, own = std::tuple<Args...>(args...)] {
      return std::apply([&](const Args&... each) { return std::invoke(shared->fn, each...); }, own);
    };
    auto found =
        anew ? cache_.Refresh(*key, run, options) : cache_.GetOrCompute(*key, run, options);
    if (found.ok()) return Taken(*std::move(found));
    if (!PassedBy(found.status())) return found.status();
    ComputeContext context;
    auto direct = internal::RunFactory(run, context);
    if (!direct.ok()) return direct.status();
    return Value(*std::move(direct));
  }

  static absl::StatusOr<Value> Taken(Lookup<typename Signature::Value> found) {
    if (found.hit()) return Value(*std::move(found));
    // Its null is a value of its own.
    if constexpr (Signature::kNullable || std::same_as<Value, nlohmann::json>) return Value();
    return absl::NotFoundError("the result is cached as a null, which this type has not");
  }

  // A result that took too long, or that nobody wants any more, is no fault of the cache's.
  bool PassedBy(const absl::Status& error) const {
    return shared_->options.on_error == OnCacheError::kExecute &&
           !error.GetPayload(internal::kFromFactory).has_value() &&
           (error.code() != absl::StatusCode::kDeadlineExceeded || IsOutcomeUnknown(error)) &&
           error.code() != absl::StatusCode::kCancelled;
  }

  C cache_;
  std::shared_ptr<const Shared> shared_;
};

// Any function or callable with one signature, whose parameters are values, or references to what
// can be copied. It is called as const, from many threads.
template <typename Codec, typename F>
auto Memoize(BasicCache<Codec> cache, F fn,
             typename internal::MemoSignatureOf<F>::Options options) {
  return Memoized<BasicCache<Codec>, F, typename internal::MemoSignatureOf<F>::Options>(
      std::move(cache), std::move(fn), std::move(options));
}

}  // namespace coord

#endif  // COORD_CACHE_MEMOIZE_H_
