// Keys that are the same in every process, build and version: of arguments, and of templates.
//
//   coord::KeyBuilder keys("prod");
//   keys.Build("llm:response", {{"model", "m1"}, {"prompt", text}});  //
//   "prod:llm:response:5f1c..."
//
//   absl::StatusOr<coord::KeyTemplate> user = coord::KeyTemplate::Parse("user:{id}:{lang}");
//   user->Expand({"7", "en"});  // "user:7:en"
#ifndef COORD_CACHE_KEY_BUILDER_H_
#define COORD_CACHE_KEY_BUILDER_H_

#include <array>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace coord {

// `json` as the one text that all equal values have: RFC 8785, no blanks, short escapes, names in
// order, numbers as short as comes back as the same double. Other than there
// - names are in the order of their bytes, which differs beyond U+FFFF only;
// - whole numbers up to 64 bits are written exactly, where the RFC rounds those above 2^53, so that
//   two ids never become one; a double that is whole is written as that number.
// 1, 1.0 and 1e0 are one number; 1 and "1" are not. Text is not normalised: "e" with a combining
// accent is not "é". Numbers beyond 64 bits have become doubles before they come here.
// kInvalidArgument: numbers that are not finite, text that is no UTF-8, binary values, deeper than
// 128.
absl::StatusOr<std::string> CanonicalJson(const nlohmann::json& json);

// Thread-safe.
class KeyBuilder {
 public:
  struct Options {
    // Arguments whose canonical text has no more bytes than this stand in the key themselves,
    // percent-encoded where need be, so that people can read it; longer ones as a hash. A change
    // changes keys.
    std::size_t clear_bytes = 0;
  };

  // The namespace is 1 to 128 bytes; a ':' or other special byte in it is percent-encoded.
  explicit KeyBuilder(std::string ns) : KeyBuilder(std::move(ns), Options{}) {}
  KeyBuilder(std::string ns, Options options);

  // "<namespace>:<name>:<hash>": 128 bits of SHA-256 over the canonical JSON of namespace, name and
  // arguments together, in hex. The name is 1 to 512 bytes and stands there as it is. Different
  // triples have different keys, even if "a" and "b:c" reads as "a:b" and "c". kInvalidArgument:
  // what CanonicalJson refuses, and names and namespaces that break the rules.
  absl::StatusOr<std::string> Build(std::string_view name, const nlohmann::json& arguments) const;
  // The same from JSON text: strict, no name twice in one object, at most 16 MiB.
  absl::StatusOr<std::string> BuildFromText(std::string_view name,
                                            std::string_view arguments) const;

 private:
  std::string namespace_;
  Options options_;
};

// "user:{id}:{lang}", with names (letters, digits, '_'; no digit in front), with positions
// ("{0}:{1}") or with neither ("{}:{}"), not mixed. "{{" and "}}" stand for braces.
//
// Expansions of one template with different values are different: in a value control characters,
// blanks, '%', ':', '{', '}', '*', '?', '[', ']', '\' and whatever separates two placeholders of
// this template are written as %XX. Thread-safe.
class KeyTemplate {
 public:
  // kInvalidArgument, with the place: unbalanced braces, no name, mixed kinds, a position left out
  // (its value would not count), two placeholders with nothing between them but letters, digits and
  // '%', more than 512 bytes or 32 placeholders.
  static absl::StatusOr<KeyTemplate> Parse(std::string_view text);

  // What Expand expects, in order: the names as they first occur, or "0", "1", ...
  const std::vector<std::string>& names() const { return names_; }

  // One value for each of names(), in that order. kInvalidArgument: another number of values, a key
  // of no bytes or more than 1,024.
  absl::StatusOr<std::string> Expand(std::span<const std::string> values) const;
  absl::StatusOr<std::string> Expand(std::initializer_list<std::string_view> values) const;
  // By name, in any order. Also kInvalidArgument: a name that is missing, unknown, or there twice.
  using Named = std::pair<std::string_view, std::string_view>;
  absl::StatusOr<std::string> ExpandNamed(std::span<const Named> values) const;
  absl::StatusOr<std::string> ExpandNamed(std::initializer_list<Named> values) const;

 private:
  struct Piece {
    std::string literal;    // what stands before the placeholder
    std::size_t value = 0;  // an index into names_
  };

  KeyTemplate();
  absl::Status Separate();
  absl::StatusOr<std::string> Fill(std::span<const std::string_view> values) const;

  std::vector<Piece> pieces_;
  std::string tail_;
  std::vector<std::string> names_;
  std::array<bool, 256> escaped_ = {};
};

}  // namespace coord

#endif  // COORD_CACHE_KEY_BUILDER_H_
