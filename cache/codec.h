// How values become bytes and come back.
//
// A codec is a type with
//
//   template <typename T> absl::Status Encode(const T& value, std::string& out) const;   // appends
//   template <typename T> absl::StatusOr<T> Decode(std::string_view bytes) const;
//   static bool IsNull(std::string_view bytes);  // whether they are this codec's word for "none"
//
// which throws nothing; what cannot be encoded is kInvalidArgument and leaves `out` as it was, what
// cannot be decoded kDataLoss. None of those here can run code that stands in the bytes, and all
// bound depth and size. They hold no state, so they are thread-safe.
#ifndef COORD_CACHE_CODEC_H_
#define COORD_CACHE_CODEC_H_

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/signing.h"

namespace coord {

// What Cache asks of a codec for values of type T.
template <typename C, typename T>
concept CodecFor = requires(const C& codec, const T& value, std::string& out,
                            std::string_view bytes) {
  { codec.Encode(value, out) } -> std::same_as<absl::Status>;
  { codec.template Decode<T>(bytes) } -> std::same_as<absl::StatusOr<T>>;
  { C::IsNull(bytes) } -> std::same_as<bool>;
};

// Bytes that a codec takes or makes. A JSON or MessagePack value may take some 80 times as much
// memory while it is decoded (many empty containers).
inline constexpr std::size_t kMaxCodecBytes = std::size_t{64} << 20;
// Containers inside each other, for JSON and MessagePack.
inline constexpr std::size_t kMaxCodecDepth = 128;

namespace internal {

// Append; kInvalidArgument for what would not come back: text that is no UTF-8, too deep, too
// large; in JSON also numbers that are not finite, and binary values.
absl::Status EncodeJson(const nlohmann::json& json, std::string& out);
absl::Status EncodeMessagePack(const nlohmann::json& json, std::string& out);
absl::StatusOr<nlohmann::json> DecodeJson(std::string_view bytes);
absl::StatusOr<nlohmann::json> DecodeMessagePack(std::string_view bytes);
bool IsJsonNull(std::string_view bytes);

absl::Status NotEncodable(std::string_view why);
absl::Status NotDecodable(std::string_view why);

template <typename T>
concept WholeNumber = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> &&
                      !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> &&
                      !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

// Through the user's to_json, which may throw.
template <typename T, typename Write>
absl::Status EncodeThroughJson(const T& value, std::string& out, Write write) {
  const std::size_t before = out.size();
  try {
    if constexpr (std::is_same_v<T, nlohmann::json>) {
      return write(value, out);  // not copied: a copy recurses, however deep it goes
    } else {
      const nlohmann::json json(value);
      return write(json, out);
    }
  } catch (const std::exception& error) {
    out.resize(before);
    return NotEncodable(error.what());
  } catch (...) {
    out.resize(before);
    return NotEncodable("to_json threw");
  }
}

// Through the user's from_json, which may throw. Whole numbers must fit, which nlohmann's own
// conversion does not ask.
template <typename T>
absl::StatusOr<T> DecodeThroughJson(absl::StatusOr<nlohmann::json> json) {
  if (!json.ok()) return json.status();
  try {
    if constexpr (std::is_same_v<T, nlohmann::json>) {
      return *std::move(json);
    } else if constexpr (WholeNumber<T>) {
      if (json->is_number_unsigned()) {
        const auto number = json->template get<std::uint64_t>();
        if (std::in_range<T>(number)) return static_cast<T>(number);
      } else if (json->is_number_integer()) {
        const auto number = json->template get<std::int64_t>();
        if (std::in_range<T>(number)) return static_cast<T>(number);
      }
      return NotDecodable("no whole number of the type's range");
    } else {
      return json->template get<T>();
    }
  } catch (const std::exception& error) {
    return NotDecodable(error.what());
  } catch (...) {
    return NotDecodable("from_json threw");
  }
}

}  // namespace internal

// Any type with nlohmann's to_json and from_json. Stored as JSON text, which other programs and the
// scripts for compare-and-set can read. Strict RFC 8259; of a name that occurs twice, the last.
struct JsonCodec {
  template <typename T>
  absl::Status Encode(const T& value, std::string& out) const {
    return internal::EncodeThroughJson(value, out, internal::EncodeJson);
  }
  template <typename T>
  absl::StatusOr<T> Decode(std::string_view bytes) const {
    return internal::DecodeThroughJson<T>(internal::DecodeJson(bytes));
  }
  static bool IsNull(std::string_view bytes) { return internal::IsJsonNull(bytes); }
};

// The same types, as MessagePack: smaller, and quicker to read. Numbers that are not finite can be
// stored, binary values too.
struct MessagePackCodec {
  template <typename T>
  absl::Status Encode(const T& value, std::string& out) const {
    return internal::EncodeThroughJson(value, out, internal::EncodeMessagePack);
  }
  template <typename T>
  absl::StatusOr<T> Decode(std::string_view bytes) const {
    return internal::DecodeThroughJson<T>(internal::DecodeMessagePack(bytes));
  }
  static bool IsNull(std::string_view bytes) { return bytes == "\xc0"; }
};

// Messages of Protocol Buffers, and anything else with SerializeToString and ParseFromString.
// Required fields must be there, both ways. Protobuf itself reads messages at most 100 deep, and
// writes but does not read strings that are no UTF-8: those are kDataLoss when they come back.
struct ProtobufCodec {
  template <typename T>
  absl::Status Encode(const T& value, std::string& out) const {
    const std::size_t before = out.size();
    try {
      // Asked beforehand, since protobuf writes to stderr what it does not like.
      if constexpr (requires { value.IsInitialized(); }) {
        if (!value.IsInitialized()) return internal::NotEncodable("a required field is missing");
      }
      if constexpr (requires { value.ByteSizeLong(); }) {
        if (value.ByteSizeLong() > kMaxCodecBytes) return internal::NotEncodable("it is too large");
      }
      bool done = false;
      if constexpr (requires { value.AppendToString(&out); }) {
        done = value.AppendToString(&out);
      } else {
        std::string bytes;
        done = value.SerializeToString(&bytes);
        if (done) out += bytes;
      }
      if (done && out.size() - before <= kMaxCodecBytes) return absl::OkStatus();
      out.resize(before);
      return internal::NotEncodable(done ? "it is too large" : "SerializeToString failed");
    } catch (...) {
      out.resize(before);
      return internal::NotEncodable("SerializeToString threw");
    }
  }
  template <typename T>
  absl::StatusOr<T> Decode(std::string_view bytes) const {
    if (bytes.size() > kMaxCodecBytes) return internal::NotDecodable("it is too large");
    try {
      T value;
      bool done = false;
      if constexpr (requires { value.ParsePartialFromArray(bytes.data(), 0); }) {
        done = value.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size()));
        if (done && !value.IsInitialized()) {
          return internal::NotDecodable("a required field is missing");
        }
      } else {
        done = value.ParseFromString(std::string(bytes));
      }
      if (!done) return internal::NotDecodable("no message of this type");
      return value;
    } catch (...) {
      return internal::NotDecodable("ParseFromString threw");
    }
  }
  static bool IsNull(std::string_view) { return false; }
};

// std::string and std::string_view as they are; integers, doubles and bool (0 or 1) as their
// decimal text, the shortest that comes back as the same number; not-a-number and infinities are
// refused. A std::string_view and a literal can only be encoded.
struct RawCodec {
  template <typename T>
  requires std::convertible_to<const T&, std::string_view> || internal::WholeNumber<T> ||
      std::floating_point<T> || std::same_as<T, bool>
          absl::Status Encode(const T& value, std::string& out)
  const {
    if constexpr (std::is_same_v<T, bool>) {
      out.push_back(value ? '1' : '0');
    } else if constexpr (std::is_arithmetic_v<T>) {
      if constexpr (std::is_floating_point_v<T>) {
        if (!std::isfinite(value)) return internal::NotEncodable("the number is not finite");
      }
      char digits[64];
      const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
      if (error != std::errc()) return internal::NotEncodable("the number is too long");
      out.append(digits, static_cast<std::size_t>(end - digits));
    } else {
      if constexpr (std::is_pointer_v<T>) {
        if (value == nullptr) return internal::NotEncodable("a null pointer is no text");
      }
      out += std::string_view(value);
    }
    return absl::OkStatus();
  }
  template <typename T>
  requires std::same_as<T, std::string> || internal::WholeNumber<T> || std::floating_point<T> ||
      std::same_as<T, bool>
          absl::StatusOr<T> Decode(std::string_view bytes)
  const {
    if constexpr (std::is_same_v<T, std::string>) {
      return std::string(bytes);
    } else if constexpr (std::is_same_v<T, bool>) {
      if (bytes != "0" && bytes != "1") return internal::NotDecodable("neither 0 nor 1");
      return bytes == "1";
    } else {
      T value{};
      const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), value);
      if (error != std::errc() || end != bytes.data() + bytes.size()) {
        return internal::NotDecodable("no number of the type's range");
      }
      if constexpr (std::is_floating_point_v<T>) {
        if (!std::isfinite(value)) return internal::NotDecodable("the number is not finite");
      }
      return value;
    }
  }
  static bool IsNull(std::string_view) { return false; }
};

// Another codec's bytes, signed; see signing.h. The codes are made and taken off by Cache, which
// knows the key: Encode and Decode are the other codec's.
template <typename Codec>
class Signed : public Codec {
 public:
  explicit Signed(std::vector<SigningKey> keys, Codec codec = {})
      : Codec(std::move(codec)), signer_(std::make_shared<const Signer>(std::move(keys))) {}

  const std::shared_ptr<const Signer>& signer() const { return signer_; }

 private:
  std::shared_ptr<const Signer> signer_;
};

}  // namespace coord

#endif  // COORD_CACHE_CODEC_H_
